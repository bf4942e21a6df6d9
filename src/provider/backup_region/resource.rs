//! What Terraform asks of `aiven_service_backup_region`: plan, create, read, update, destroy, import.

use crate::{
    api::service::Service,
    client::error::ClientError,
    domain::{cloud::CloudName, ids::ServiceId, target_time},
    plugin::extra::Extra,
    provider::{
        backup_region::{
            check,
            model::{ABANDON, BackupRegion},
            switch::{self, Change, SwitchError},
            wait::{self, Wait},
        },
        names,
        refresh::{self, READ_LIMIT, Verdict},
        report::{self, At},
        schema,
        session::{Connection, Session},
        start,
        timeouts::{self, Operation},
        value::Tf,
    },
};
use async_trait::async_trait;
use std::{sync::Arc, time::Duration};
use tf_provider::{AttributePath, Diagnostics, Resource, schema::Schema};

/// The resource's type name.
pub const TYPE: &str = "aiven_service_backup_region";
const LIMIT: Duration = Duration::from_secs(30 * 60);

/// The resource type.
#[derive(Debug)]
pub struct BackupRegions {
    session: Arc<Session>,
    force_new: Vec<String>,
}

impl BackupRegions {
    /// The resource type, over a session.
    #[must_use]
    pub fn new(session: Arc<Session>) -> Self {
        let force_new = schema::facts::<BackupRegion>().map(|facts| facts.force_new);
        Self { session, force_new: force_new.unwrap_or_default() }
    }

    /// Checks a region against the API, as far as everything is known.
    async fn check(&self, diags: &mut Diagnostics, planned: &BackupRegion) {
        let Some(connection) = self.session.connection() else { return };
        if let (Some(id), Some(region)) = (planned.service(), planned.cloud()) {
            check::check(diags, &connection.api, &id, &region).await;
        }
    }

    /// Carries out a change of the list within its time limit.
    async fn switch(
        &self,
        connection: &Connection,
        id: &ServiceId,
        change: &Change,
        (operation, limit): (Operation, Duration),
    ) -> Result<Service, SwitchError> {
        let work = switch::switch(&connection.api, id, change);
        let overdue = || Err(SwitchError::Api(refresh::overdue(operation, id)));
        self.session.within(limit, work).await.unwrap_or_else(overdue)
    }

    /// Completes a state with what the service says.
    async fn observe(&self, connection: &Connection, state: &mut BackupRegion, service: &Service) {
        let home = CloudName::parse(&service.cloud_name).ok();
        let project = state.service().map(|id| id.project);
        let provider = match (home, project) {
            (Some(home), Some(project)) => {
                let clouds = check::clouds(&connection.api, &project).await.unwrap_or_default();
                check::provider_of(&home, &clouds.clouds)
            }
            _ => None,
        };
        state.observe(service, provider);
    }

    /// Waits for the first backup, where the configuration asks for it. Never an error: the region is
    /// on already, and an error would make Terraform switch it off and on again.
    async fn wait(
        &self,
        diags: &mut Diagnostics,
        connection: &Connection,
        state: &BackupRegion,
        (id, region): (&ServiceId, &CloudName),
        operation: Operation,
    ) {
        if state.wait_for_first_backup.known() != Some(&true) {
            return;
        }
        let limit = timeouts::limit(&state.timeouts, operation, LIMIT);
        let outcome = wait::first_backup(&self.session, connection, id, region, limit).await;
        let reason = match outcome {
            Wait::Ready => return,
            Wait::Stopped => "Terraform was asked to stop".to_owned(),
            Wait::Overdue => format!("nothing could be restored in {region} within the time limit"),
            Wait::Failed(error) => error.to_string(),
        };
        report::region::no_backup_yet(diags, region, &reason);
    }

    /// Reads the service and completes the state; `None` when the region is off.
    async fn refresh(
        &self,
        diags: &mut Diagnostics,
        connection: &Connection,
        mut state: BackupRegion,
        (id, region): (&ServiceId, &CloudName),
    ) -> Result<Option<BackupRegion>, ClientError> {
        let service = connection.api.service(id).await?;
        let regions = switch::regions(&service);
        if !regions.iter().any(|name| name == region.as_str()) {
            let only = match regions.as_slice() {
                [other] => switch::regions_max(&connection.api, id, &service.service_type)
                    .await
                    .filter(|max| *max == 1)
                    .and_then(|_| CloudName::parse(other).ok()),
                _ => None,
            };
            let Some(other) = only else {
                report::region::switched_off(diags, id, region);
                return Ok(None);
            };
            // Where the API allows one region, another one is drift, put right in place.
            state.id = Tf::Known(BackupRegion::id_of(id, &other));
            state.region = other.as_str().into();
        }
        warn_if_paused(diags, &service, region);
        self.observe(connection, &mut state, &service).await;
        Ok(Some(state))
    }
}

#[async_trait]
impl Resource for BackupRegions {
    type State<'a> = BackupRegion;
    type PrivateState<'a> = ();
    type ProviderMetaState<'a> = ();

    fn schema(&self, diags: &mut Diagnostics) -> Option<Schema> {
        start::schema_of::<BackupRegion>(diags)
    }

    async fn validate<'a>(&self, diags: &mut Diagnostics, config: BackupRegion) -> Option<()> {
        config.validate(diags);
        Some(())
    }

    async fn read<'a>(
        &self,
        diags: &mut Diagnostics,
        state: BackupRegion,
        _private: (),
        _meta: (),
    ) -> Option<(BackupRegion, ())> {
        let names = state.service().zip(state.cloud());
        let (Some(connection), Some((id, region))) = (self.session.connection(), names) else {
            return Some((state, ()));
        };
        let limit = timeouts::limit(&state.timeouts, Operation::Read, READ_LIMIT);
        let work = self.refresh(diags, &connection, state.clone(), (&id, &region));
        let outcome = self.session.within(limit, work).await;
        let overdue = || Err(refresh::overdue(Operation::Read, &id));
        match outcome.unwrap_or_else(overdue) {
            Ok(found) => found.map(|state| (state, ())),
            Err(error) => match refresh::judge(diags, &id, &error, connection.on_read_error) {
                Verdict::Gone => None,
                Verdict::Keep => Some((state, ())),
            },
        }
    }

    async fn plan_create<'a>(
        &self,
        diags: &mut Diagnostics,
        _proposed: BackupRegion,
        config: BackupRegion,
        _meta: (),
    ) -> Option<(BackupRegion, ())> {
        let planned = BackupRegion::planned_create(config);
        self.check(diags, &planned).await;
        Some((planned, ()))
    }

    async fn plan_update<'a>(
        &self,
        diags: &mut Diagnostics,
        prior: BackupRegion,
        _proposed: BackupRegion,
        config: BackupRegion,
        _private: (),
        _meta: (),
    ) -> Option<(BackupRegion, (), Vec<AttributePath>)> {
        let planned = BackupRegion::planned_update(&prior, config);
        let replaced = names::changed(&self.force_new, &prior, &planned);
        if replaced.is_empty() {
            if planned.region != prior.region {
                self.check(diags, &planned).await;
            }
        } else {
            protect(diags, &prior, "replace");
        }
        Some((planned, (), replaced))
    }

    async fn plan_destroy<'a>(
        &self,
        diags: &mut Diagnostics,
        prior: BackupRegion,
        _private: (),
        _meta: (),
    ) -> Option<()> {
        protect(diags, &prior, "destroy");
        Some(())
    }

    async fn create<'a>(
        &self,
        diags: &mut Diagnostics,
        planned: BackupRegion,
        _config: BackupRegion,
        _private: (),
        _meta: (),
    ) -> Option<(BackupRegion, ())> {
        let connection = self.session.connected(diags)?;
        let (id, region) = planned.service().zip(planned.cloud())?;
        let limit = timeouts::limit(&planned.timeouts, Operation::Create, LIMIT);
        let change = Change::Add(region.clone());
        let service = self.switch(&connection, &id, &change, (Operation::Create, limit)).await;
        let service = service.map_err(|error| say(diags, &error)).ok()?;
        let mut state = planned;
        state.id = Tf::Known(BackupRegion::id_of(&id, &region));
        state.region_changed_at = Tf::Known(target_time::format(self.session.clock.now()));
        self.observe(&connection, &mut state, &service).await;
        // From here on there is a state, whatever happens.
        self.wait(diags, &connection, &state, (&id, &region), Operation::Create).await;
        Some((state, ()))
    }

    async fn update<'a>(
        &self,
        diags: &mut Diagnostics,
        prior: BackupRegion,
        planned: BackupRegion,
        _config: BackupRegion,
        _private: (),
        _meta: (),
    ) -> Option<(BackupRegion, ())> {
        let mut state = planned;
        if state.region == prior.region {
            return Some((state, ()));
        }
        let connection = self.session.connected(diags)?;
        let ((id, from), to) = prior.service().zip(prior.cloud()).zip(state.cloud())?;
        let limit = timeouts::limit(&state.timeouts, Operation::Update, LIMIT);
        let change = Change::Replace { from, to: to.clone() };
        let service = self.switch(&connection, &id, &change, (Operation::Update, limit)).await;
        service.map_err(|error| say(diags, &error)).ok()?;
        state.id = Tf::Known(BackupRegion::id_of(&id, &to));
        state.region_changed_at = Tf::Known(target_time::format(self.session.clock.now()));
        self.wait(diags, &connection, &state, (&id, &to), Operation::Update).await;
        Some((state, ()))
    }

    async fn destroy<'a>(
        &self,
        diags: &mut Diagnostics,
        prior: BackupRegion,
        _private: (),
        _meta: (),
    ) -> Option<()> {
        if prior.on_destroy.text() == Some(ABANDON) {
            return Some(());
        }
        let connection = self.session.connected(diags)?;
        let (id, region) = prior.service().zip(prior.cloud())?;
        let limit = timeouts::limit(&prior.timeouts, Operation::Delete, LIMIT);
        let change = Change::Remove(region);
        match self.switch(&connection, &id, &change, (Operation::Delete, limit)).await {
            Ok(_) | Err(SwitchError::Api(ClientError::NotFound { .. })) => Some(()),
            Err(error) => {
                say(diags, &error);
                None
            }
        }
    }

    async fn import<'a>(&self, diags: &mut Diagnostics, id: String) -> Option<(BackupRegion, ())> {
        let place = At::Block;
        let (service, region) = match names::import_id(&id) {
            Ok(parts) => parts,
            Err(text) => {
                report::import_id(diags, &text);
                return None;
            }
        };
        if let Some(region) = region {
            return Some((BackupRegion::imported(&service, &region), ()));
        }
        let connection = self.session.connected(diags)?;
        let found = connection.api.service(&service).await;
        let found = found.map_err(|error| report::client_error(diags, place, &error)).ok()?;
        match switch::regions(&found).as_slice() {
            [only] => {
                let region = CloudName::parse(only);
                let region = region.map_err(|e| report::violation(diags, place, &e)).ok()?;
                Some((BackupRegion::imported(&service, &region), ()))
            }
            regions => {
                report::region::which_region(diags, &service, regions);
                None
            }
        }
    }
}

impl Extra for BackupRegions {
    fn upgrade_state(
        &self,
        _: &mut Diagnostics,
        _from: i64,
        state: serde_json::Value,
    ) -> Option<serde_json::Value> {
        // There is one former version; whoever adds another looks at `_from`.
        Some(BackupRegion::upgraded(state))
    }
}

/// Refuses to destroy or replace what is protected.
fn protect(diags: &mut Diagnostics, prior: &BackupRegion, verb: &str) {
    if prior.deletion_protection.known() == Some(&true) {
        report::protected(diags, "backup region", verb);
    }
}

fn say(diags: &mut Diagnostics, error: &SwitchError) {
    match error {
        SwitchError::Api(error) => report::client_error(diags, At::Attribute("region"), error),
        SwitchError::Occupied { .. } => report::region::occupied(diags, &error.to_string()),
        SwitchError::NotTaken { .. } => report::region::not_taken(diags, &error.to_string()),
    }
}

fn warn_if_paused(diags: &mut Diagnostics, service: &Service, region: &CloudName) {
    let newest = service.backups.iter().flatten().max_by_key(|backup| &backup.backup_time);
    let copies = newest.map(|backup| backup.additional_regions.as_slice()).unwrap_or_default();
    let paused =
        copies.iter().find(|copy| copy.cloud == region.as_str() && copy.paused == Some(true));
    if let Some(copy) = paused {
        report::region::paused(diags, region, copy.pause_reason.as_deref());
    }
}
