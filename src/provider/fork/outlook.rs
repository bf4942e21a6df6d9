//! What a fork would have: which region, which moment, which base backup, and what would be lost.

use crate::{
    api::backups::{Backup, BackupList, RegionBackup, RegionRange},
    domain::{
        cloud::CloudName,
        target_time,
        violation::Violation,
        window::{RestoreRange, RestoreWindow},
    },
    provider::{duration, fork::model::Target},
};
use chrono::{DateTime, Utc};
use std::time::Duration;

/// The copies in one secondary region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::provider) struct RegionCopy {
    pub(in crate::provider) cloud: CloudName,
    pub(in crate::provider) window: RestoreWindow,
    pub(in crate::provider) bases: Vec<Base>,
}

/// A base backup with a copy in the region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::provider) struct Base {
    pub(in crate::provider) name: String,
    pub(in crate::provider) time: DateTime<Utc>,
    pub(in crate::provider) size_bytes: u64,
    /// The gapless log after it, where the API tells.
    pub(in crate::provider) log: Option<Log>,
}

/// Files of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::provider) struct Log {
    pub(in crate::provider) segments: u64,
    pub(in crate::provider) size_bytes: u64,
}

/// What a fork would have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::provider) struct Outlook {
    /// The moment to ask for; `None` for everything that the copy has.
    pub(in crate::provider) target_time: Option<DateTime<Utc>>,
    /// The moment whose contents the fork would have.
    pub(in crate::provider) moment: DateTime<Utc>,
    /// How long ago that is: what would be lost.
    pub(in crate::provider) rpo: Duration,
    /// The base backup that it would most likely be restored from.
    pub(in crate::provider) base: Option<Base>,
}

/// The secondary regions that hold copies, in order of their names.
pub(in crate::provider) fn copies(list: &BackupList) -> Vec<RegionCopy> {
    let ranges = list.pitr.iter().flat_map(|pitr| &pitr.additional_regions);
    let copied = list.backups.iter().flat_map(|backup| &backup.additional_regions);
    let mut clouds: Vec<CloudName> = ranges
        .map(|range| range.cloud.as_str())
        .chain(copied.map(|copy| copy.cloud.as_str()))
        .filter_map(|name| CloudName::parse(name).ok())
        .collect();
    clouds.sort();
    clouds.dedup();
    let copy = |cloud: CloudName| {
        let bases = bases(list, &cloud);
        let window = window(list, &cloud, &bases);
        RegionCopy { cloud, window, bases }
    };
    clouds.into_iter().map(copy).collect()
}

fn bases(list: &BackupList, cloud: &CloudName) -> Vec<Base> {
    let logs: Vec<&RegionBackup> = list
        .pitr
        .iter()
        .flat_map(|pitr| &pitr.additional_regions)
        .filter(|range| range.cloud == cloud.as_str())
        .flat_map(|range| &range.base_backups)
        .collect();
    let log = |name: &str| {
        let found = logs.iter().find(|backup| backup.backup_name == name)?;
        Some(Log { segments: found.log_segments, size_bytes: found.log_bytes })
    };
    let in_region = |backup: &&Backup| {
        backup
            .additional_regions
            .iter()
            .any(|copy| copy.cloud == cloud.as_str() && copy.restorable.unwrap_or(true))
    };
    let mut bases: Vec<Base> = list
        .backups
        .iter()
        .filter(in_region)
        .filter_map(|backup| {
            let time = moment(&backup.backup_time)?;
            Some(Base {
                name: backup.backup_name.clone(),
                time,
                size_bytes: backup.data_size,
                log: log(&backup.backup_name),
            })
        })
        .collect();
    bases.sort_by_key(|base| base.time);
    bases
}

/// The restore window of a region. Where the API gives no windows at all, it reaches from the oldest
/// to the newest backup that is there.
fn window(list: &BackupList, cloud: &CloudName, bases: &[Base]) -> RestoreWindow {
    let ranges = match &list.pitr {
        Some(pitr) => pitr
            .additional_regions
            .iter()
            .filter(|range| range.cloud == cloud.as_str())
            .flat_map(ranges)
            .collect(),
        None => bases
            .first()
            .zip(bases.last())
            .map(|(first, last)| RestoreRange {
                earliest: first.time,
                latest: last.time,
                exact: false,
            })
            .into_iter()
            .collect(),
    };
    RestoreWindow::new(ranges)
}

/// The ranges of a window: the disjoint ones where the API tells them, else its two ends.
fn ranges(region: &RegionRange) -> Vec<RestoreRange> {
    let range = |start: &str, end: &str, exact: bool| {
        Some(RestoreRange { earliest: moment(start)?, latest: moment(end)?, exact })
    };
    if region.ranges.is_empty() {
        let exact = region.exact.unwrap_or(false);
        range(&region.pitr_range_start, &region.pitr_range_end, exact).into_iter().collect()
    } else {
        region.ranges.iter().filter_map(|r| range(&r.start, &r.end, r.exact)).collect()
    }
}

/// A time as the API writes it.
pub(in crate::provider) fn moment(text: &str) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc3339(text).ok().map(|time| time.with_timezone(&Utc))
}

/// Why no region could be chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::provider) enum NoRegion {
    /// A rule is broken.
    Rule(Violation),
    /// Several regions hold copies, and none was named.
    Several(Vec<CloudName>),
    /// No secondary region is enabled.
    None,
}

/// The copy to fork from. `wanted` is the region as configured, `enabled` are the secondary regions
/// of the source's settings, which may hold nothing yet.
pub(in crate::provider) fn choose(
    copies: &[RegionCopy],
    enabled: &[CloudName],
    wanted: Option<&CloudName>,
) -> Result<RegionCopy, NoRegion> {
    let empty = |cloud: &CloudName| RegionCopy {
        cloud: cloud.clone(),
        window: RestoreWindow::default(),
        bases: Vec::new(),
    };
    let mut valid: Vec<CloudName> = copies.iter().map(|copy| copy.cloud.clone()).collect();
    if valid.is_empty() {
        valid = enabled.to_vec();
    }
    let cloud = match (wanted, valid.as_slice()) {
        (Some(cloud), _) if valid.contains(cloud) || enabled.contains(cloud) => cloud.clone(),
        (Some(cloud), _) => {
            return Err(NoRegion::Rule(Violation::RegionWithoutCopy {
                region: cloud.clone(),
                valid,
            }));
        }
        (None, [only]) => only.clone(),
        (None, []) => return Err(NoRegion::None),
        (None, _) => return Err(NoRegion::Several(valid)),
    };
    Ok(copies.iter().find(|copy| copy.cloud == cloud).cloned().unwrap_or_else(|| empty(&cloud)))
}

/// What a fork from `copy` would have.
pub(in crate::provider) fn outlook(
    copy: &RegionCopy,
    target: Target,
    now: DateTime<Utc>,
) -> Result<Outlook, Violation> {
    let nothing = || Violation::NothingRestorable { target: None };
    let (target_time, moment) = match target {
        Target::LatestTransaction => (None, copy.window.latest().ok_or_else(nothing)?),
        Target::LatestBaseBackup => {
            let newest = copy.bases.last().ok_or_else(nothing)?.time;
            // A backup's time may be its beginning; it can be restored from its end on.
            let moment = copy.window.nearest(newest).ok_or_else(nothing)?;
            (Some(moment), moment)
        }
        Target::PointInTime(time) => {
            copy.window.check(time, now)?;
            (Some(time), time)
        }
    };
    let base = copy.bases.iter().rfind(|base| base.time <= moment).cloned();
    let rpo = (now - moment).to_std().unwrap_or_default();
    Ok(Outlook { target_time, moment, rpo, base })
}

impl Outlook {
    /// The line for people: `target …, RPO 3m12s, window […], base backup X (212 GiB) + 41 WAL
    /// segments`. An earlier moment than the latest needs fewer segments than there are.
    pub(in crate::provider) fn line(&self, window: &RestoreWindow) -> String {
        let target = match self.target_time {
            Some(time) => target_time::format(time),
            None => format!("latest transaction, {}", target_time::format(self.moment)),
        };
        let base = self.base.as_ref().map_or(String::new(), |base| {
            let few = if self.target_time.is_none() { "" } else { "up to " };
            let log = base
                .log
                .map_or(String::new(), |log| format!(" + {few}{} WAL segments", log.segments));
            format!(", base backup {} ({}){log}", base.name, size(base.size_bytes))
        });
        format!("target {target}, RPO {}, window {window}{base}", duration::format(self.rpo))
    }
}

fn size(bytes: u64) -> String {
    let units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
    let mut number = bytes;
    let mut unit = 0;
    while number >= 1024 && unit + 1 < units.len() {
        number /= 1024;
        unit += 1;
    }
    format!("{number} {}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const CENTRAL: &str = "aws-eu-central-1";

    fn name(text: &str) -> CloudName {
        CloudName::parse(text).unwrap()
    }

    fn time(text: &str) -> DateTime<Utc> {
        format!("2026-11-23T{text}Z").parse().unwrap()
    }

    /// Two base backups in the region, at 07:00 and 08:00.
    fn list(pitr: serde_json::Value) -> BackupList {
        let backup = |hour: &str| {
            json!({"backup_name": format!("b{hour}"), "data_size": 227_633_266_688_u64,
                "backup_time": format!("2026-11-23T{hour}:00:00.000000Z"),
                "storage_location": "aws-eu-west-1",
                "additional_regions": [{"cloud": CENTRAL, "region": "eu-central-1"}]})
        };
        let mut list = json!({"backups": [backup("08"), backup("07")]});
        if !pitr.is_null() {
            list["pitr"] = json!({
                "primary_region": {"pitr_range_start": null, "pitr_range_end": null},
                "additional_regions": pitr,
            });
        }
        serde_json::from_value(list).unwrap()
    }

    fn region(ranges: serde_json::Value) -> serde_json::Value {
        json!([{"cloud": CENTRAL, "region": "eu-central-1", "ranges": ranges,
            "pitr_range_start": "2026-11-23T07:01:00Z",
            "pitr_range_end": "2026-11-23T09:12:44.120000Z"}])
    }

    fn check_window(list: &BackupList, expect: &str) -> RegionCopy {
        let copy = copies(list).remove(0);
        assert_eq!(copy.window.to_string(), expect);
        copy
    }

    #[test]
    fn a_window_comes_from_ranges_or_ends_or_backups() {
        let ends = "[2026-11-23T07:01:00Z .. 2026-11-23T09:12:44.120000Z]";
        check_window(&list(region(json!([]))), ends);
        let ranges = json!([
            {"start": "2026-11-23T07:01:00Z", "end": "2026-11-23T07:30:00Z", "exact": true},
            {"start": "2026-11-23T08:01:00Z", "end": "2026-11-23T09:00:00Z", "exact": true},
        ]);
        check_window(
            &list(region(ranges)),
            "[2026-11-23T07:01:00Z .. 2026-11-23T07:30:00Z], \
             [2026-11-23T08:01:00Z .. 2026-11-23T09:00:00Z]",
        );
        // No windows at all: from the oldest to the newest backup.
        check_window(
            &list(serde_json::Value::Null),
            "[2026-11-23T07:00:00Z .. 2026-11-23T08:00:00Z]",
        );
        // Windows, but none for this region: nothing can be restored there yet.
        check_window(&list(json!([])), "");
    }

    #[test]
    fn targets_are_moments_of_the_window() {
        let copy = copies(&list(region(json!([])))).remove(0);
        let now = time("09:15:56");
        let latest = outlook(&copy, Target::LatestTransaction, now).unwrap();
        assert_eq!((latest.target_time, latest.rpo.as_secs()), (None, 191));
        assert_eq!(latest.base.as_ref().unwrap().name, "b08");
        let base = outlook(&copy, Target::LatestBaseBackup, now).unwrap();
        assert_eq!(base.target_time, Some(time("08:00:00")));
        let point = outlook(&copy, Target::PointInTime(time("07:41:12")), now).unwrap();
        assert_eq!(point.base.as_ref().unwrap().name, "b07");
        assert_eq!(
            point.line(&copy.window),
            "target 2026-11-23T07:41:12Z, RPO 1h34m, window [2026-11-23T07:01:00Z .. \
             2026-11-23T09:12:44.120000Z], base backup b07 (212 GiB)"
        );
        let code = |at: &str| {
            outlook(&copy, Target::PointInTime(time(at)), now).map_err(|e| e.code()).unwrap_err()
        };
        assert_eq!(code("07:00:59"), "time_outside_window");
        assert_eq!(code("09:12:45"), "time_outside_window");
        assert_eq!(code("09:16:00"), "time_in_future");
    }

    #[test]
    fn the_log_after_a_base_backup_is_told_where_the_api_tells() {
        let mut list = list(region(json!([])));
        list.pitr.as_mut().unwrap().additional_regions[0].base_backups = vec![RegionBackup {
            backup_name: "b08".to_owned(),
            log_segments: 41,
            log_bytes: 1,
            ..RegionBackup::default()
        }];
        let copy = copies(&list).remove(0);
        let line = |target| outlook(&copy, target, time("09:15:56")).unwrap().line(&copy.window);
        let latest = line(Target::LatestTransaction);
        assert!(latest.ends_with("base backup b08 (212 GiB) + 41 WAL segments"), "{latest}");
        let at = line(Target::PointInTime(time("09:00:00")));
        assert!(at.ends_with(" + up to 41 WAL segments"), "{at}");
        let other = line(Target::PointInTime(time("07:30:00")));
        assert!(other.ends_with("base backup b07 (212 GiB)"), "{other}");
    }

    #[test]
    fn a_base_backup_before_the_window_is_restored_from_its_first_moment() {
        let mut list = list(region(json!([])));
        list.backups.remove(0);
        let copy = copies(&list).remove(0);
        let base = outlook(&copy, Target::LatestBaseBackup, time("10:00:00")).unwrap();
        assert_eq!(base.target_time, Some(time("07:01:00")));
    }

    #[test]
    fn the_region_is_the_only_one_or_the_one_that_was_named() {
        let copies = copies(&list(region(json!([]))));
        let check = |wanted: Option<&str>, enabled: &[&str]| {
            let enabled: Vec<_> = enabled.iter().map(|text| name(text)).collect();
            let wanted = wanted.map(name);
            choose(&copies, &enabled, wanted.as_ref()).map(|copy| copy.cloud.as_str().to_owned())
        };
        assert_eq!(check(None, &[]), Ok(CENTRAL.to_owned()));
        assert_eq!(check(Some(CENTRAL), &[]), Ok(CENTRAL.to_owned()));
        let wrong = check(Some("aws-eu-north-1"), &[]).unwrap_err();
        let NoRegion::Rule(violation) = wrong else { panic!("{wrong:?}") };
        assert!(violation.explain().ends_with("holds a copy: aws-eu-central-1."), "{violation}");
        // Enabled, but nothing has arrived: the region is right and has nothing to restore.
        assert_eq!(check(Some("aws-eu-north-1"), &["aws-eu-north-1"]), Ok("aws-eu-north-1".into()));
        assert_eq!(choose(&[], &[], None).unwrap_err(), NoRegion::None);
        let two = [name("a"), name("b")];
        assert_eq!(choose(&[], &two, None).unwrap_err(), NoRegion::Several(two.to_vec()));
        let empty = choose(&[], &two, Some(&two[0])).unwrap();
        let error = outlook(&empty, Target::LatestTransaction, time("10:00:00")).unwrap_err();
        assert_eq!(error.code(), "nothing_restorable");
    }
}
