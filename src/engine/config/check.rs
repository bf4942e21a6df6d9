//! From the written configuration to the checked one; every mistake with its line and remedy.

use crate::{
    domain::{
        cloud::{Cloud, CloudName, CloudProvider},
        violation::Violation,
    },
    engine::config::{
        ConfigError, ForkSettings, Mistake, Region, Settings, Token,
        file::{File, ForksTable, RegionTable, TokenTable},
        units,
    },
    engine::replicate::copying::MEMORY_MIB,
    store::{
        config::{StoreOptions, process_environment},
        open::open,
    },
    sys::clock::SystemClock,
};
use std::{
    net::SocketAddr,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use toml::Spanned;

/// Unix sockets of forks lie below the data directory, and their paths may have 107 bytes.
const DATA_DIR_LENGTH_MAX: usize = 75;
const POLL_INTERVAL: Duration = Duration::from_secs(2);
const FULL_SCAN_INTERVAL: Duration = Duration::from_secs(15 * 60);
const LAG_WARNING: Duration = Duration::from_secs(15 * 60);
const MEMORY_MIB_RANGE: RangeInclusive<u64> = 64..=(1 << 20);

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
        lag_warning: checker.period(engine.lag_warning.as_ref(), LAG_WARNING),
        scrub: checker.scrub(engine.scrub.as_ref()),
        memory_mib: checker.memory(engine.memory_mib.as_ref()),
        user: engine.user.unwrap_or_else(|| "postgres".to_owned()),
        tokens: checker.tokens(at, &written.token),
        regions: checker.regions(&written.region),
        services: checker.services(&written.service, &written.region),
        keys: checker.keys(&written.private_key),
        forks: checker.forks(written.forks),
    };
    checker.server_side_copies(&settings, &written.region);
    if checker.mistakes.is_empty() {
        Ok(settings)
    } else {
        checker.mistakes.sort_by_key(|mistake| mistake.line);
        Err(ConfigError::Mistakes(checker.mistakes))
    }
}

/// Collects mistakes on the way.
pub(super) struct Checker<'a> {
    file: &'a Path,
    text: &'a str,
    mistakes: Vec<Mistake>,
}

impl Checker<'_> {
    pub(super) fn mistake(&mut self, at: usize, what: String) {
        let before = self.text.get(..at).unwrap_or(self.text);
        let line = 1 + before.bytes().filter(|b| *b == b'\n').count();
        self.mistakes.push(Mistake { file: self.file.to_owned(), line, what });
    }

    pub(super) fn violation<T>(&mut self, at: usize, checked: Result<T, Violation>) -> Option<T> {
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

    fn memory(&mut self, written: Option<&Spanned<u64>>) -> u64 {
        let Some(written) = written else { return MEMORY_MIB };
        let mib = *written.get_ref();
        if !MEMORY_MIB_RANGE.contains(&mib) {
            let (least, most) = (MEMORY_MIB_RANGE.start(), MEMORY_MIB_RANGE.end());
            let what = format!(
                "memory_mib = {mib} cannot be used: objects are copied in parts of 8 MiB and more, \
                 several at a time; write a number from {least} to {most}"
            );
            self.mistake(written.span().start, what);
        }
        mib
    }

    pub(super) fn period(
        &mut self,
        written: Option<&Spanned<String>>,
        default: Duration,
    ) -> Duration {
        let Some(written) = written else { return default };
        units::period(written.get_ref()).unwrap_or_else(|| {
            let what = format!(
                "`{}` is not a period; write a number with ms, s, m, h or d, such as \"2s\"",
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
            let store_options = self.store(region, &name);
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
            let store = region.store.get_ref().clone();
            regions.push(Region { cloud, store, store_options });
        }
        regions
    }

    /// The settings of a region's store, which are tried: what a client refuses is a mistake here.
    fn store(&mut self, region: &RegionTable, cloud: &CloudName) -> StoreOptions {
        let written = region.store_options.as_ref();
        let mut options = written.map(|o| o.get_ref().clone()).unwrap_or_default();
        let on_aws = cloud.provider() == Some(CloudProvider::new("aws"));
        if on_aws && options.region.is_none() && region.store.get_ref().starts_with("s3:") {
            options.region = Some(cloud.region().to_owned());
        }
        let clock = Arc::new(SystemClock::new());
        let opened = open(region.store.get_ref(), &options, clock, &process_environment);
        if let Err(error) = opened {
            let at = match (error.field(), written) {
                ("store", _) | (_, None) => region.store.span().start,
                (field, Some(options)) => self.setting(options.span().start, field),
            };
            self.mistake(at, error.to_string());
        }
        options
    }

    /// Where a setting stands in the table that begins at `at`, else the table itself.
    pub(super) fn setting(&self, at: usize, name: &str) -> usize {
        let table = self.text.get(at..).unwrap_or_default();
        let end = table.find("\n[[").unwrap_or(table.len());
        table[..end].find(name).map_or(at, |found| at + found)
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
            mysql_settings: written.mysql_settings,
            mysql_programs: written.mysql_programs.and_then(|dir| self.programs(dir)),
            mariadb_programs: written.mariadb_programs.and_then(|dir| self.programs(dir)),
        }
    }

    fn programs(&mut self, dir: Spanned<PathBuf>) -> Option<PathBuf> {
        let at = dir.span().start;
        let dir = dir.into_inner();
        if dir.is_absolute() && dir.is_dir() {
            return Some(dir);
        }
        let what = format!(
            "{} is no directory; write the absolute path of the one that holds the server's programs",
            dir.display()
        );
        self.mistake(at, what);
        None
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
        one("type = \"pg\"", "type = \"redis\"", 17, "pg and mysql only");
        one("type = \"pg\"", "type = \"mysql\"", 20, "use one of: stream, myhoard");
        one("cloud = \"aws-eu-west-1\"\nplan", "cloud = \"aws-x\"\nplan", 18, "[[region]]");
        one("format = \"pgbackrest\"", "format = \"tar\"", 20, "use \"pgbackrest\"");
        one("format = \"pgbackrest\"", "format = \"pghoard\"", 20, "remove `stanza`");
        one("format = \"pgbackrest\"", "format = \"stream\"", 20, "pgbackrest, pghoard");
        one("/pgbackrest", "a/../b", 20, "..");
        one("plan = ", "plam = ", 19, "plam");
        one("listen = ", "listen == ", 3, "");
    }

    #[test]
    fn a_site_of_pghoard_needs_metadata_and_keys_that_can_be_read() {
        let site = GOOD.replace("\"pgbackrest\", stanza = \"orders\"", "\"pghoard\"");
        let found = mistakes(&site);
        assert!(
            matches!(&found[..], [(12, what)] if what.contains("sidecars = true")),
            "{found:?}"
        );
        let to = "store = \"file:///srv/west\"\nstore_options = { sidecars = true }";
        let site = site.replace("store = \"file:///srv/west\"", to);
        assert_eq!(mistakes(&site), []);
        for (key, words) in [
            ("file = \"/no/key.pem\"", "/no/key.pem"),
            ("env = \"BTAR_TEST_NOT_SET\"", "BTAR_TEST_NOT_SET is not set"),
            ("", "needs one place"),
            ("file = \"/etc/hostname\"", "PEM"),
        ] {
            let found = mistakes(&format!("{site}\n[[private_key]]\nid = \"k1\"\n{key}\n"));
            assert!(matches!(&found[..], [(_, what)] if what.contains(words)), "{found:?}");
        }
        let retained = format!("{site}copy_retention = {{ expired_after = \"7d\" }}\n");
        assert_eq!(mistakes(&retained), []);
    }

    #[test]
    fn the_settings_of_a_store_are_tried() {
        let to = |store: &str| format!("store = \"s3://b\"\nstore_options = {{ {store} }}");
        let bad = |store: &str, line, words| {
            one("store = \"file:///srv/west\"", &to(store), line, words);
        };
        bad("endpoint = \"http://x\"", 13, "allow_http = true");
        bad("access_key_id_env = \"BTAR_TEST_NOT_SET\"", 13, "BTAR_TEST_NOT_SET is not set");
        bad("sidecars = true", 13, "directories");
        bad("secret_access_key = \"x\"", 13, "unknown field");
        one("file:///srv/west", "az://backups", 12, "account = ");
        let table = "store = \"s3://b\"\n[region.store_options]\n\nca_file = \"/no/file\"";
        one("store = \"file:///srv/west\"", table, 15, "/no/file cannot be read");
        let good = GOOD.replace("store = \"file:///srv/west\"", &to("anonymous = true"));
        let settings = check(Path::new("btar.toml"), &good).unwrap();
        let region = settings.regions[0].store_options.region.as_deref();
        assert_eq!(region, Some("eu-west-1"), "the cloud's name tells the region");
    }

    #[test]
    fn a_provider_copies_only_what_it_holds_itself() {
        let regions = |primary: &str, copy: &str| {
            let west = format!("store = \"s3://w\"\nstore_options = {{ {primary} }}");
            let north = format!(
                "[[region]]\ncloud = \"aws-eu-north-1\"\nstore = \"s3://n\"\n\
                 store_options = {{ server_side_copy = true{copy} }}\n\n[[service]]"
            );
            let text = GOOD.replace("store = \"file:///srv/west\"", &west);
            mistakes(&text.replacen("[[service]]", &north, 1))
        };
        let at = |name: &str| format!("endpoint = \"https://{name}\"");
        let here = format!(", {}", at("one.example.org/"));
        assert_eq!(regions("", ""), []);
        assert_eq!(regions(&at("one.example.org"), &here), []);
        for (primary, copy) in [(at("one.example.org"), ""), (at("two.example.org"), &here)] {
            let found = regions(&primary, copy);
            let is_told = |what: &str| what.contains("aws-eu-west-1") && what.contains("remove");
            assert!(matches!(&found[..], [(18, what)] if is_told(what)), "{found:?}");
        }
        let found = regions("", ", anonymous = true");
        assert!(matches!(&found[..], [(18, what)] if what.contains("credentials")), "{found:?}");
        let other = "store = \"gs://b\"\nstore_options = { server_side_copy = true }";
        one("store = \"file:///srv/west\"", other, 13, "for buckets of S3");
    }

    #[test]
    fn copies_are_read_again_unless_that_is_switched_off() {
        let scrub = |table: &str| {
            let text = GOOD.replace("[[token]]", &format!("{table}\n[[token]]"));
            check(Path::new("btar.toml"), &text).unwrap().scrub
        };
        let found = scrub("").unwrap();
        assert_eq!((found.every.as_secs(), found.rate_bytes), (7 * 86_400, 8 << 20));
        let found = scrub("scrub = { every = \"1d\", rate_mib = 2 }").unwrap();
        assert_eq!((found.every.as_secs(), found.rate_bytes), (86_400, 2 << 20));
        assert_eq!(scrub("scrub = { every = \"0\" }"), None);
        one("[[token]]", "scrub = { rate_mib = 0 }\n[[token]]", 6, "every = \"0\"");
    }

    #[test]
    fn retention_holds_backups_and_guards_against_large_plans() {
        let table = |inside: &str| {
            GOOD.replace(
                "plan = \"startup-4\"",
                &format!("plan = \"x\"\ncopy_retention = {{ {inside} }}"),
            )
        };
        let settings = |inside: &str| {
            let settings = check(Path::new("btar.toml"), &table(inside)).unwrap();
            settings.services[0].copy_retention.clone().unwrap()
        };
        let found = settings("keep_expired_for = \"30d\"");
        assert_eq!(found.keep_expired_for.as_secs(), 30 * 86_400);
        assert_eq!((found.keep_restorable, found.remove_percent_max), (2, 50));
        let older = settings("expired_after = \"1d\"");
        assert_eq!(older.keep_expired_for.as_secs(), 86_400);
        let hold = "hold = [\"A\", { backup = \"B\", until = \"2027-01-01T00:00:00Z\" }]";
        let held = settings(hold).hold;
        let seen: Vec<_> = held.iter().map(|h| (h.label.as_str(), h.until.is_some())).collect();
        assert_eq!(seen, [("A", false), ("B", true)]);
        for (inside, words) in [
            ("keep_expired_for = \"1d\", expired_after = \"1d\"", "older name"),
            ("hold = [{ backup = \"B\", until = \"soon\" }]", "not a time"),
            ("remove_percent_max = 101", "percentage"),
        ] {
            let found = mistakes(&table(inside));
            assert!(found.len() == 1 && found[0].1.contains(words), "{inside}: {found:?}");
        }
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
