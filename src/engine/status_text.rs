//! The status as a table that fits a terminal.

use crate::api::status::{CopyStatus, ForkStatus, Status};
use std::fmt::Write as _;

/// Writes the table.
#[must_use]
pub fn table(status: &Status) -> String {
    let mut text = String::new();
    let head = ["SERVICE", "REGION", "RESTORABLE", "BACKUPS", "LAG", "SIZE"];
    let rows: Vec<[String; 6]> = status.copies.iter().map(copy_row).collect();
    let notes = |at: usize| copy_notes(&status.copies[at]);
    write_table(&mut text, &head, &rows, notes);
    if !status.forks.is_empty() {
        text.push('\n');
        let head = ["FORK", "FROM", "REGION", "PHASE", "AS OF", "ADDRESS"];
        let rows: Vec<[String; 6]> = status.forks.iter().map(fork_row).collect();
        let notes = |at: usize| status.forks[at].error.iter().cloned().collect::<Vec<_>>();
        write_table(&mut text, &head, &rows, notes);
    }
    text
}

fn copy_row(copy: &CopyStatus) -> [String; 6] {
    let Some(region) = &copy.region else {
        let none = || "-".to_owned();
        return [
            format!("{}/{}", copy.project, copy.service),
            "(none enabled)".to_owned(),
            none(),
            none(),
            none(),
            none(),
        ];
    };
    let ranges: Vec<String> = copy
        .ranges
        .iter()
        .map(|range| {
            let estimated = if range.exact { "" } else { " (estimated)" };
            format!("{} .. {}{estimated}", range.start, range.end)
        })
        .collect();
    [
        format!("{}/{}", copy.project, copy.service),
        region.clone(),
        if ranges.is_empty() { "nothing yet".to_owned() } else { ranges.join(", ") },
        format!("{} of {}", copy.restorable_backups, copy.backups),
        copy.lag_seconds.map_or_else(|| "-".to_owned(), duration),
        size(copy.stored_bytes),
    ]
}

fn copy_notes(copy: &CopyStatus) -> Vec<String> {
    let mut notes = Vec::new();
    if copy.pending_bytes > 0 {
        notes.push(format!("{} of base backups are still to be copied", size(copy.pending_bytes)));
    }
    if let Some(error) = &copy.primary_error {
        notes.push(format!("the primary region {} is not read: {error}", copy.primary_region));
    }
    if let Some(error) = &copy.error {
        notes.push(format!("the copy cannot be read: {error}"));
    }
    notes.extend(copy.problems.iter().cloned());
    notes
}

fn fork_row(fork: &ForkStatus) -> [String; 6] {
    [
        format!("{}/{}", fork.project, fork.service),
        fork.source.clone(),
        fork.region.clone(),
        fork.phase.clone(),
        fork.recovered_to.clone(),
        fork.address.clone(),
    ]
}

fn write_table(
    text: &mut String,
    head: &[&str; 6],
    rows: &[[String; 6]],
    notes: impl Fn(usize) -> Vec<String>,
) {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([head[column].len()]).max().unwrap_or(0)
    };
    let widths: [usize; 6] = std::array::from_fn(width);
    let mut line = |cells: [&str; 6]| {
        let mut out = String::new();
        for (cell, width) in cells.iter().zip(widths) {
            write!(out, "{cell:width$}  ").expect("writing to a string cannot fail");
        }
        text.push_str(out.trim_end());
        text.push('\n');
    };
    line(*head);
    for (at, row) in rows.iter().enumerate() {
        line(std::array::from_fn(|column| row[column].as_str()));
        for note in notes(at) {
            line([&format!("  ! {note}"), "", "", "", "", ""]);
        }
    }
}

/// `0s`, `45s`, `3m12s`, `2h05m`.
fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
    }
}

/// With one decimal in the unit that fits.
fn size(bytes: u64) -> String {
    let mut unit = 1_u64;
    for name in ["B", "KiB", "MiB", "GiB"] {
        if bytes < unit * 1024 {
            return scaled(bytes, unit, name);
        }
        unit *= 1024;
    }
    scaled(bytes, unit, "TiB")
}

fn scaled(bytes: u64, unit: u64, name: &str) -> String {
    if unit == 1 {
        return format!("{bytes} {name}");
    }
    let tenths = u128::from(bytes) * 10 / u128::from(unit);
    format!("{}.{} {name}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::backups::Range;

    #[test]
    fn a_table_of_copies_and_forks() {
        let copy = CopyStatus {
            project: "shop".into(),
            service: "orders".into(),
            primary_region: "aws-eu-west-1".into(),
            primary_error: Some("the directory /srv/west does not exist".into()),
            region: Some("aws-eu-central-1".into()),
            restorable_backups: 1,
            backups: 2,
            ranges: vec![Range {
                start: "2026-11-23T07:00:00Z".into(),
                end: "2026-11-23T09:12:44.120000Z".into(),
                exact: true,
            }],
            lag_seconds: Some(192),
            stored_bytes: 6_500_000,
            ..CopyStatus::default()
        };
        let none = CopyStatus { project: "shop".into(), service: "x".into(), ..Default::default() };
        let fork = ForkStatus {
            project: "shop".into(),
            service: "orders-dr".into(),
            source: "shop/orders".into(),
            region: "aws-eu-central-1".into(),
            phase: "ready".into(),
            recovered_to: "2026-11-23T09:12:44Z".into(),
            address: "127.0.0.1:55000".into(),
            error: None,
        };
        let status = Status { copies: vec![copy, none], forks: vec![fork], ..Status::default() };
        insta::assert_snapshot!(table(&status));
    }

    #[test]
    fn figures_for_people() {
        assert_eq!([duration(7), duration(192), duration(7500)], ["7s", "3m12s", "2h05m"]);
        let sizes = [size(12), size(2048), size(6_500_000), size(u64::MAX)];
        assert_eq!(sizes, ["12 B", "2.0 KiB", "6.1 MiB", "16777215.9 TiB"]);
    }
}
