//! Every message of the provider in one golden file, and proof that none is missing.

use super::{At, argument, fork, reading, refresh, region, settings};
use crate::{
    client::error::ClientError,
    domain::{
        cloud::{CloudName, CloudProvider},
        ids::{ProjectName, ServiceId, ServiceName},
        violation::Violation,
        window::{RestoreRange, RestoreWindow},
    },
    provider::duration,
};
use std::{fmt::Write as _, fs, path::Path, time::Duration};
use tf_provider::{Diagnostic, Diagnostics};

fn id() -> ServiceId {
    ServiceId {
        project: ProjectName::parse("demo").unwrap(),
        service: ServiceName::parse("orders").unwrap(),
    }
}

fn cloud(name: &str) -> CloudName {
    CloudName::parse(name).unwrap()
}

fn central() -> CloudName {
    cloud("aws-eu-central-1")
}

fn time(text: &str) -> chrono::DateTime<chrono::Utc> {
    format!("2026-11-23T{text}Z").parse().unwrap()
}

fn window() -> RestoreWindow {
    let (earliest, latest) = (time("07:00:00"), time("09:00:00"));
    RestoreWindow::new(vec![RestoreRange { earliest, latest, exact: true }])
}

/// One of each: their codes are compared with those in the source.
fn violations() -> Vec<Violation> {
    let aws = Some(CloudProvider::new("aws"));
    let all = vec![
        Violation::InvalidName { what: "service", name: "Orders".to_owned(), length_max: 64 },
        Violation::InvalidCloudName { name: "Frankfurt!".to_owned() },
        Violation::UnknownCloud { name: cloud("aws-mars-1"), known: vec![central()] },
        Violation::RegionIsPrimary { region: central() },
        Violation::OtherProvider {
            region: cloud("google-europe-west3"),
            region_provider: Some(CloudProvider::new("google")),
            other: central(),
            other_provider: aws,
        },
        Violation::TypeWithoutSecondaryBackups { service_type: "kafka".to_owned() },
        Violation::NotATime { text: "yesterday".to_owned() },
        Violation::TimeInFuture {
            target: time("10:00:00"),
            now: time("09:30:00"),
            window: window(),
        },
        Violation::TimeOutsideWindow {
            target: time("06:00:00"),
            nearest: time("07:00:00"),
            window: window(),
        },
        Violation::NothingRestorable { target: None },
        Violation::NothingRestorable { target: Some(time("06:00:00")) },
        Violation::RegionWithoutCopy { region: cloud("aws-eu-north-1"), valid: vec![central()] },
    ];
    let codes: std::collections::BTreeSet<_> = all.iter().map(Violation::code).collect();
    let text = include_str!("../../domain/violation.rs");
    let words = text.lines().filter_map(|line| line.trim().split_once(" => \"")).map(|(_, w)| w);
    for word in words.filter_map(|word| word.strip_suffix("\",")) {
        assert!(codes.contains(word), "the violation `{word}` has no sample");
    }
    all
}

/// One of each.
fn failures() -> Vec<ClientError> {
    let url = || "https://api.example.org".to_owned();
    let (doing, message) = (|| "reading service demo/orders".to_owned(), || "no".to_owned());
    let all = vec![
        ClientError::Setup { url: url(), reason: "the URL makes no sense".to_owned() },
        ClientError::Unreachable { url: url(), reason: "refused".to_owned(), maybe_done: false },
        ClientError::Unreachable {
            url: url(),
            reason: "invalid peer certificate".to_owned(),
            maybe_done: false,
        },
        ClientError::Unauthorized { url: url(), message: "Invalid token".to_owned() },
        ClientError::Forbidden { doing: doing(), message: message() },
        ClientError::NotFound { doing: doing(), message: message() },
        ClientError::Conflict { doing: doing(), message: message() },
        ClientError::Refused { status: 400, code: None, message: "Invalid plan. Use one.".into() },
        ClientError::Server { doing: doing(), status: 503, message: message() },
        ClientError::Undecodable { doing: doing(), reason: "EOF at line 1".to_owned() },
    ];
    let headlines: std::collections::BTreeSet<_> = all.iter().map(ClientError::headline).collect();
    assert_eq!(headlines.len(), 9, "each kind of failure has a sample");
    all
}

fn shared(d: &mut Diagnostics) {
    for rule in violations() {
        super::violation(d, At::Attribute("region"), &rule);
    }
    for failure in failures() {
        super::client_error(d, At::Block, &failure);
    }
    super::word(d, "wait_until", "done", &["running", "accepted"]);
    super::period(d, At::Nested("timeouts", "create"), &duration::parse("soon").unwrap_err());
    super::import_id(d, "`demo` is not PROJECT/SERVICE_NAME, such as demo/orders.");
    super::service_unread(d, "service_name", &id(), &failures()[5]);
    super::protected(d, "fork", "destroy");
    settings::problem(d, "max_retries", "`x` is not a whole number from 0 to 20.");
    settings::token_exposed(d);
    settings::checks_skipped(d);
    settings::not_configured(d);
    settings::schema_bug(d, "attribute `x`: its type cannot be used");
}

fn of_regions(d: &mut Diagnostics) {
    region::no_backup_yet(d, &central(), "Terraform was asked to stop");
    region::switched_off(d, &id(), &central());
    region::paused(d, &central(), Some("the target store is full"));
    region::which_region(d, &id(), &["a".to_owned(), "b".to_owned()]);
    region::occupied(d, "service demo/orders already copies its backups to b");
    region::not_taken(d, "the API accepted the change, but its regions are []");
}

fn of_forks(d: &mut Diagnostics) {
    let failure = &failures()[3];
    fork::of_itself(d);
    fork::time_missing(d);
    fork::time_without_point(d, "latest_transaction");
    fork::too_much_lost(d, Duration::from_secs(600), Duration::from_secs(60));
    fork::which_region(d, "orders", &[cloud("a"), cloud("b")]);
    fork::no_copies(d, "orders");
    fork::outlook(d, &id(), &central(), "target …, RPO 3m12s, window […]");
    fork::name_in_use(d, &id(), "it is not a fork");
    fork::name_taken(d, "service demo/orders exists already and cannot be adopted");
    fork::adopted(d, &id());
    fork::restore_failed(d, &id(), "a segment is missing");
    fork::restore_has_failed(d, &id(), "a segment is missing");
    fork::disappeared(d, &id());
    fork::too_slow(d, &id());
    fork::overdue(d, &id());
    fork::stopped(d, &id());
    fork::unwatched(d, failure);
    fork::kept(d, &["recovery_target_time", "source_service_name"]);
    fork::change_goes_on(d, &id());
    fork::deletion_overdue(d, &id());
    fork::deletion_goes_on(d, &id());
    fork::not_a_fork(d, &id());
    fork::not_movable(d, "aws_db_instance");
}

fn of_reads(d: &mut Diagnostics) {
    let failure = &failures()[8];
    refresh::gone(d, &id(), "Service does not exist");
    refresh::failed(d, failure);
    refresh::state_kept(d, failure);
    reading::unreachable(d, failure);
    reading::which_region(d, &id(), &[cloud("a"), cloud("b")]);
    reading::no_copies(d, &id());
    reading::no_credentials(d, &id());
    argument::rule(d, 0, &Violation::NotATime { text: "yesterday".to_owned() });
    argument::period(d, 0, &duration::parse("soon").unwrap_err());
    argument::range_reversed(d, 1);
}

fn show(out: &mut String, severity: &str, diagnostic: &Diagnostic) {
    let place = diagnostic.attribute.to_string();
    let place = if place.is_empty() { "the block".to_owned() } else { place };
    writeln!(out, "{severity} at {place}: {}", diagnostic.summary).unwrap();
    if !diagnostic.detail.is_empty() {
        writeln!(out, "    {}", diagnostic.detail).unwrap();
    }
    out.push('\n');
}

#[test]
fn every_message_says_what_where_and_what_to_do() {
    let mut out = String::new();
    for tell in [shared, of_regions, of_forks, of_reads] {
        let mut diagnostics = Diagnostics::default();
        tell(&mut diagnostics);
        for error in &diagnostics.errors {
            show(&mut out, "error", error);
        }
        for warning in &diagnostics.warnings {
            show(&mut out, "warning", warning);
        }
    }
    insta::assert_snapshot!(out);
}

fn sources(dir: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]\nmod tests").next().unwrap().to_owned();
            found.push((path.display().to_string(), code));
        }
    }
    found
}

#[test]
fn every_function_that_tells_something_is_in_the_golden_file() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/provider/report");
    let own = fs::read_to_string(dir.join("golden.rs")).unwrap();
    let mut count = 0;
    for (path, code) in sources(&dir).iter().filter(|(path, _)| !path.ends_with("golden.rs")) {
        let module = Path::new(path).file_stem().unwrap().to_str().unwrap();
        let module = if module == "mod" { "super" } else { module };
        for name in code.split("\npub fn ").skip(1).filter_map(|rest| rest.split('(').next()) {
            count += 1;
            let call = format!("{module}::{name}(d, ");
            let short = format!("{module}::{name}(d)");
            assert!(own.contains(&call) || own.contains(&short), "{module}::{name} is missing");
        }
    }
    assert!(count > 40, "{count} functions were found");
}

#[test]
fn diagnostics_are_made_nowhere_else() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/provider");
    let ways = ["Diagnostic {", "Diagnostic::", "errors.push", "warnings.push", "errors.extend"];
    let more = ["root_error", "root_warning", "_short(", "function_error", "add_error", "add_warn"];
    // The pages are rendered while developing, and tell Terraform nothing.
    let tells = |path: &str| !path.contains("/report/") && !path.contains("/docs/");
    for (path, code) in sources(&dir).iter().filter(|(path, _)| tells(path)) {
        for way in ways.iter().chain(&more) {
            assert!(!code.contains(way), "{path} makes a diagnostic with `{way}`");
        }
    }
}
