//! From the written configuration to the checked one; every mistake with its line and remedy.

use crate::{
    domain::{
        cloud::{Cloud, CloudName, CloudProvider},
        ids::{ProjectName, ServiceId, ServiceName},
        violation::Violation,
    },
    engine::config::{
        BackupSettings, ConfigError, ForkSettings, Mistake, Region, ServiceSettings, Settings,
        Token,
        file::{BackupTable, File, ForksTable, RegionTable, ServiceTable, TokenTable},
        units,
    },
    layout::{BackupFormat, BackupPlace},
    store::{self, key::Key},
};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};
use toml::Spanned;

/// Unix sockets of forks lie below the data directory, and their paths may have 107 bytes.
const DATA_DIR_LENGTH_MAX: usize = 75;
const POLL_INTERVAL: Duration = Duration::from_secs(2);
const FULL_SCAN_INTERVAL: Duration = Duration::from_secs(15 * 60);
/// Types that this engine can replicate.
const TYPES_WITH_BACKUP: &[&str] = &["pg"];

pub(super) fn check(file: &Path, text: &str) -> Result<Settings, ConfigError> {
    let mut checker = Checker { file, text, mistakes: Vec::new() };
    let written: File = match toml::from_str(text) {
        Ok(written) => written,
        Err(error) => {
            let at = error.span().map_or(0, |span| span.start);
            checker.mistake(at, error.message().to_owned());
            return Err(ConfigError::Mistakes(checker.mistakes));
        }
    };
    let at = written.engine.span().start;
    let engine = written.engine.into_inner();
    let settings = Settings {
        listen: checker.listen(&engine.listen),
        data_dir: checker.data_dir(&engine.data_dir),
        poll_interval: checker.period(engine.poll_interval.as_ref(), POLL_INTERVAL),
        full_scan_interval: checker.period(engine.full_scan_interval.as_ref(), FULL_SCAN_INTERVAL),
        user: engine.user.unwrap_or_else(|| "postgres".to_owned()),
        tokens: checker.tokens(at, &written.token),
        regions: checker.regions(&written.region),
        services: checker.services(&written.service, &written.region),
        forks: checker.forks(written.forks),
    };
    if checker.mistakes.is_empty() {
        Ok(settings)
    } else {
        checker.mistakes.sort_by_key(|mistake| mistake.line);
        Err(ConfigError::Mistakes(checker.mistakes))
    }
}

struct Checker<'a> {
    file: &'a Path,
    text: &'a str,
    mistakes: Vec<Mistake>,
}

impl Checker<'_> {
    fn mistake(&mut self, at: usize, what: String) {
        let before = self.text.get(..at).unwrap_or(self.text);
        let line = 1 + before.bytes().filter(|b| *b == b'\n').count();
        self.mistakes.push(Mistake { file: self.file.to_owned(), line, what });
    }

    fn violation<T>(&mut self, at: usize, checked: Result<T, Violation>) -> Option<T> {
        checked.map_err(|violation| self.mistake(at, violation.explain())).ok()
    }

    fn listen(&mut self, written: &Spanned<String>) -> SocketAddr {
        written.get_ref().parse().unwrap_or_else(|_| {
            let what = format!(
                "`{}` is not an address with a port; write listen = \"127.0.0.1:8787\"",
                written.get_ref()
            );
            self.mistake(written.span().start, what);
            SocketAddr::from(([127, 0, 0, 1], 0))
        })
    }

    fn data_dir(&mut self, written: &Spanned<PathBuf>) -> PathBuf {
        let dir = written.get_ref();
        if !dir.is_absolute() {
            let what = format!(
                "data_dir `{}` is not absolute; write the whole path, such as /var/lib/btar",
                dir.display()
            );
            self.mistake(written.span().start, what);
        } else if dir.as_os_str().len() > DATA_DIR_LENGTH_MAX {
            let what = format!(
                "data_dir has {} characters, more than {DATA_DIR_LENGTH_MAX}: the sockets of forks \
                 lie below it and their paths are limited; use a shorter one",
                dir.as_os_str().len()
            );
            self.mistake(written.span().start, what);
        }
        dir.clone()
    }

    fn period(&mut self, written: Option<&Spanned<String>>, default: Duration) -> Duration {
        let Some(written) = written else { return default };
        units::period(written.get_ref()).unwrap_or_else(|| {
            let what = format!(
                "`{}` is not a period; write a number with ms, s, m or h, such as \"2s\"",
                written.get_ref()
            );
            self.mistake(written.span().start, what);
            default
        })
    }

    fn tokens(&mut self, engine: usize, written: &[TokenTable]) -> Vec<Token> {
        if written.is_empty() {
            let what = "there is no [[token]]: nobody could call the API; add one with `name` and \
                        `sha256` (printf %s \"$TOKEN\" | sha256sum)";
            self.mistake(engine, what.to_owned());
        }
        let mut tokens = Vec::new();
        for token in written {
            match from_hex(token.sha256.get_ref()) {
                Some(sha256) => tokens.push(Token { name: token.name.get_ref().clone(), sha256 }),
                None => self.mistake(
                    token.sha256.span().start,
                    "this is not a SHA-256 of 64 hexadecimal digits; make it with \
                     printf %s \"$TOKEN\" | sha256sum"
                        .to_owned(),
                ),
            }
        }
        tokens
    }

    fn regions(&mut self, written: &[RegionTable]) -> Vec<Region> {
        let mut regions: Vec<Region> = Vec::new();
        for region in written {
            let at = region.cloud.span().start;
            let Some(name) = self.violation(at, CloudName::parse(region.cloud.get_ref())) else {
                continue;
            };
            if regions.iter().any(|other| other.cloud.name == name) {
                self.mistake(at, format!("region {name} is there twice; remove one"));
                continue;
            }
            if let Err(error) = store::open(region.store.get_ref()) {
                self.mistake(region.store.span().start, error.to_string());
            }
            let mut cloud = Cloud::from_name(name);
            if let Some(provider) = &region.provider {
                cloud.provider = Some(CloudProvider::new(provider));
            }
            if cloud.provider.is_none() {
                let what = format!(
                    "the name {} does not tell its cloud provider; add provider = \"aws\" or the \
                     like, since backups stay with one provider",
                    cloud.name
                );
                self.mistake(at, what);
            }
            regions.push(Region { cloud, store: region.store.get_ref().clone() });
        }
        regions
    }

    fn services(
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
        services
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
        Some(ServiceSettings {
            id,
            service_type,
            cloud: cloud?,
            plan: written.plan.clone(),
            backup,
        })
    }

    fn backup(&mut self, id: &ServiceId, written: &BackupTable) -> Option<BackupSettings> {
        let format = written.format.get_ref();
        if format != "pgbackrest" {
            let what = format!("`{format}` is no backup format of this engine; use \"pgbackrest\"");
            self.mistake(written.format.span().start, what);
            return None;
        }
        let Some(stanza) = &written.stanza else {
            let what = "the format pgbackrest needs the name of the stanza: stanza = \"main\"";
            self.mistake(written.format.span().start, what.to_owned());
            return None;
        };
        let plain = |text: &str| !text.is_empty() && !text.contains('/');
        if !plain(stanza.get_ref()) || Key::parse(stanza.get_ref()).is_err() {
            let what = format!("`{}` is not the name of a stanza", stanza.get_ref());
            self.mistake(stanza.span().start, what);
        }
        let format = BackupFormat::PgBackRest { stanza: stanza.get_ref().clone() };
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

    fn prefix(&mut self, written: &Spanned<String>) -> Option<Key> {
        let path = written.get_ref().trim_matches('/');
        let parsed = Key::parse(path);
        parsed.map_err(|error| self.mistake(written.span().start, error.to_string())).ok()
    }

    fn forks(&mut self, written: ForksTable) -> ForkSettings {
        let ports = written.ports.as_ref().map_or(Some((55_000, 55_099)), |ports| {
            let found = units::ports(ports.get_ref());
            if found.is_none() {
                let what = format!(
                    "`{}` is not a range of ports; write ports = \"55000-55099\"",
                    ports.get_ref()
                );
                self.mistake(ports.span().start, what);
            }
            found
        });
        let reserve = written.disk_reserve.as_ref().map_or(Some(1 << 30), |reserve| {
            let found = units::size_bytes(reserve.get_ref());
            if found.is_none() {
                let what =
                    format!("`{}` is not a size; write disk_reserve = \"1GiB\"", reserve.get_ref());
                self.mistake(reserve.span().start, what);
            }
            found
        });
        ForkSettings {
            host: written.host.unwrap_or_else(|| "127.0.0.1".to_owned()),
            ports: ports.unwrap_or((55_000, 55_099)),
            disk_reserve_bytes: reserve.unwrap_or(1 << 30),
            settings: written.settings,
        }
    }
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
[engine]
listen = "127.0.0.1:8787"
data_dir = "/var/lib/btar"

[[token]]
name = "terraform"
sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

[[region]]
cloud = "aws-eu-west-1"
store = "file:///srv/west"

[[service]]
project = "shop"
name = "orders"
type = "pg"
cloud = "aws-eu-west-1"
plan = "startup-4"
backup = { format = "pgbackrest", stanza = "orders", path = "/pgbackrest" }
"#;

    fn mistakes(text: &str) -> Vec<(usize, String)> {
        match check(Path::new("btar.toml"), text) {
            Ok(_) => Vec::new(),
            Err(ConfigError::Mistakes(found)) => {
                found.into_iter().map(|mistake| (mistake.line, mistake.what)).collect()
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn one(from: &str, to: &str, line: usize, words: &str) {
        assert!(GOOD.contains(from), "{from}");
        let found = mistakes(&GOOD.replacen(from, to, 1));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].0 == line && found[0].1.contains(words), "{found:?}");
    }

    #[test]
    fn a_good_one_has_its_defaults() {
        let settings = check(Path::new("btar.toml"), GOOD).unwrap();
        let backup = settings.services[0].backup.as_ref().unwrap();
        assert_eq!(backup.primary.prefix.as_str(), "pgbackrest");
        assert_eq!(backup.copy.prefix.as_str(), "shop/orders");
        assert_eq!(settings.forks.ports, (55_000, 55_099));
        assert_eq!(settings.user, "postgres");
    }

    #[test]
    fn every_mistake_has_its_line_and_the_remedy() {
        one("127.0.0.1:8787", "somewhere", 3, "listen = \"127.0.0.1:8787\"");
        one("/var/lib/btar", "lib", 4, "whole path");
        one("9f86", "", 8, "sha256sum");
        one("file:///srv/west", "ftp://x", 12, "file:///absolute/directory");
        one("name = \"orders\"", "name = \"Orders\"", 16, "lower-case");
        one("type = \"pg\"", "type = \"redis\"", 17, "pg only");
        one("cloud = \"aws-eu-west-1\"\nplan", "cloud = \"aws-x\"\nplan", 18, "[[region]]");
        one("format = \"pgbackrest\"", "format = \"tar\"", 20, "use \"pgbackrest\"");
        one("/pgbackrest", "a/../b", 20, "..");
        one("plan = ", "plam = ", 19, "plam");
        one("listen = ", "listen == ", 3, "");
    }

    #[test]
    fn a_name_without_a_provider_needs_one() {
        let text = GOOD.replace("aws-eu-west-1", "west");
        let found = mistakes(&text);
        assert!(found.len() == 1 && found[0].0 == 11, "{found:?}");
        let named = text.replace("store =", "provider = \"aws\"\nstore =");
        assert_eq!(mistakes(&named), []);
    }

    #[test]
    fn several_mistakes_are_told_at_once() {
        let text = GOOD.replace("127.0.0.1:8787", "x").replace("file:///srv/west", "y");
        assert_eq!(mistakes(&text).len(), 2);
        let twice = format!("{GOOD}{}", &GOOD[GOOD.find("[[service]]").unwrap()..]);
        assert!(mistakes(&twice)[0].1.contains("twice"));
    }
}
