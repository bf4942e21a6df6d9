//! What clients ask for besides services: clouds, projects, service types.

use crate::{
    api::{
        catalog::{CloudItem, CloudList},
        service::{
            ADDITIONAL_BACKUP_REGIONS, PROJECT_TO_FORK_FROM, RECOVERY_TARGET_TIME,
            SERVICE_TO_FORK_FROM,
        },
    },
    engine::{
        app::{App, services::REGIONS_MAX},
        error::AppError,
    },
};
use serde_json::{Value, json};
use std::collections::BTreeSet;

impl App {
    /// The clouds of the configuration.
    #[must_use]
    pub fn clouds(&self) -> CloudList {
        let item = |region: &crate::engine::config::Region| CloudItem {
            cloud_name: region.cloud.name.to_string(),
            geo_region: String::new(),
            cloud_description: Some(region.cloud.name.to_string()),
            provider: region.cloud.provider.as_ref().map(ToString::to_string),
            provider_description: region.cloud.provider.as_ref().map(ToString::to_string),
            geo_latitude: None,
            geo_longitude: None,
        };
        CloudList { clouds: self.settings.regions.iter().map(item).collect() }
    }

    /// The clouds that a project may use: all of them.
    ///
    /// # Errors
    /// [`AppError::NotFound`].
    pub fn project_clouds(&self, project: &str) -> Result<CloudList, AppError> {
        self.project(project)?;
        Ok(self.clouds())
    }

    /// The projects that the configuration names.
    #[must_use]
    pub fn projects(&self) -> Value {
        let names: BTreeSet<&str> =
            self.settings.services.iter().map(|service| service.id.project.as_str()).collect();
        let projects: Vec<Value> = names.into_iter().map(describe_project).collect();
        json!({"projects": projects, "project_membership": {}, "project_memberships": {}})
    }

    /// One project.
    ///
    /// # Errors
    /// [`AppError::NotFound`].
    pub fn get_project(&self, project: &str) -> Result<Value, AppError> {
        let project = self.project(project)?;
        Ok(json!({ "project": describe_project(project.as_str()) }))
    }

    /// One service type with the JSON schema of its settings.
    ///
    /// # Errors
    /// [`AppError::NotFound`].
    pub fn service_type(&self, project: &str, name: &str) -> Result<Value, AppError> {
        self.project(project)?;
        match name {
            "pg" => Ok(pg_type()),
            "mysql" => Ok(mysql_type()),
            _ => Err(AppError::NotFound(format!(
                "Service type {name} does not exist. Types here: mysql, pg."
            ))),
        }
    }

    /// All service types.
    ///
    /// # Errors
    /// [`AppError::NotFound`].
    pub fn service_types(&self, project: &str) -> Result<Value, AppError> {
        self.project(project)?;
        Ok(json!({ "service_types": {"mysql": mysql_type(), "pg": pg_type()} }))
    }

    /// Checks that a project exists, for answers that are empty here.
    ///
    /// # Errors
    /// [`AppError::NotFound`].
    pub fn require_project(&self, project: &str) -> Result<(), AppError> {
        self.project(project).map(drop)
    }
}

fn describe_project(name: &str) -> Value {
    json!({
        "project_name": name,
        "account_id": name,
        "default_cloud": null,
        "billing_currency": "EUR",
        "billing_extra_text": null,
        "vat_id": "",
        "tech_emails": [],
        "tags": {},
    })
}

fn pg_type() -> Value {
    service_type("PostgreSQL - Object-Relational Database Management System", "PostgreSQL settings")
}

fn mysql_type() -> Value {
    service_type("MySQL - Relational Database Management System", "MySQL settings")
}

/// A type of services with backup to another region and restores to a moment.
fn service_type(description: &str, title: &str) -> Value {
    let name_or_null = |title: &str, length: u32| {
        json!({
            "title": title, "type": ["string", "null"], "maxLength": length, "createOnly": true,
        })
    };
    json!({
        "description": description,
        "service_plans": [],
        "user_config_schema": {
            "title": title,
            "type": "object",
            "additionalProperties": true,
            "properties": {
                ADDITIONAL_BACKUP_REGIONS: {
                    "title": "Additional Cloud Regions for Backup Replication",
                    "type": "array",
                    "maxItems": REGIONS_MAX,
                    "items": {
                        "title": "Target cloud", "type": "string", "maxLength": 256,
                        "pattern": "^[a-z0-9-]+$",
                        "user_error":
                            "Must consist of lower-case alpha-numeric characters or dashes",
                    },
                },
                SERVICE_TO_FORK_FROM: name_or_null("Name of the service to fork from", 64),
                PROJECT_TO_FORK_FROM: name_or_null("Name of the project to fork from", 63),
                RECOVERY_TARGET_TIME: name_or_null("Recovery target time when forking", 32),
            },
        },
    })
}
