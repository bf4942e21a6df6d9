//! The provider as tf-provider's trait, and how the plugin is put together.

use crate::{
    plugin::server::{ServeError, Server},
    provider::{
        backup_region::{self, resource::BackupRegions},
        config::{self, Environment, ProviderModel},
        data::{
            self, backups::Backups, clouds::Clouds, fork_preview::Previews,
            replication_status::Statuses, restore_window::Windows,
        },
        ephemeral::fork_credentials::{self, Credentials},
        fork::{self, resource::Forks},
        functions::{
            duration_seconds::DurationSeconds, fork_name::ForkName,
            is_valid_backup_pair::IsValidBackupPair, normalize_time::NormalizeTime,
            parse_cloud::ParseCloud, rpo_seconds::RpoSeconds, same_cloud::SameCloud,
            time_in_window::TimeInWindow,
        },
        report::{self, At},
        schema,
        session::Session,
    },
    sys::clock::{Clock, SystemClock},
};
use async_trait::async_trait;
use std::sync::Arc;
use tf_provider::{Diagnostics, Provider, schema::Schema};
use tokio_util::sync::CancellationToken;

/// The provider block.
#[derive(Debug)]
pub struct BtarProvider {
    session: Arc<Session>,
    environment: Environment,
}

impl BtarProvider {
    /// A provider that configures `session` from its block and from `environment`.
    #[must_use]
    pub fn new(session: Arc<Session>, environment: Environment) -> Self {
        Self { session, environment }
    }
}

#[async_trait]
impl Provider for BtarProvider {
    type Config<'a> = ProviderModel;
    type MetaState<'a> = ();

    fn schema(&self, diags: &mut Diagnostics) -> Option<Schema> {
        schema_of::<ProviderModel>(diags)
    }

    async fn configure<'a>(
        &self,
        diags: &mut Diagnostics,
        terraform_version: String,
        config: Self::Config<'a>,
    ) -> Option<()> {
        let settings = match config::resolve(&config, &self.environment, &terraform_version) {
            Ok(settings) => settings,
            Err(problems) => {
                for problem in problems {
                    report::settings::problem(diags, problem.attribute, &problem.text);
                }
                return None;
            }
        };
        if settings.as_ref().is_some_and(|settings| settings.is_exposed) {
            report::settings::token_exposed(diags);
        }
        if settings.is_none() {
            report::settings::checks_skipped(diags);
        }
        if let Err(error) = self.session.configure(settings) {
            report::client_error(diags, At::Block, &error);
            return None;
        }
        Some(())
    }
}

/// The schema of a model struct.
pub(super) fn schema_of<T: schemars::JsonSchema>(diags: &mut Diagnostics) -> Option<Schema> {
    match schema::facts::<T>() {
        Ok(facts) => Some(facts.schema),
        Err(error) => {
            report::settings::schema_bug(diags, &error.to_string());
            None
        }
    }
}

/// The schema of the model struct of a data source or an ephemeral resource.
pub(super) fn read_schema_of<T: schemars::JsonSchema>(diags: &mut Diagnostics) -> Option<Schema> {
    match schema::read_facts::<T>() {
        Ok(facts) => Some(facts.schema),
        Err(error) => {
            report::settings::schema_bug(diags, &error.to_string());
            None
        }
    }
}

/// Serves Terraform until it says goodbye.
///
/// # Errors
/// When Terraform did not start this process, or the connection to it breaks.
pub async fn serve() -> Result<(), ServeError> {
    let stop = CancellationToken::new();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let session = Arc::new(Session::new(clock, stop.clone()));
    let provider = BtarProvider::new(Arc::clone(&session), Environment::read());
    Server::new(provider, stop)
        .resource(backup_region::resource::TYPE, BackupRegions::new(Arc::clone(&session)))
        .resource(fork::resource::TYPE, Forks::new(Arc::clone(&session)))
        .data_source(data::backups::TYPE, Backups(Arc::clone(&session)))
        .data_source(data::restore_window::TYPE, Windows(Arc::clone(&session)))
        .data_source(data::replication_status::TYPE, Statuses(Arc::clone(&session)))
        .data_source(data::fork_preview::TYPE, Previews(Arc::clone(&session)))
        .data_source(data::clouds::TYPE, Clouds(Arc::clone(&session)))
        .ephemeral(fork_credentials::TYPE, Credentials(session))
        .function("parse_cloud", ParseCloud)
        .function("same_cloud", SameCloud)
        .function("is_valid_backup_pair", IsValidBackupPair)
        .function("normalize_time", NormalizeTime)
        .function("time_in_window", TimeInWindow)
        .function("duration_seconds", DurationSeconds)
        .function("rpo_seconds", RpoSeconds)
        .function("fork_name", ForkName)
        .serve()
        .await
}
