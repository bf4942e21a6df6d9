//! What the configuration of a fork alone shows to be wrong.

use crate::{
    domain::{
        cloud::CloudName,
        ids::{ProjectName, ServiceName},
        target_time,
    },
    provider::{
        duration,
        fork::model::{
            ACCEPTED, CONTINUE, FAIL, Fork, LATEST_BASE_BACKUP, LATEST_TRANSACTION, POINT_IN_TIME,
            RUNNING,
        },
        names,
        report::{self, At},
        timeouts,
    },
};
use tf_provider::Diagnostics;

/// Reports everything that is wrong. What is unknown is left for later.
pub(in crate::provider) fn validate(diagnostics: &mut Diagnostics, config: &Fork) {
    names::validate(diagnostics, "project", &config.project, ProjectName::parse);
    names::validate(diagnostics, "service_name", &config.service_name, ServiceName::parse);
    names::validate(diagnostics, "source_project", &config.source_project, ProjectName::parse);
    let source = &config.source_service_name;
    names::validate(diagnostics, "source_service_name", source, ServiceName::parse);
    names::validate(diagnostics, "region", &config.region, CloudName::parse);
    let time = &config.recovery_target_time;
    names::validate(diagnostics, "recovery_target_time", time, target_time::parse);
    let targets = [LATEST_TRANSACTION, LATEST_BASE_BACKUP, POINT_IN_TIME];
    names::validate_word(diagnostics, "recovery_target", &config.recovery_target, &targets);
    names::validate_word(diagnostics, "wait_until", &config.wait_until, &[RUNNING, ACCEPTED]);
    let ends = [CONTINUE, FAIL];
    names::validate_word(diagnostics, "on_create_timeout", &config.on_create_timeout, &ends);
    if let Some(Err(error)) = config.max_rpo.text().map(duration::parse) {
        report::period(diagnostics, At::Attribute("max_rpo"), &error);
    }
    timeouts::validate(diagnostics, &config.timeouts);
    validate_target(diagnostics, config);
    if config.service().is_some() && config.service() == config.source() {
        report::fork::of_itself(diagnostics);
    }
}

/// `point_in_time` needs a time, and only it may have one.
fn validate_target(diagnostics: &mut Diagnostics, config: &Fork) {
    if config.recovery_target.is_unknown() {
        return;
    }
    let target = config.recovery_target.text().unwrap_or(LATEST_TRANSACTION);
    if target == POINT_IN_TIME && config.recovery_target_time.is_null() {
        report::fork::time_missing(diagnostics);
    }
    if target != POINT_IN_TIME && config.recovery_target_time.known().is_some() {
        report::fork::time_without_point(diagnostics, target);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::value::Tf;

    fn config() -> Fork {
        Fork {
            project: "demo".into(),
            service_name: "orders-dr".into(),
            source_service_name: "orders".into(),
            ..Fork::default()
        }
    }

    fn check(config: &Fork, places: &[&str]) {
        let mut diagnostics = Diagnostics::default();
        validate(&mut diagnostics, config);
        let found: Vec<_> = diagnostics.errors.iter().map(|e| e.attribute.to_string()).collect();
        assert_eq!(found, places);
    }

    #[test]
    fn a_time_belongs_to_point_in_time_and_to_nothing_else() {
        let time: Tf<String> = "2026-11-23 07:41:12".into();
        let point: Tf<String> = "point_in_time".into();
        check(&config(), &[]);
        let both =
            Fork { recovery_target: point.clone(), recovery_target_time: time.clone(), ..config() };
        check(&both, &[]);
        check(&Fork { recovery_target: point.clone(), ..config() }, &["recovery_target_time"]);
        check(&Fork { recovery_target_time: time.clone(), ..config() }, &["recovery_target_time"]);
        let later = Tf::Unknown;
        check(&Fork { recovery_target: point, recovery_target_time: later, ..config() }, &[]);
        let open = Fork { recovery_target: Tf::Unknown, recovery_target_time: time, ..config() };
        check(&open, &[]);
    }

    #[test]
    fn wrong_words_are_found_at_their_attribute() {
        check(&Fork { service_name: "orders".into(), ..config() }, &["service_name"]);
        check(&Fork { recovery_target: "newest".into(), ..config() }, &["recovery_target"]);
        check(&Fork { max_rpo: "5 minutes".into(), ..config() }, &["max_rpo"]);
        check(&Fork { wait_until: "done".into(), ..config() }, &["wait_until"]);
        check(&Fork { on_create_timeout: "stop".into(), ..config() }, &["on_create_timeout"]);
        let soon = Fork {
            recovery_target: "point_in_time".into(),
            recovery_target_time: "yesterday".into(),
            ..config()
        };
        check(&soon, &["recovery_target_time"]);
    }
}
