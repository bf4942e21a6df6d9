//! The status as metrics in Prometheus' text format.
//!
//! Source of the format: "Exposition formats" in Prometheus' documentation, version 0.0.4.

use crate::{
    api::status::{CopyStatus, ForkStatus, Status},
    domain::target_time,
    engine::{app::App, error::AppError},
};
use std::fmt::Write as _;

impl App {
    /// All metrics.
    ///
    /// # Errors
    /// [`AppError::State`].
    pub fn metrics(&self) -> Result<String, AppError> {
        Ok(render(&self.status()?))
    }
}

/// A metric of every copy: name, help, value.
type CopyMetric = (&'static str, &'static str, fn(&CopyStatus) -> Option<String>);

const COPY_METRICS: &[CopyMetric] = &[
    ("btar_replication_lag_seconds", "How far the copy's log is behind the primary's.", |copy| {
        copy.lag_seconds.map(|lag| lag.to_string())
    }),
    (
        "btar_base_backup_lag_seconds",
        "How long the oldest base backup of the primary has been missing in the copy.",
        |copy| copy.base_backup_lag_seconds.map(|lag| lag.to_string()),
    ),
    (
        "btar_restore_window_earliest_timestamp_seconds",
        "First moment that the copy can restore.",
        |copy| copy.ranges.first().and_then(|range| seconds(&range.start)),
    ),
    (
        "btar_restore_window_latest_timestamp_seconds",
        "Last moment that the copy can restore.",
        |copy| copy.ranges.last().and_then(|range| seconds(&range.end)),
    ),
    ("btar_restorable_backups", "Base backups that the copy can restore.", |copy| {
        Some(copy.restorable_backups.to_string())
    }),
    ("btar_copy_bytes", "Size of the copy.", |copy| Some(copy.stored_bytes.to_string())),
    ("btar_copy_objects", "Objects of the copy.", |copy| Some(copy.objects.to_string())),
    ("btar_pending_bytes", "Bytes of base backups that are still to be copied.", |copy| {
        Some(copy.pending_bytes.to_string())
    }),
    ("btar_copy_problems", "Things that keep the copy from being complete.", |copy| {
        Some(copy.problems.len().to_string())
    }),
    ("btar_primary_reachable", "Whether the primary region's store can be read.", |copy| {
        Some(u8::from(copy.primary_error.is_none()).to_string())
    }),
    ("btar_copy_reachable", "Whether the copy can be read.", |copy| {
        Some(u8::from(copy.error.is_none()).to_string())
    }),
];

fn render(status: &Status) -> String {
    let mut text = String::new();
    let copies = || status.copies.iter().filter(|copy| copy.region.is_some());
    for (name, help, value) in COPY_METRICS {
        head(&mut text, name, help);
        for copy in copies() {
            let Some(value) = value(copy) else { continue };
            let region = copy.region.as_deref().unwrap_or_default();
            let labels = [
                ("project", copy.project.as_str()),
                ("service", copy.service.as_str()),
                ("region", region),
            ];
            sample(&mut text, name, &labels, &value);
        }
    }
    head(&mut text, "btar_fork_info", "The forks with their phases.");
    for fork in &status.forks {
        let ForkStatus { project, service, region, phase, .. } = fork;
        let labels =
            [("project", project), ("service", service), ("region", region), ("phase", phase)];
        sample(&mut text, "btar_fork_info", &labels.map(|(k, v)| (k, v.as_str())), "1");
    }
    text
}

fn head(text: &mut String, name: &str, help: &str) {
    writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge").expect(NEVER);
}

fn sample(text: &mut String, name: &str, labels: &[(&str, &str)], value: &str) {
    let labels: Vec<String> =
        labels.iter().map(|(key, value)| format!("{key}=\"{}\"", escaped(value))).collect();
    writeln!(text, "{name}{{{}}} {value}", labels.join(",")).expect(NEVER);
}

const NEVER: &str = "writing to a string cannot fail";

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Seconds since 1970 with a fraction of microseconds.
fn seconds(text: &str) -> Option<String> {
    let time = target_time::parse(text).ok()?;
    Some(format!("{}.{:06}", time.timestamp(), time.timestamp_subsec_micros()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::backups::Range;

    #[test]
    fn what_a_scrape_gets() {
        let copy = CopyStatus {
            project: "shop".into(),
            service: "orders".into(),
            region: Some("aws-eu-central-1".into()),
            restorable_backups: 1,
            ranges: vec![Range {
                start: "2026-11-23T07:00:00Z".into(),
                end: "2026-11-23T09:12:44.120000Z".into(),
                exact: true,
            }],
            lag_seconds: Some(3),
            base_backup_lag_seconds: Some(70),
            problems: vec!["x".into()],
            ..CopyStatus::default()
        };
        let disabled = CopyStatus::default();
        let fork = ForkStatus { phase: "ready\"\n".into(), ..ForkStatus::default() };
        let status =
            Status { copies: vec![copy, disabled], forks: vec![fork], ..Status::default() };
        insta::assert_snapshot!(render(&status));
    }
}
