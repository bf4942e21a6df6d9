//! The phase *replaying*: from the end of the base backup to the stop of the plan.

use crate::{
    domain::{
        binlog::{BinlogPosition, Flavour, GtidSet},
        fork::ForkPhase,
        recovery::{BaseTool, BinlogPlan},
    },
    engine::fork::{
        error::ForkError,
        mysql::{
            base, binlogs,
            binlogs::LocalLog,
            conf::Stage,
            door::Door,
            error::MySqlError,
            paths::Step,
            pipeline::{self, Span},
            runner::Job,
        },
    },
};

const DOING: &str = "replaying the log";

/// Replays on a base backup on which nothing was replayed yet.
pub(super) async fn replay(job: &Job<'_>) -> Result<(), ForkError> {
    job.watch.phase(ForkPhase::Replaying);
    let (paths, plan) = (job.paths(), &job.order.plan);
    // Even a server that was only started has changed the base backup a little.
    paths.mark(Step::Replaying, plan)?;
    job.start(Stage::Replay, DOING).await?;
    let door = Door { job };
    door.ask("forgetting the source's own source", forget_sql(plan.flavour)).await?;
    let end = backup_end(&door, plan).await?;
    paths.note_executed(&end.executed)?;
    begin_log(&door, plan, &end).await?;
    let span = span(plan, binlogs::local(&paths, plan), &end)?;
    if span.is_empty() {
        return Ok(());
    }
    pipeline::run(job, &span).await
}

fn forget_sql(flavour: Flavour) -> &'static str {
    match flavour {
        Flavour::MariaDb => "RESET SLAVE ALL;\n",
        Flavour::MySql => "RESET REPLICA ALL;\n",
    }
}

/// Where a base backup says that it ends.
#[derive(Debug, PartialEq, Eq)]
struct BackupEnd {
    at: Option<BinlogPosition>,
    executed: GtidSet,
}

async fn backup_end(door: &Door<'_>, plan: &BinlogPlan) -> Result<BackupEnd, ForkError> {
    let text = match plan.base.tool {
        BaseTool::MariaDbBackup | BaseTool::XtraBackup => {
            base::info(&door.job.order.site.data(), "binlog_info")?.unwrap_or_default()
        }
        BaseTool::Clone => {
            // It is there from the first start on.
            let sql = "SELECT binlog_file, binlog_position, gtid_executed \
                       FROM performance_schema.clone_status;\n";
            door.ask("asking where the base backup ends", sql).await?
        }
    };
    let fault = || MySqlError::Base {
        backup: plan.backup_name.clone(),
        what: "it does not say where in the log it ends".to_owned(),
    };
    parse_end(plan.flavour, &text).ok_or_else(|| fault().into())
}

/// File, offset and transactions, with tabs between them. The last may go on over several lines.
fn parse_end(flavour: Flavour, text: &str) -> Option<BackupEnd> {
    let mut parts = text.trim().splitn(3, '\t');
    let (file, offset) = (parts.next()?.trim().to_owned(), parts.next().unwrap_or("").trim());
    let executed = GtidSet::parse(flavour, parts.next().unwrap_or("")).ok()?;
    let at = match offset.parse() {
        Ok(offset) if !file.is_empty() => Some(BinlogPosition { file, offset }),
        Ok(_) | Err(_) => None,
    };
    Some(BackupEnd { at, executed })
}

/// Gives the fork's own log the transactions that are in the base backup, as its past.
async fn begin_log(door: &Door<'_>, plan: &BinlogPlan, end: &BackupEnd) -> Result<(), ForkError> {
    let doing = "beginning the fork's own log";
    let sql = match (plan.flavour, plan.base.tool) {
        (Flavour::MariaDb, _) => {
            format!("RESET MASTER;\nSET GLOBAL gtid_binlog_state = '{}';\n", end.executed)
        }
        // The server has them from its own tables.
        (Flavour::MySql, BaseTool::Clone) => return Ok(()),
        (Flavour::MySql, BaseTool::MariaDbBackup | BaseTool::XtraBackup) => {
            if plan.executed.is_none() {
                return Ok(());
            }
            let version = door.ask(doing, "SELECT VERSION();\n").await?;
            let old = version.starts_with("5.") || version.starts_with("8.0.");
            let reset = if old { "RESET MASTER" } else { "RESET BINARY LOGS AND GTIDS" };
            format!("{reset};\nSET GLOBAL gtid_purged = '{}';\n", end.executed)
        }
    };
    door.ask(doing, &sql).await.map(drop)
}

/// What is replayed. Where plan and base backup differ, nothing is.
fn span(plan: &BinlogPlan, logs: Vec<LocalLog>, end: &BackupEnd) -> Result<Span, ForkError> {
    let first = plan.log.first().map_or("", |log| log.name.as_str());
    let planned = plan.start_offset.map(|offset| BinlogPosition { file: first.to_owned(), offset });
    let other = |found: String| MySqlError::OtherBackup {
        backup: plan.backup_name.clone(),
        found,
        expected: match &planned {
            Some(planned) => planned.to_string(),
            None => format!("one of its binary logs from {first} on"),
        },
    };
    let start = match (&planned, &end.at) {
        // MySQL passes over what it has already, as the comparison at the end proves.
        (Some(planned), _) if plan.flavour == Flavour::MySql && plan.executed.is_some() => {
            planned.clone()
        }
        (Some(planned), Some(found)) if planned == found => found.clone(),
        (None, Some(found)) => found.clone(),
        (_, Some(found)) => return Err(other(found.to_string()).into()),
        (_, None) => return Err(other("an unknown position".to_owned()).into()),
    };
    let at = logs.iter().position(|log| log.name == start.file);
    let Some(at) = at else { return Err(other(start.to_string()).into()) };
    let files = logs[at..].to_vec();
    Ok(Span { files, start_offset: start.offset, stop_offset: plan.stop_offset })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::fork::mysql::paths::{
        Paths,
        tests::{plan, site},
    };
    use std::path::Path;

    fn end(text: &str) -> BackupEnd {
        parse_end(Flavour::MariaDb, text).unwrap()
    }

    fn try_span(plan: &BinlogPlan, end: &BackupEnd) -> Result<(usize, u64, u64), String> {
        let logs = binlogs::local(&Paths(&site(Path::new("/srv/btar"))), plan);
        let span = span(plan, logs, end).map_err(|error| error.to_string())?;
        Ok((span.files.len(), span.start_offset, span.stop_offset))
    }

    #[test]
    fn the_end_of_a_base_backup_is_read() {
        let read = end("bin.000002\t700601\t0-11-16\n");
        assert_eq!(read.at.unwrap().to_string(), "bin.000002:700601");
        assert_eq!(read.executed.to_string(), "0-11-16");
        let uuid = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
        let text = format!("b.1\t197\t{uuid}:1-5,\n{uuid}:7\n");
        let read = parse_end(Flavour::MySql, &text).unwrap();
        assert_eq!(read.executed.to_string(), format!("{uuid}:1-5:7"));
        assert_eq!(end("").at, None);
        assert_eq!(parse_end(Flavour::MariaDb, "a\t4\tx"), None);
    }

    #[test]
    fn another_base_backup_is_refused() {
        let mut plan = plan();
        assert_eq!(try_span(&plan, &end("bin.000001\t500\t0-11-3")).unwrap(), (1, 500, 2000));
        let refused = try_span(&plan, &end("bin.000001\t501\t")).unwrap_err();
        assert!(refused.contains("bin.000001:501") && refused.contains("bin.000001:500"));
        assert!(try_span(&plan, &end("")).unwrap_err().contains("unknown"));
        plan.start_offset = None;
        assert_eq!(try_span(&plan, &end("bin.000001\t501\t")).unwrap(), (1, 501, 2000));
        assert!(try_span(&plan, &end("bin.000009\t4\t")).is_err());
    }
}
