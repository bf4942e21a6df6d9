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

/// Types that this engine can replicate, the formats of their backups, and an example.
const TYPES_WITH_BACKUP: &[(&str, &[&str], &str)] = &[
    (
        "pg",
        &["pgbackrest", "pghoard"],
        "{ format = \"pgbackrest\", stanza = \"main\", path = \"pgbackrest\" }",
    ),
    ("mysql", &["stream", "myhoard"], "{ format = \"stream\", path = \"mysql/orders\" }"),
];

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

    /// PGHoard's and MyHoard's objects are nothing without their user metadata, which directories keep
    /// only when they are told to.
    fn sites(&mut self, services: &[ServiceSettings], regions: &[RegionTable]) {
        let is_site = |service: &&ServiceSettings| {
            service.backup.as_ref().is_some_and(|backup| match backup.primary.format {
                BackupFormat::PgHoard | BackupFormat::MyHoard { .. } => true,
                BackupFormat::PgBackRest { .. } | BackupFormat::Stream => false,
            })
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
                    "the objects of {}'s backups have user metadata, and this directory does not \
                     keep any; add store_options = {{ sidecars = true }}",
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
        let replicable = TYPES_WITH_BACKUP.iter().find(|(name, _, _)| *name == service_type);
        let backup = match (&written.backup, replicable) {
            (Some(backup), Some((_, formats, _))) => {
                let format = backup.format.get_ref().as_str();
                let is_other = TYPES_WITH_BACKUP.iter().any(|(_, of, _)| of.contains(&format));
                if is_other && !formats.contains(&format) {
                    let what = format!(
                        "no backup of a service of type {service_type} has the format \
                         `{format}`; use one of: {}",
                        formats.join(", ")
                    );
                    self.mistake(backup.format.span().start, what);
                    return None;
                }
                Some(self.backup(&id, backup)?)
            }
            (Some(_), None) => {
                let what = format!(
                    "this engine replicates backups of services of the types pg and mysql only; \
                     remove `backup` from the service of type {service_type}"
                );
                self.mistake(at, what);
                None
            }
            (None, Some((_, _, example))) => {
                let what = format!(
                    "a service of type {service_type} needs a `backup`, such as backup = {example}"
                );
                self.mistake(at, what);
                None
            }
            (None, None) => None,
        };
        let copy_retention = written.copy_retention.as_ref().map(|table| self.retention(table));
        let (cloud, plan) = (cloud?, written.plan.clone());
        Some(ServiceSettings { id, service_type, cloud, plan, backup, copy_retention })
    }

    fn backup(&mut self, id: &ServiceId, written: &BackupTable) -> Option<BackupSettings> {
        let format = self.format(written)?;
        if let (Some(key), false) =
            (&written.private_key, matches!(format, BackupFormat::MyHoard { .. }))
        {
            let what = "private_key is for MyHoard, whose objects do not name their key; remove it";
            self.mistake(key.span().start, what.to_owned());
        }
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
            ("myhoard", None) => {
                let key_id = written.private_key.as_ref().map(|key| key.get_ref().clone());
                Some(BackupFormat::MyHoard { key_id })
            }
            ("stream", None) => Some(BackupFormat::Stream),
            ("pghoard" | "myhoard" | "stream", Some(stanza)) => {
                let what = "only pgBackRest has stanzas: path is the prefix of everything; remove \
                            `stanza`";
                self.mistake(stanza.span().start, what.to_owned());
                None
            }
            (format, _) => {
                let what = format!(
                    "`{format}` is no backup format of this engine; use \"pgbackrest\" or \
                     \"pghoard\" for PostgreSQL, \"stream\" or \"myhoard\" for MySQL and MariaDB"
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
