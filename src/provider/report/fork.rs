//! Messages of `fork_from_secondary_backup`.

use crate::{
    client::error::ClientError,
    domain::{cloud::CloudName, ids::ServiceId},
    provider::{
        duration,
        report::{At, error, warning},
    },
};
use std::time::Duration;
use tf_provider::Diagnostics;

const LATER: &str = "The restore goes on without Terraform, and the next apply waits on.";

/// Source and fork are the same service.
pub fn of_itself(diagnostics: &mut Diagnostics) {
    let detail = "A service cannot be a fork of itself. Choose another name for the fork.";
    error(diagnostics, At::Attribute("service_name"), "Fork of itself", detail);
}

/// `point_in_time` without a time.
pub fn time_missing(diagnostics: &mut Diagnostics) {
    let detail = "recovery_target is point_in_time, so a moment is needed. Set \
                  recovery_target_time, such as \"2026-11-23T07:41:12Z\".";
    let at = At::Attribute("recovery_target_time");
    error(diagnostics, at, "Restore time is missing", detail);
}

/// A time without `point_in_time`.
pub fn time_without_point(diagnostics: &mut Diagnostics, target: &str) {
    let detail = format!(
        "recovery_target is {target}, which takes no moment. Set recovery_target = \
         \"point_in_time\", or leave recovery_target_time out."
    );
    let at = At::Attribute("recovery_target_time");
    error(diagnostics, at, "Restore time without point_in_time", detail);
}

/// The fork would be older than `max_rpo` allows.
pub fn too_much_lost(diagnostics: &mut Diagnostics, rpo: Duration, limit: Duration) {
    let detail = format!(
        "The fork would have the contents of {} ago, and max_rpo allows {}. Wait until the copy has \
         caught up, choose a later moment, or raise max_rpo.",
        duration::format(rpo),
        duration::format(limit)
    );
    error(diagnostics, At::Attribute("max_rpo"), "Too much would be lost", detail);
}

/// Several regions hold copies, and none was named.
pub fn which_region(diagnostics: &mut Diagnostics, source: &str, regions: &[CloudName]) {
    let names: Vec<_> = regions.iter().map(CloudName::as_str).collect();
    let names = names.join(", ");
    let detail = format!("Service \"{source}\" has copies in {names}. Set region to one.");
    error(diagnostics, At::Attribute("region"), "Which region?", detail);
}

/// The source has no secondary backups.
pub fn no_copies(diagnostics: &mut Diagnostics, source: &str) {
    let detail = format!(
        "Service \"{source}\" has no secondary backup region, so there is nothing to fork from. \
         Enable one with aiven_service_backup_region first. If this very apply enables it, take the \
         region from its id, which is known only afterwards, such as \
         split(\"/\", aiven_service_backup_region.example.id)[2]."
    );
    let at = At::Attribute("source_service_name");
    error(diagnostics, at, "No secondary backups", detail);
}

/// The one line about what a plan would do, as a warning: Terraform shows nothing else of it.
pub fn outlook(diagnostics: &mut Diagnostics, id: &ServiceId, region: &CloudName, line: &str) {
    let summary = format!("fork {} -> {region}: {line}", id.service);
    warning(diagnostics, At::Block, &summary, "");
}

/// Something else has the name, at plan.
pub fn name_in_use(diagnostics: &mut Diagnostics, id: &ServiceId, difference: &str) {
    let detail = format!(
        "Service {id} exists and is not a fork of the same origin: {difference}. Unless this plan \
         replaces it, choose another name."
    );
    warning(diagnostics, At::Attribute("service_name"), "Name is taken", detail);
}

/// Something else has the name, at creation.
pub fn name_taken(diagnostics: &mut Diagnostics, reason: &str) {
    let detail = format!("{reason}. Choose another name, or delete or import that service.");
    error(diagnostics, At::Attribute("service_name"), "Name is taken", detail);
}

/// An earlier attempt had made the fork.
pub fn adopted(diagnostics: &mut Diagnostics, id: &ServiceId) {
    let detail = format!("{id} had been forked from the same source already, so it is used.");
    warning(diagnostics, At::Attribute("service_name"), "Existing fork adopted", detail);
}

/// The restore failed while it was waited for.
pub fn restore_failed(diagnostics: &mut Diagnostics, id: &ServiceId, reason: &str) {
    let detail = format!(
        "Fork {id} was not restored: {reason}. It is marked as tainted; the next apply replaces it."
    );
    error(diagnostics, At::Block, "Restore failed", detail);
}

/// A refresh finds that the restore has failed.
pub fn restore_has_failed(diagnostics: &mut Diagnostics, id: &ServiceId, reason: &str) {
    let detail = format!(
        "Fork {id} was not restored: {reason}. To fork again, run terraform apply with -replace and \
         the address of this resource."
    );
    warning(diagnostics, At::Block, "Restore has failed", detail);
}

/// The fork disappeared while it was waited for.
pub fn disappeared(diagnostics: &mut Diagnostics, id: &ServiceId) {
    let detail = format!(
        "Fork {id} was accepted and has disappeared since. Was it deleted by someone? Apply again."
    );
    error(diagnostics, At::Block, "Fork is gone", detail);
}

/// The time is over, and `on_create_timeout` is `fail`.
pub fn too_slow(diagnostics: &mut Diagnostics, id: &ServiceId) {
    let detail = format!(
        "Fork {id} was not restored within the time limit, and is marked as tainted. Raise \
         timeouts.create, or set on_create_timeout = \"continue\"."
    );
    error(diagnostics, At::Attribute("on_create_timeout"), "Too slow", detail);
}

/// The time is over, and the restore goes on.
pub fn overdue(diagnostics: &mut Diagnostics, id: &ServiceId) {
    let detail = format!("Fork {id} was not restored within the time limit. {LATER}");
    warning(diagnostics, At::Block, "Restore is still under way", detail);
}

/// Terraform was stopped, and the restore goes on.
pub fn stopped(diagnostics: &mut Diagnostics, id: &ServiceId) {
    let detail = format!("Terraform was asked to stop while waiting for {id}. {LATER}");
    warning(diagnostics, At::Block, "Restore is still under way", detail);
}

/// Nobody can tell how far the restore is.
pub fn unwatched(diagnostics: &mut Diagnostics, failure: &ClientError) {
    let detail = format!("{} {LATER}", failure.explain());
    warning(diagnostics, At::Block, "Restore cannot be watched", detail);
}

/// Attributes that are used at creation only have been changed.
pub fn kept(diagnostics: &mut Diagnostics, attributes: &[&'static str]) {
    let Some(first) = attributes.first() else { return };
    let detail = format!(
        "{} cannot be changed after creation: the fork stays as it was made. To fork again, change \
         triggers, or set replace_on_source_change = true.",
        attributes.join(", ")
    );
    warning(diagnostics, At::Attribute(first), "Change without effect", detail);
}

/// A change goes on after its time limit.
pub fn change_goes_on(diagnostics: &mut Diagnostics, id: &ServiceId) {
    let detail = format!(
        "The change of {id} was accepted, and goes on without Terraform. To wait longer, raise \
         timeouts.update."
    );
    warning(diagnostics, At::Attribute("plan"), "Change is under way", detail);
}

/// The fork is still there after the time limit.
pub fn deletion_overdue(diagnostics: &mut Diagnostics, id: &ServiceId) {
    let detail = format!(
        "The deletion of {id} was accepted, but it is still there. Apply again later, or raise \
         timeouts.delete."
    );
    error(diagnostics, At::Block, "Deletion takes too long", detail);
}

/// Terraform was stopped while the fork was being deleted.
pub fn deletion_goes_on(diagnostics: &mut Diagnostics, id: &ServiceId) {
    let detail = format!("The deletion of {id} was accepted, and goes on by itself.");
    warning(diagnostics, At::Block, "Deletion is under way", detail);
}

/// An import of a service that is no fork.
pub fn not_a_fork(diagnostics: &mut Diagnostics, id: &ServiceId) {
    let detail = format!(
        "Service {id} was not forked from another one. Import a service that was, or manage this \
         one with another resource."
    );
    error(diagnostics, At::Block, "Not a fork", detail);
}

/// A `moved` block from a type that cannot hold a fork.
pub fn not_movable(diagnostics: &mut Diagnostics, from_type: &str) {
    let detail = format!(
        "A state of type {from_type} cannot become a fork. Services of type aiven_pg and aiven_mysql \
         can, where they were forked from another service."
    );
    error(diagnostics, At::Block, "Cannot be moved here", detail);
}
