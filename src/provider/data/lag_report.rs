//! Reads the newest lag out of the report endpoint's charts, whose names are free-form.

use chrono::{DateTime, NaiveDate, Utc};
use serde_json::Value;

/// A measured lag.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Lag {
    pub(super) seconds: u64,
    pub(super) measured_at: DateTime<Utc>,
}

/// The newest lag of a report: `{"metrics": {"<group>": {"data": {"cols": […], "rows": […]}}}}`. Where
/// several series end, as with several nodes or regions, the largest lag counts.
pub(super) fn newest(report: &Value) -> Option<Lag> {
    let groups = report["metrics"].as_object()?;
    // Where some groups speak of lag, the others are something else.
    let speaks = |name: &String| name.to_ascii_lowercase().contains("lag");
    let some_speak = groups.keys().any(speaks);
    let newest = groups
        .iter()
        .filter(|(name, _)| !some_speak || speaks(name))
        .filter_map(|(_, group)| newest_of(group["data"]["rows"].as_array()?));
    newest.max_by_key(|lag| lag.seconds)
}

fn newest_of(rows: &[Value]) -> Option<Lag> {
    let row = |row: &Value| {
        let cells = row.as_array()?;
        let measured_at = moment(cells.first()?)?;
        let seconds = cells[1..]
            .iter()
            .filter_map(Value::as_f64)
            .fold(None, |most, value| Some(most.map_or(value, |most: f64| most.max(value))))?;
        Some(Lag { seconds: whole(seconds), measured_at })
    };
    // The first row repeats the columns, and is no measurement.
    rows.iter().filter_map(row).max_by_key(|lag| lag.measured_at)
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it is clamped to what fits"
)]
fn whole(seconds: f64) -> u64 {
    seconds.clamp(0.0, 1e15).ceil() as u64
}

/// A time as a chart has it: `Date(2026,6,22,10,0,0)` with months from 0, RFC 3339, or seconds.
fn moment(cell: &Value) -> Option<DateTime<Utc>> {
    if let Some(seconds) = cell.as_i64() {
        return DateTime::from_timestamp(seconds, 0);
    }
    let text = cell.as_str()?;
    let Some(parts) = text.strip_prefix("Date(").and_then(|rest| rest.strip_suffix(')')) else {
        return DateTime::parse_from_rfc3339(text).ok().map(|time| time.with_timezone(&Utc));
    };
    let parts: Vec<u32> = parts.split(',').map_while(|part| part.trim().parse().ok()).collect();
    let at = |index: usize| parts.get(index).copied().unwrap_or(0);
    let date = NaiveDate::from_ymd_opt(i32::try_from(at(0)).ok()?, at(1) + 1, at(2))?;
    Some(date.and_hms_opt(at(3), at(4), at(5))?.and_utc())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(metrics: &Value, expect: Option<(u64, &str)>) {
        let found = newest(&json!({ "metrics": metrics }));
        let expect = expect.map(|(seconds, at)| Lag { seconds, measured_at: at.parse().unwrap() });
        assert_eq!(found, expect, "{metrics}");
    }

    fn group(rows: &Value) -> Value {
        json!({"data": {"cols": [], "rows": rows}})
    }

    #[test]
    fn the_newest_row_counts_with_its_largest_series() {
        let columns = json!([{"label": "time"}, {"label": "a"}, {"label": "b"}]);
        let rows =
            json!([columns, ["Date(2026,10,23,9,0,0)", 5, 7], ["Date(2026,10,23,8,0,0)", 99, 0]]);
        check(&json!({"lag": group(&rows)}), Some((7, "2026-11-23T09:00:00Z")));
        let gap =
            json!([columns, ["2026-11-23T09:00:00Z", null, 2.5], ["2026-11-23T09:05:00Z", null]]);
        check(&json!({"x": group(&gap)}), Some((3, "2026-11-23T09:00:00Z")));
    }

    #[test]
    fn other_groups_than_lag_are_left_out() {
        let rows = |value: u64| group(&json!([["2026-11-23T09:00:00Z", value]]));
        let metrics = json!({"bytes_sent": rows(1_000_000), "replication_lag_a": rows(4)});
        check(&metrics, Some((4, "2026-11-23T09:00:00Z")));
    }

    #[test]
    fn without_a_measurement_there_is_no_lag() {
        check(&json!({}), None);
        check(&json!({"lag": group(&json!([[{"label": "time"}]]))}), None);
        check(&json!({"lag": null}), None);
        assert_eq!(newest(&Value::Null), None);
    }
}
