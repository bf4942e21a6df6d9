//! What was learned of logs, so that a restart reads no segment again.

use crate::engine::{
    catalog::{
        index::{IndexedSegment, Learned},
        observe::LogMemory,
    },
    state::{State, to_json},
};
use rusqlite::{Connection, params};
use tracing::warn;

impl LogMemory for State {
    fn recall(&self, scope: &str) -> Vec<Learned> {
        recall(&self.connection(), scope).unwrap_or_else(|error| {
            warn!(scope, %error, "what was learned of a log cannot be read; it is read anew");
            Vec::new()
        })
    }

    fn keep(&self, scope: &str, learned: &Learned) {
        if let Err(error) = keep(&self.connection(), scope, learned) {
            warn!(scope, %error, "what was learned of a log cannot be kept");
        }
    }
}

fn recall(connection: &Connection, scope: &str) -> rusqlite::Result<Vec<Learned>> {
    let sql = "SELECT key, version, document, carry FROM log_segment WHERE scope = ?1";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map([scope], |row| {
        let texts: (String, String, String, Option<String>) =
            (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
        Ok(texts)
    })?;
    let mut learned = Vec::new();
    for row in rows {
        let (key, version, document, carry) = row?;
        // A document of another version is a segment that is read anew.
        let Ok(mut segment) = serde_json::from_str::<IndexedSegment>(&document) else { continue };
        segment.carry = carry.and_then(|text| serde_json::from_str(&text).ok());
        learned.push(Learned { key, version, segment, forget_carry_of: None });
    }
    Ok(learned)
}

fn keep(connection: &Connection, scope: &str, learned: &Learned) -> rusqlite::Result<()> {
    if let Some(sha1) = &learned.forget_carry_of {
        let sql = "UPDATE log_segment SET carry = NULL WHERE scope = ?1 AND sha1 = ?2";
        connection.prepare_cached(sql)?.execute(params![scope, sha1])?;
    }
    let carry = learned.segment.carry.as_ref().map(to_json);
    let document = to_json(&IndexedSegment { carry: None, ..learned.segment.clone() });
    let sql = "INSERT OR REPLACE INTO log_segment VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let values =
        params![scope, learned.key, learned.version, learned.segment.sha1, document, carry];
    connection.prepare_cached(sql)?.execute(values).map(drop)
}
