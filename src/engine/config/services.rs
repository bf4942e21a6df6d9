//! The services of a configuration.

use crate::{
    domain::{
        cloud::{Cloud, CloudName},
        ids::{ProjectName, ServiceId, ServiceName},
    },
    engine::config::{
        BackupSettings, ServiceSettings,
        check::Checker,
        file::{BackupTable, RegionTable, ServiceTable},
    },
    layout::{BackupFormat, BackupPlace},
    store::key::Key,
};
use std::collections::BTreeMap;
use toml::Spanned;

/// Types that this engine can replicate.
const TYPES_WITH_BACKUP: &[&str] = &["pg"];

impl Checker<'_> {
    pub(super) fn services(
        &mut self,
        written: &[ServiceTable],
        regions: &[RegionTable],
    ) -> Vec<ServiceSettings> {
        let mut services: Vec<ServiceSettings> = Vec::new();
        let mut taken: BTreeMap<ServiceId, ()> = BTreeMap::new();
        for service in written {
            let Some(checked) = self.service(service, regions) else { continue };
            if taken.insert(checked.id.clone(), ()).is_some() {
                let what = format!("service {} is there twice; remove one", checked.id);
                self.mistake(service.name.span().start, what);
                continue;
            }
            services.push(checked);
        }
        self.places(&services, written);
        self.sites(&services, regions);
        services
    }

    /// PGHoard's objects are nothing without their user metadata, which directories keep only when
    /// they are told to.
    fn sites(&mut self, services: &[ServiceSettings], regions: &[RegionTable]) {
        let is_site = |service: &&ServiceSettings| {
            let place = service.backup.as_ref().map(|backup| &backup.primary.format);
            place == Some(&BackupFormat::PgHoard)
        };
        let Some(site) = services.iter().find(is_site) else { return };
        let provider = Cloud::from_name(site.cloud.clone()).provider;
        for region in regions {
            let options = region.store_options.as_ref().map(Spanned::get_ref);
            let other = CloudName::parse(region.cloud.get_ref())
                .is_ok_and(|name| Cloud::from_name(name).provider != provider);
            let plain = region.store.get_ref().starts_with("file:")
                && !options.is_some_and(|options| options.sidecars);
            if plain && !other {
                let what = format!(
                    "the backups of {} are PGHoard's, whose objects have user metadata, and this \
                     directory does not keep any; add store_options = {{ sidecars = true }}",
                    site.id
                );
                self.mistake(region.store.span().start, what);
            }
        }
    }

    /// Two services may not have their backups in one place: each would take the other's for its own.
    fn places(&mut self, services: &[ServiceSettings], written: &[ServiceTable]) {
        let mut taken: BTreeMap<String, &ServiceId> = BTreeMap::new();
        for service in services {
            let Some(backup) = &service.backup else { continue };
            let place = format!("{:?} {:?}", service.cloud, backup.primary);
            if let Some(other) = taken.insert(place, &service.id) {
                let what = format!("{} and {other} have the same backups; correct one", service.id);
                let table = written.iter().find(|table| {
                    table.name.get_ref() == service.id.service.as_str()
                        && table.project.get_ref() == service.id.project.as_str()
                });
                self.mistake(table.map_or(0, |table| table.name.span().start), what);
            }
        }
    }

    fn service(
        &mut self,
        written: &ServiceTable,
        regions: &[RegionTable],
    ) -> Option<ServiceSettings> {
        let project = self
            .violation(written.project.span().start, ProjectName::parse(written.project.get_ref()));
        let name =
            self.violation(written.name.span().start, ServiceName::parse(written.name.get_ref()));
        let at = written.cloud.span().start;
        let cloud = self.violation(at, CloudName::parse(written.cloud.get_ref()));
        let known = regions.iter().any(|r| r.cloud.get_ref() == written.cloud.get_ref());
        if cloud.is_some() && !known {
            let what = format!(
                "cloud {} is none of the regions; add a [[region]] with its store",
                written.cloud.get_ref()
            );
            self.mistake(at, what);
        }
        let id = ServiceId { project: project?, service: name? };
        let service_type = written.service_type.get_ref().clone();
        let at = written.service_type.span().start;
        let replicable = TYPES_WITH_BACKUP.contains(&service_type.as_str());
        let backup = match &written.backup {
            Some(backup) if replicable => Some(self.backup(&id, backup)?),
            Some(_) => {
                let what = format!(
                    "this engine replicates backups of services of type pg only; remove `backup` \
                     from the service of type {service_type}"
                );
                self.mistake(at, what);
                None
            }
            None if replicable => {
                let what = "a service of type pg needs a `backup`, such as backup = { format = \
                            \"pgbackrest\", stanza = \"main\", path = \"pgbackrest\" }";
                self.mistake(at, what.to_owned());
                None
            }
            None => None,
        };
        let copy_retention = written.copy_retention.as_ref().map(|table| self.retention(table));
        let (cloud, plan) = (cloud?, written.plan.clone());
        Some(ServiceSettings { id, service_type, cloud, plan, backup, copy_retention })
    }

    fn backup(&mut self, id: &ServiceId, written: &BackupTable) -> Option<BackupSettings> {
        let format = self.format(written)?;
        let primary = self.prefix(&written.path)?;
        let copy = match &written.copy_path {
            Some(path) => self.prefix(path)?,
            None => Key::parse(&id.to_string()).ok()?,
        };
        Some(BackupSettings {
            primary: BackupPlace { format: format.clone(), prefix: primary },
            copy: BackupPlace { format, prefix: copy },
        })
    }

    fn format(&mut self, written: &BackupTable) -> Option<BackupFormat> {
        let at = written.format.span().start;
        match (written.format.get_ref().as_str(), &written.stanza) {
            ("pgbackrest", Some(stanza)) => {
                let plain = |text: &str| !text.is_empty() && !text.contains('/');
                if !plain(stanza.get_ref()) || Key::parse(stanza.get_ref()).is_err() {
                    let what = format!("`{}` is not the name of a stanza", stanza.get_ref());
                    self.mistake(stanza.span().start, what);
                }
                Some(BackupFormat::PgBackRest { stanza: stanza.get_ref().clone() })
            }
            ("pgbackrest", None) => {
                let what = "the format pgbackrest needs the name of the stanza: stanza = \"main\"";
                self.mistake(at, what.to_owned());
                None
            }
            ("pghoard", None) => Some(BackupFormat::PgHoard),
            ("pghoard", Some(stanza)) => {
                let what =
                    "PGHoard has no stanzas: path is the prefix of the site; remove `stanza`";
                self.mistake(stanza.span().start, what.to_owned());
                None
            }
            (format, _) => {
                let what = format!(
                    "`{format}` is no backup format of this engine; use \"pgbackrest\" or \
                     \"pghoard\""
                );
                self.mistake(at, what);
                None
            }
        }
    }

    fn prefix(&mut self, written: &Spanned<String>) -> Option<Key> {
        let path = written.get_ref().trim_matches('/');
        let parsed = Key::parse(path);
        parsed.map_err(|error| self.mistake(written.span().start, error.to_string())).ok()
    }
}
