//! What was asked for the services of the configuration.

use crate::{
    domain::ids::ServiceId,
    engine::state::{State, StateError, from_json, to_json},
};
use chrono::{DateTime, Utc};
use rusqlite::{OptionalExtension, params};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// What the API has changed about a configured service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StoredService {
    /// Version of this document.
    pub version: u32,
    /// `user_config` as it was sent, the secondary regions among it.
    pub user_config: Map<String, Value>,
    /// Plan, when changed.
    pub plan: Option<String>,
    /// Whether deletion and power-off are refused.
    pub termination_protection: bool,
    /// Tags.
    pub tags: BTreeMap<String, String>,
    /// When it was last changed.
    pub updated_at: Option<DateTime<Utc>>,
}

impl State {
    /// What was asked for a service; the default when nothing was.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn service(&self, id: &ServiceId) -> Result<StoredService, StateError> {
        let fault = |source| StateError::Database { doing: "reading a service", source };
        let sql = "SELECT document FROM service WHERE project = ?1 AND name = ?2";
        let found: Option<String> = self
            .connection()
            .query_row(sql, params![id.project.as_str(), id.service.as_str()], |row| row.get(0))
            .optional()
            .map_err(fault)?;
        found.map_or_else(
            || Ok(StoredService { version: 1, ..StoredService::default() }),
            |text| from_json("service", &text),
        )
    }

    /// Keeps what was asked for a service.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn put_service(&self, id: &ServiceId, service: &StoredService) -> Result<(), StateError> {
        let fault = |source| StateError::Database { doing: "keeping a service", source };
        let sql = "INSERT INTO service VALUES (?1, ?2, ?3)
                   ON CONFLICT DO UPDATE SET document = excluded.document";
        let values = params![id.project.as_str(), id.service.as_str(), to_json(service)];
        self.connection().execute(sql, values).map(drop).map_err(fault)
    }
}
