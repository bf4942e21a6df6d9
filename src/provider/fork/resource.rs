//! What Terraform asks of `fork_from_secondary_backup`: plan, create, read, update, destroy, import.

use crate::{
    api::service::{Service, ServiceUpdate},
    client::error::ClientError,
    domain::{ids::ServiceId, target_time},
    plugin::extra::Extra,
    provider::{
        fork::{
            check::{self, Stage},
            create::{self, CreateError},
            former, import,
            model::{FAIL, Fork, LATEST_BASE_BACKUP},
            observe, plan, rules,
            wait::{self, End},
        },
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
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::Duration};
use tf_provider::{AttributePath, Diagnostics, Resource, schema::Schema};

/// The resource's type name.
pub const TYPE: &str = "fork_from_secondary_backup";
const CREATE_LIMIT: Duration = Duration::from_secs(4 * 60 * 60);
const UPDATE_LIMIT: Duration = Duration::from_secs(60 * 60);
const DELETE_LIMIT: Duration = Duration::from_secs(30 * 60);

/// What the provider remembers beside the state.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Private {
    /// Imported, and not applied since: the configuration may fill in what the state does not know.
    #[serde(default)]
    imported: bool,
}

/// The resource type.
#[derive(Debug)]
pub struct Forks {
    session: Arc<Session>,
    force_new: Vec<String>,
}

impl Forks {
    /// The resource type, over a session.
    #[must_use]
    pub fn new(session: Arc<Session>) -> Self {
        let force_new = schema::facts::<Fork>().map(|facts| facts.force_new);
        Self { session, force_new: force_new.unwrap_or_default() }
    }

    /// Waits for the restore and gives the state, in every case in which there is a fork. Only a
    /// failed restore is an error: an error marks the fork as tainted, and the next plan would
    /// destroy a database that is just being recovered.
    async fn settle(
        &self,
        diags: &mut Diagnostics,
        connection: &Connection,
        planned: Fork,
        id: &ServiceId,
        mut last: Option<Service>,
    ) -> Option<Fork> {
        if !planned.waits() {
            return Some(observe::applied(planned, last.as_ref()));
        }
        let limit = timeouts::limit(&planned.timeouts, Operation::Create, CREATE_LIMIT);
        let end = wait::restored(&self.session, connection, id, limit, &mut last).await;
        match end {
            End::Complete => {}
            End::Failed(reason) => {
                report::fork::restore_failed(diags, id, &reason);
            }
            End::Gone => {
                report::fork::disappeared(diags, id);
                return None;
            }
            End::Overdue if planned.on_create_timeout.text() == Some(FAIL) => {
                report::fork::too_slow(diags, id);
            }
            End::Overdue => report::fork::overdue(diags, id),
            End::Stopped => report::fork::stopped(diags, id),
            End::Broken(error) => report::fork::unwatched(diags, &error),
        }
        Some(observe::applied(planned, last.as_ref()))
    }

    /// Sends what can be changed in place. Gives the service, if anything was asked.
    async fn change(
        &self,
        diags: &mut Diagnostics,
        connection: &Connection,
        (id, prior, planned): (&ServiceId, &Fork, &Fork),
    ) -> Option<()> {
        let mut body = ServiceUpdate::default();
        if planned.plan != prior.plan {
            body.plan = planned.plan.text().map(str::to_owned);
        }
        if moves_vpc(prior, planned) {
            body.project_vpc_id = planned.project_vpc_id.text().map(str::to_owned);
        }
        if planned.termination_protection != prior.termination_protection {
            body.termination_protection = planned.termination_protection.known().copied();
        }
        if body != ServiceUpdate::default() {
            let outcome = connection.api.update(id, &body).await;
            outcome.map_err(|error| report::client_error(diags, At::Block, &error)).ok()?;
        }
        if planned.tags != prior.tags {
            // The call replaces all tags, so those of others are read and sent along.
            let service = connection.api.service_now(id).await;
            let service =
                service.map_err(|error| report::client_error(diags, At::Block, &error)).ok()?;
            let mut tags = service.tags;
            for key in observe::tags(&prior.tags).unwrap_or_default().keys() {
                tags.remove(key);
            }
            tags.extend(observe::tags(&planned.tags).unwrap_or_default());
            let outcome = connection.api.set_tags(id, &tags).await;
            outcome.map_err(|e| report::client_error(diags, At::Attribute("tags"), &e)).ok()?;
        }
        Some(())
    }
}

#[async_trait]
impl Resource for Forks {
    type State<'a> = Fork;
    type PrivateState<'a> = Option<Private>;
    type ProviderMetaState<'a> = ();

    fn schema(&self, diags: &mut Diagnostics) -> Option<Schema> {
        start::schema_of::<Fork>(diags)
    }

    async fn validate<'a>(&self, diags: &mut Diagnostics, config: Fork) -> Option<()> {
        rules::validate(diags, &config);
        Some(())
    }

    async fn read<'a>(
        &self,
        diags: &mut Diagnostics,
        state: Fork,
        private: Option<Private>,
        _meta: (),
    ) -> Option<(Fork, Option<Private>)> {
        let (Some(connection), Some(id)) = (self.session.connection(), state.service()) else {
            return Some((state, private));
        };
        let limit = timeouts::limit(&state.timeouts, Operation::Read, READ_LIMIT);
        let outcome = self.session.within(limit, seen(&connection, &id, &state)).await;
        let overdue = || Err(refresh::overdue(Operation::Read, &id));
        match outcome.unwrap_or_else(overdue) {
            Ok(service) => {
                if let Some(reason) = observe::failure(&service) {
                    report::fork::restore_has_failed(diags, &id, &reason);
                }
                Some((observe::refreshed(&state, &service), private))
            }
            Err(error) => match refresh::judge(diags, &id, &error, connection.on_read_error) {
                Verdict::Gone => None,
                Verdict::Keep => Some((state, private)),
            },
        }
    }

    async fn plan_create<'a>(
        &self,
        diags: &mut Diagnostics,
        _proposed: Fork,
        config: Fork,
        _meta: (),
    ) -> Option<(Fork, Option<Private>)> {
        let planned = plan::create(config.clone(), None);
        let Some(connection) = self.session.connection() else { return Some((planned, None)) };
        let now = self.session.clock.now();
        // The region of the configuration, not that of the plan: there it is unknown where it is open.
        let asked = Fork { source_project: planned.source_project.clone(), ..config.clone() };
        let is_open = config.region.is_unknown();
        if is_open {
            // The region is known after apply, and is checked then.
            return Some((planned, None));
        }
        let Some(checked) = check::check(diags, &connection.api, &asked, now, Stage::Plan).await
        else {
            return Some((planned, None));
        };
        let region = checked.copy.cloud.as_str().to_owned();
        let planned = plan::create(config, Some(region));
        check::announce(diags, &connection.api, &planned, &checked).await;
        Some((planned, None))
    }

    async fn plan_update<'a>(
        &self,
        diags: &mut Diagnostics,
        prior: Fork,
        _proposed: Fork,
        config: Fork,
        private: Option<Private>,
        _meta: (),
    ) -> Option<(Fork, Option<Private>, Vec<AttributePath>)> {
        let imported = private.unwrap_or_default().imported;
        let update = plan::update(&prior, config, &self.force_new, imported);
        report::fork::kept(diags, &update.kept);
        if !update.replaced.is_empty() {
            protect(diags, &prior, "replace");
        }
        Some((update.planned, private, update.replaced))
    }

    async fn plan_destroy<'a>(
        &self,
        diags: &mut Diagnostics,
        prior: Fork,
        private: Option<Private>,
        _meta: (),
    ) -> Option<Option<Private>> {
        protect(diags, &prior, "destroy");
        Some(private)
    }

    async fn create<'a>(
        &self,
        diags: &mut Diagnostics,
        planned: Fork,
        _config: Fork,
        _private: Option<Private>,
        _meta: (),
    ) -> Option<(Fork, Option<Private>)> {
        let connection = self.session.connected(diags)?;
        let (id, source_id) = planned.service().zip(planned.source())?;
        let now = self.session.clock.now();
        // Time has passed since the plan: what could be restored then may be out of the window now.
        let checked = check::check(diags, &connection.api, &planned, now, Stage::Apply).await?;
        let moment = checked.outlook.as_ref().and_then(|outlook| outlook.target_time);
        let body = create::request(&planned, &id, &source_id, &checked, moment);
        let created = create::create(&connection.api, &planned, &id, &body).await;
        let created = created.map_err(|error| say(diags, &error)).ok()?;
        if created.adopted {
            report::fork::adopted(diags, &id);
        }
        // From here on there is a state with the id, whatever happens.
        let mut state = planned;
        state.id = Tf::Known(id.to_string());
        if state.region.is_unknown() {
            state.region = checked.copy.cloud.as_str().into();
        }
        if state.recovery_target_time.is_unknown() {
            let is_base = state.recovery_target.text() == Some(LATEST_BASE_BACKUP);
            state.recovery_target_time = moment.filter(|_| is_base).map(target_time::format).into();
        }
        let seen = Some(created.service);
        self.settle(diags, &connection, state, &id, seen).await.map(|state| (state, None))
    }

    async fn update<'a>(
        &self,
        diags: &mut Diagnostics,
        prior: Fork,
        planned: Fork,
        _config: Fork,
        _private: Option<Private>,
        _meta: (),
    ) -> Option<(Fork, Option<Private>)> {
        let connection = self.session.connected(diags)?;
        let id = planned.service()?;
        self.change(diags, &connection, (&id, &prior, &planned)).await?;
        if prior.is_restoring() {
            let state = self.settle(diags, &connection, planned, &id, None).await;
            return state.map(|state| (state, None));
        }
        let mut last = None;
        if planned.plan != prior.plan || moves_vpc(&prior, &planned) {
            let limit = timeouts::limit(&planned.timeouts, Operation::Update, UPDATE_LIMIT);
            let end = wait::restored(&self.session, &connection, &id, limit, &mut last).await;
            if end != End::Complete {
                report::fork::change_goes_on(diags, &id);
            }
        } else if planned.service_uri.is_unknown() {
            let service = connection.api.service_with_secrets_now(&id).await;
            last = Some(service.map_err(|e| report::client_error(diags, At::Block, &e)).ok()?);
        }
        Some((observe::applied(planned, last.as_ref()), None))
    }

    async fn destroy<'a>(
        &self,
        diags: &mut Diagnostics,
        prior: Fork,
        _private: Option<Private>,
        _meta: (),
    ) -> Option<()> {
        let connection = self.session.connected(diags)?;
        let id = prior.service()?;
        if let Err(error) = connection.api.delete(&id).await {
            report::client_error(diags, At::Block, &error);
            return None;
        }
        let limit = timeouts::limit(&prior.timeouts, Operation::Delete, DELETE_LIMIT);
        match wait::gone(&self.session, &connection, &id, limit).await {
            End::Overdue => {
                report::fork::deletion_overdue(diags, &id);
                None
            }
            End::Stopped => {
                report::fork::deletion_goes_on(diags, &id);
                Some(())
            }
            End::Gone | End::Complete | End::Failed(_) | End::Broken(_) => Some(()),
        }
    }

    async fn import<'a>(
        &self,
        diags: &mut Diagnostics,
        id: String,
    ) -> Option<(Fork, Option<Private>)> {
        let connection = self.session.connected(diags)?;
        let fork = import::import(diags, &connection.api, &id).await?;
        Some((fork, Some(Private { imported: true })))
    }
}

impl Extra for Forks {
    fn upgrade_state(
        &self,
        _: &mut Diagnostics,
        _from: i64,
        state: serde_json::Value,
    ) -> Option<serde_json::Value> {
        // There is one former version; whoever adds another looks at `_from`.
        Some(former::upgraded(state))
    }

    fn move_state(
        &self,
        diagnostics: &mut Diagnostics,
        from_type: &str,
        state: serde_json::Value,
    ) -> Option<serde_json::Value> {
        let moved = former::moved(from_type, &state);
        if moved.is_none() {
            report::fork::not_movable(diagnostics, from_type);
        }
        moved
    }

    /// As after an import: the configuration may fill in what the state does not know.
    fn private_after_move(&self) -> serde_json::Value {
        serde_json::to_value(Private { imported: true }).unwrap_or_default()
    }
}

/// What the API says of a fork, without its secrets where they are not wanted in the state.
async fn seen(
    connection: &Connection,
    id: &ServiceId,
    state: &Fork,
) -> Result<Arc<Service>, ClientError> {
    let is_hidden = state.expose_credentials.known() == Some(&false);
    // Host and port come with the secrets; once they are known, nobody needs these.
    if is_hidden && !state.service_host.is_null() {
        connection.api.service(id).await
    } else {
        connection.api.service_with_secrets(id).await
    }
}

/// Whether a change moves the fork to another VPC. A line that is removed leaves it where it is.
fn moves_vpc(prior: &Fork, planned: &Fork) -> bool {
    planned.project_vpc_id.known().is_some() && planned.project_vpc_id != prior.project_vpc_id
}

/// Refuses to destroy or replace what is protected.
fn protect(diags: &mut Diagnostics, prior: &Fork, verb: &str) {
    if prior.deletion_protection.known() == Some(&true) {
        report::protected(diags, "fork", verb);
    }
}

fn say(diags: &mut Diagnostics, error: &CreateError) {
    match error {
        CreateError::Api(error) => report::client_error(diags, At::Block, error),
        CreateError::Taken { .. } => report::fork::name_taken(diags, &error.to_string()),
    }
}
