//! What creation and change of a fork are going to do, pure.

use crate::{
    domain::target_time,
    provider::{
        fork::model::{Fork, LATEST_BASE_BACKUP},
        names,
        value::{Secret, Tf},
    },
};
use tf_provider::AttributePath;

/// What creation is going to do. `region` is the one that the API showed to be meant, where the
/// configuration leaves it open.
///
/// The id stays unknown, so that whoever refers to it is planned after the fork stands.
pub(super) fn create(config: Fork, region: Option<String>) -> Fork {
    let mut planned = config.with_defaults();
    for computed in [
        &mut planned.id,
        &mut planned.service_type,
        &mut planned.service_host,
        &mut planned.service_port,
        &mut planned.service_username,
        &mut planned.base_backup_name,
        &mut planned.base_backup_time,
        &mut planned.recovered_to,
        &mut planned.forked_at,
        &mut planned.restore_status,
    ] {
        *computed = Tf::Unknown;
    }
    expose(&mut planned, Tf::Unknown, Tf::Unknown);
    if planned.source_project.is_null() {
        planned.source_project = planned.project.clone();
    }
    if planned.region.is_null() {
        planned.region = region.map_or(Tf::Unknown, Tf::Known);
    }
    if planned.plan.is_null() {
        planned.plan = Tf::Unknown;
    }
    if planned.termination_protection.is_null() {
        planned.termination_protection = Tf::Unknown;
    }
    planned.copy_tags = planned.copy_tags.or(false);
    let target = planned.recovery_target.text();
    let is_open = planned.recovery_target.is_unknown() || target == Some(LATEST_BASE_BACKUP);
    if planned.recovery_target_time.is_null() && is_open {
        planned.recovery_target_time = Tf::Unknown;
    }
    planned
}

/// What a change is going to do.
#[derive(Debug)]
pub(super) struct Update {
    pub(super) planned: Fork,
    /// The attributes that force a new fork.
    pub(super) replaced: Vec<AttributePath>,
    /// The attributes whose change has no effect.
    pub(super) kept: Vec<&'static str>,
}

/// Plans a change. `force_new` is the schema's list; right after an import what the state does not
/// know is taken from the configuration, and forces nothing.
pub(super) fn update(prior: &Fork, config: Fork, force_new: &[String], imported: bool) -> Update {
    let mut planned = config.clone().with_defaults();
    let mut held = Held::default();
    let replaces = planned.replace_on_source_change.known() == Some(&true);
    let source = if replaces { OnChange::Replace } else { OnChange::Keep };
    macro_rules! hold {
        ($field:ident, $on:expr, $same:expr) => {
            let (from, to) = (&prior.$field, &config.$field);
            held.hold(stringify!($field), (&mut planned.$field, from, to), $on, $same);
        };
    }
    hold!(source_project, source, same);
    hold!(source_service_name, source, same);
    hold!(recovery_target, source, same);
    hold!(recovery_target_time, source, same_time);
    hold!(copy_tags, OnChange::Keep, same);
    // The fork was made without a moment, and now there is one: that is a change, too.
    let had_none = prior.recovery_target_time.is_null() && !imported;
    if had_none && !config.recovery_target_time.is_null() {
        held.note("recovery_target_time", source);
    }
    computed(&mut planned, prior);
    let mut compared = prior.clone();
    if imported {
        compared.triggers = planned.triggers.clone();
    }
    let mut replaced: Vec<_> = held.replaced.into_iter().map(AttributePath::new).collect();
    replaced.extend(names::changed(force_new, &compared, &planned));
    Update { planned, replaced, kept: held.kept }
}

/// What a change of a create-only attribute leads to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OnChange {
    /// The fork stays as it is.
    Keep,
    /// A new fork is made.
    Replace,
}

/// The create-only attributes whose change is asked for.
#[derive(Default)]
struct Held {
    replaced: Vec<&'static str>,
    kept: Vec<&'static str>,
}

impl Held {
    /// Keeps the prior value of a create-only attribute, unless its change makes a new fork.
    fn hold<T: Clone>(
        &mut self,
        name: &'static str,
        (planned, prior, config): (&mut Tf<T>, &Tf<T>, &Tf<T>),
        on_change: OnChange,
        same: fn(&T, &T) -> bool,
    ) {
        let changed = match (prior, config) {
            // Not in the configuration: whatever is there is meant. Not in the state: Terraform
            // insists on the configured value, so it is at least written down.
            (_, Tf::Null) | (Tf::Null | Tf::Unknown, _) => false,
            (Tf::Known(prior), Tf::Known(config)) => !same(prior, config),
            // Whatever it turns out to be is kept, unless it could make a new fork.
            (Tf::Known(_), Tf::Unknown) => on_change == OnChange::Replace,
        };
        if changed {
            self.note(name, on_change);
        }
        let moves = changed && on_change == OnChange::Replace;
        if !moves && !prior.is_null() {
            *planned = prior.clone();
        }
    }

    fn note(&mut self, name: &'static str, on_change: OnChange) {
        match on_change {
            OnChange::Keep => self.kept.push(name),
            OnChange::Replace => self.replaced.push(name),
        }
    }
}

fn same<T: PartialEq>(left: &T, right: &T) -> bool {
    left == right
}

/// Two spellings of one moment are the same.
#[allow(clippy::ptr_arg, reason = "it is called through a pointer to a function of &T")]
fn same_time(left: &String, right: &String) -> bool {
    left == right || target_time::parse(left).ok() == target_time::parse(right).ok()
}

/// Computed values stay, except for those that an unfinished restore is still to bring.
fn computed(planned: &mut Fork, prior: &Fork) {
    planned.id = prior.id.clone();
    planned.service_type = prior.service_type.clone();
    planned.forked_at = prior.forked_at.clone();
    let keep = |value: &mut Tf<String>, prior: &Tf<String>| {
        if value.is_null() {
            *value = prior.clone();
        }
    };
    keep(&mut planned.region, &prior.region);
    keep(&mut planned.plan, &prior.plan);
    if planned.termination_protection.is_null() {
        planned.termination_protection = prior.termination_protection.clone();
    }
    let resumes = prior.is_restoring() && planned.waits();
    let frozen =
        |value: &Tf<String>| if value.is_null() { later(resumes, value) } else { value.clone() };
    planned.restore_status = later(resumes, &prior.restore_status);
    planned.service_host = later(resumes, &prior.service_host);
    planned.service_port = later(resumes, &prior.service_port);
    planned.service_username = later(resumes, &prior.service_username);
    planned.base_backup_name = frozen(&prior.base_backup_name);
    planned.base_backup_time = frozen(&prior.base_backup_time);
    planned.recovered_to = frozen(&prior.recovered_to);
    if prior.expose_credentials == planned.expose_credentials {
        expose(
            planned,
            later(resumes, &prior.service_uri),
            later(resumes, &prior.service_password),
        );
    } else {
        expose(planned, Tf::Unknown, Tf::Unknown);
    }
}

/// What an unfinished restore is still to bring is unknown.
fn later<T: Clone>(resumes: bool, value: &Tf<T>) -> Tf<T> {
    if resumes { Tf::Unknown } else { value.clone() }
}

/// Sets the credentials, or leaves them out where they are not wanted in the state.
fn expose(planned: &mut Fork, uri: Tf<Secret>, password: Tf<Secret>) {
    let hidden = planned.expose_credentials.known() == Some(&false);
    planned.service_uri = if hidden { Tf::Null } else { uri };
    planned.service_password = if hidden { Tf::Null } else { password };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn force_new() -> Vec<String> {
        crate::provider::schema::facts::<Fork>().unwrap().force_new
    }

    fn config() -> Fork {
        Fork {
            project: "demo".into(),
            service_name: "orders-dr".into(),
            source_service_name: "orders".into(),
            recovery_target: "point_in_time".into(),
            recovery_target_time: "2026-11-23 07:41:12".into(),
            ..Fork::default()
        }
    }

    /// The state after a complete creation.
    fn state() -> Fork {
        let known = |text: &str| Tf::from(text);
        Fork {
            id: known("demo/orders-dr"),
            plan: known("startup-4"),
            termination_protection: Tf::Known(false),
            service_type: known("pg"),
            service_host: known("127.0.0.1"),
            service_port: known("5433"),
            service_username: known("avnadmin"),
            service_uri: "postgres://".into(),
            service_password: "secret".into(),
            base_backup_name: known("b"),
            base_backup_time: known("t"),
            recovered_to: known("t"),
            forked_at: known("t"),
            restore_status: known("complete"),
            ..create(config(), Some("aws-eu-central-1".to_owned()))
        }
    }

    fn plan(config: Fork) -> Update {
        update(&state(), config, &force_new(), false)
    }

    fn paths(update: &Update) -> Vec<String> {
        update.replaced.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn without_a_change_the_plan_is_empty() {
        let found = plan(config());
        assert_eq!(found.planned, state());
        assert!(found.replaced.is_empty() && found.kept.is_empty());
        // Another spelling of the same moment is no change.
        let spelt = Fork { recovery_target_time: "2026-11-23T07:41:12Z".into(), ..config() };
        let found = plan(spelt);
        assert_eq!(found.planned, state());
        assert!(found.kept.is_empty());
    }

    #[test]
    fn what_is_used_at_creation_only_is_kept_with_a_warning() {
        let changed = Fork {
            source_service_name: "others".into(),
            recovery_target_time: "2026-11-23 07:41:13".into(),
            ..config()
        };
        let found = plan(changed.clone());
        assert_eq!(found.planned, state());
        assert_eq!(found.kept, ["source_service_name", "recovery_target_time"]);
        let replacing = Fork { replace_on_source_change: Tf::Known(true), ..changed };
        let found = plan(replacing);
        assert_eq!(paths(&found), ["source_service_name", "recovery_target_time"]);
        // A line that is removed changes nothing.
        let removed =
            Fork { recovery_target: Tf::Null, recovery_target_time: Tf::Null, ..config() };
        assert_eq!(plan(removed).planned, state());
    }

    #[test]
    fn a_new_fork_is_forced_by_names_triggers_and_a_region_that_is_set() {
        let one = BTreeMap::from([("run".to_owned(), Tf::from("2"))]);
        let triggered = Fork { triggers: Tf::Known(one), ..config() };
        assert_eq!(paths(&plan(triggered.clone())), ["triggers"]);
        assert!(update(&state(), triggered, &force_new(), true).replaced.is_empty());
        let moved = Fork { region: "aws-eu-north-1".into(), ..config() };
        assert_eq!(paths(&plan(moved)), ["region"]);
        let same = Fork { region: "aws-eu-central-1".into(), ..config() };
        assert!(plan(same).replaced.is_empty());
        let renamed = Fork { service_name: "orders-2".into(), ..config() };
        assert_eq!(paths(&plan(renamed)), ["service_name"]);
    }

    #[test]
    fn an_unfinished_restore_is_waited_for_by_the_next_apply() {
        let prior = Fork {
            restore_status: "restoring".into(),
            service_uri: Tf::Null,
            recovered_to: Tf::Null,
            ..state()
        };
        let found = update(&prior, config(), &force_new(), false).planned;
        assert!(found.restore_status.is_unknown() && found.service_uri.is_unknown());
        assert!(found.recovered_to.is_unknown());
        assert_eq!(found.base_backup_name, prior.base_backup_name);
        // Who does not wait has an empty plan.
        let accepted = Fork { wait_until: "accepted".into(), ..config() };
        let prior = Fork { wait_until: "accepted".into(), ..prior };
        assert_eq!(update(&prior, accepted, &force_new(), false).planned, prior);
    }

    #[test]
    fn credentials_leave_the_state_when_they_are_not_wanted() {
        let hidden = Fork { expose_credentials: Tf::Known(false), ..config() };
        let found = plan(hidden.clone()).planned;
        assert!(found.service_uri.is_null() && found.service_password.is_null());
        assert!(create(hidden, None).service_uri.is_null());
    }

    #[test]
    fn creation_leaves_open_what_only_the_api_knows() {
        let planned = create(config(), None);
        assert!(planned.region.is_unknown() && planned.plan.is_unknown());
        assert_eq!(planned.source_project.text(), Some("demo"));
        let base = Fork {
            recovery_target: "latest_base_backup".into(),
            recovery_target_time: Tf::Null,
            ..config()
        };
        assert!(create(base, None).recovery_target_time.is_unknown());
        let latest = Fork { recovery_target: Tf::Null, recovery_target_time: Tf::Null, ..config() };
        assert!(create(latest, None).recovery_target_time.is_null());
    }
}
