//! A resource: validation, reading, planning, applying, import.

use crate::plugin::{
    adapt::required,
    calls::{ApplyResourceChangeRequest, PlanResourceChangeRequest},
    codec::{decode, decode_meta, decode_private, encode, is_null},
    extra::Extra,
    wire::DynamicValue,
};
use async_trait::async_trait;
use tf_provider::{AttributePath, Diagnostics, Resource, schema::Schema};

/// An object's encoded state and private state.
pub(in crate::plugin) struct Stored {
    pub(in crate::plugin) state: Vec<u8>,
    pub(in crate::plugin) private: Vec<u8>,
}

pub(in crate::plugin) struct Planned {
    /// `None`: the object is to be gone.
    pub(in crate::plugin) state: Option<Vec<u8>>,
    pub(in crate::plugin) private: Vec<u8>,
    pub(in crate::plugin) requires_replace: Vec<AttributePath>,
}

pub(in crate::plugin) enum Applied {
    Stands(Stored),
    Gone,
}

/// A resource with its types hidden.
#[async_trait]
pub(in crate::plugin) trait ResourceHandler: Send + Sync {
    fn schema(&self, diagnostics: &mut Diagnostics) -> Option<Schema>;
    fn extra(&self) -> &dyn Extra;
    async fn validate(&self, diagnostics: &mut Diagnostics, config: &DynamicValue) -> Option<()>;
    /// `None` without an error: the object is gone.
    async fn read(
        &self,
        diagnostics: &mut Diagnostics,
        state: &DynamicValue,
        private: &[u8],
    ) -> Option<Stored>;
    async fn plan(
        &self,
        diagnostics: &mut Diagnostics,
        change: &PlanResourceChangeRequest,
    ) -> Option<Planned>;
    /// `None`, always with an error: nothing has changed, or nobody knows.
    async fn apply(
        &self,
        diagnostics: &mut Diagnostics,
        change: &ApplyResourceChangeRequest,
    ) -> Option<Applied>;
    async fn import(&self, diagnostics: &mut Diagnostics, id: String) -> Option<Stored>;
}

pub(in crate::plugin) struct Typed<R>(pub(in crate::plugin) R);

#[async_trait]
impl<R: Resource + Extra> ResourceHandler for Typed<R> {
    fn schema(&self, diagnostics: &mut Diagnostics) -> Option<Schema> {
        let schema = self.0.schema(diagnostics);
        required(diagnostics, schema, "describing a resource type")
    }

    fn extra(&self) -> &dyn Extra {
        &self.0
    }

    async fn validate(&self, diagnostics: &mut Diagnostics, config: &DynamicValue) -> Option<()> {
        let config = decode(diagnostics, config)?;
        let valid = self.0.validate(diagnostics, config).await;
        required(diagnostics, valid, "checking a configuration")
    }

    async fn read(
        &self,
        diagnostics: &mut Diagnostics,
        state: &DynamicValue,
        private: &[u8],
    ) -> Option<Stored> {
        let state = decode(diagnostics, state)?;
        let private = decode_private(diagnostics, private)?;
        let meta = decode_meta(diagnostics)?;
        let (state, private) = self.0.read(diagnostics, state, private, meta).await?;
        stored::<R>(diagnostics, &state, &private)
    }

    async fn plan(
        &self,
        diagnostics: &mut Diagnostics,
        change: &PlanResourceChangeRequest,
    ) -> Option<Planned> {
        let planned = match Change::of(&change.prior_state, &change.proposed_new_state) {
            Change::Create => self.plan_create(diagnostics, change).await,
            Change::Update => self.plan_update(diagnostics, change).await,
            Change::Destroy => self.plan_destroy(diagnostics, change).await,
        };
        required(diagnostics, planned, "planning a change")
    }

    async fn apply(
        &self,
        diagnostics: &mut Diagnostics,
        change: &ApplyResourceChangeRequest,
    ) -> Option<Applied> {
        match Change::of(&change.prior_state, &change.planned_state) {
            Change::Create => {
                let created = self.create(diagnostics, change).await;
                required(diagnostics, created, "creating an object, which may exist now")
            }
            Change::Update => {
                let updated = self.update(diagnostics, change).await;
                required(diagnostics, updated, "updating an object, which may have changed")
            }
            Change::Destroy => {
                let destroyed = self.destroy(diagnostics, change).await;
                required(diagnostics, destroyed, "destroying an object, which may still exist")
            }
        }
    }

    async fn import(&self, diagnostics: &mut Diagnostics, id: String) -> Option<Stored> {
        let imported = self.0.import(diagnostics, id).await;
        let (state, private) = required(diagnostics, imported, "importing an object")?;
        stored::<R>(diagnostics, &state, &private)
    }
}

impl<R: Resource + Extra> Typed<R> {
    async fn plan_create(
        &self,
        diagnostics: &mut Diagnostics,
        change: &PlanResourceChangeRequest,
    ) -> Option<Planned> {
        let proposed = decode(diagnostics, given(&change.proposed_new_state))?;
        let config = decode(diagnostics, given(&change.config))?;
        let meta = decode_meta(diagnostics)?;
        let (state, private) = self.0.plan_create(diagnostics, proposed, config, meta).await?;
        let Stored { state, private } = stored::<R>(diagnostics, &state, &private)?;
        Some(Planned { state: Some(state), private, requires_replace: Vec::new() })
    }

    async fn plan_update(
        &self,
        diagnostics: &mut Diagnostics,
        change: &PlanResourceChangeRequest,
    ) -> Option<Planned> {
        let prior = decode(diagnostics, given(&change.prior_state))?;
        let proposed = decode(diagnostics, given(&change.proposed_new_state))?;
        let config = decode(diagnostics, given(&change.config))?;
        let private = decode_private(diagnostics, &change.prior_private)?;
        let meta = decode_meta(diagnostics)?;
        let (state, private, requires_replace) =
            self.0.plan_update(diagnostics, prior, proposed, config, private, meta).await?;
        let Stored { state, private } = stored::<R>(diagnostics, &state, &private)?;
        Some(Planned { state: Some(state), private, requires_replace })
    }

    async fn plan_destroy(
        &self,
        diagnostics: &mut Diagnostics,
        change: &PlanResourceChangeRequest,
    ) -> Option<Planned> {
        let prior = decode(diagnostics, given(&change.prior_state))?;
        let private = decode_private(diagnostics, &change.prior_private)?;
        let meta = decode_meta(diagnostics)?;
        let private = self.0.plan_destroy(diagnostics, prior, private, meta).await?;
        let private = encode(diagnostics, &private)?;
        Some(Planned { state: None, private, requires_replace: Vec::new() })
    }

    async fn create(
        &self,
        diagnostics: &mut Diagnostics,
        change: &ApplyResourceChangeRequest,
    ) -> Option<Applied> {
        let planned = decode(diagnostics, given(&change.planned_state))?;
        let config = decode(diagnostics, given(&change.config))?;
        let private = decode_private(diagnostics, &change.planned_private)?;
        let meta = decode_meta(diagnostics)?;
        let (state, private) = self.0.create(diagnostics, planned, config, private, meta).await?;
        stored::<R>(diagnostics, &state, &private).map(Applied::Stands)
    }

    async fn update(
        &self,
        diagnostics: &mut Diagnostics,
        change: &ApplyResourceChangeRequest,
    ) -> Option<Applied> {
        let prior = decode(diagnostics, given(&change.prior_state))?;
        let planned = decode(diagnostics, given(&change.planned_state))?;
        let config = decode(diagnostics, given(&change.config))?;
        let private = decode_private(diagnostics, &change.planned_private)?;
        let meta = decode_meta(diagnostics)?;
        let (state, private) =
            self.0.update(diagnostics, prior, planned, config, private, meta).await?;
        stored::<R>(diagnostics, &state, &private).map(Applied::Stands)
    }

    async fn destroy(
        &self,
        diagnostics: &mut Diagnostics,
        change: &ApplyResourceChangeRequest,
    ) -> Option<Applied> {
        let prior = decode(diagnostics, given(&change.prior_state))?;
        let private = decode_private(diagnostics, &change.planned_private)?;
        let meta = decode_meta(diagnostics)?;
        self.0.destroy(diagnostics, prior, private, meta).await?;
        // An error beside `Some` is still an error: the object must stay in the state.
        diagnostics.errors.is_empty().then_some(Applied::Gone)
    }
}

enum Change {
    Create,
    Update,
    Destroy,
}

impl Change {
    fn of(prior: &Option<DynamicValue>, next: &Option<DynamicValue>) -> Self {
        if is_null(given(next)) {
            Self::Destroy
        } else if is_null(given(prior)) {
            Self::Create
        } else {
            Self::Update
        }
    }
}

/// A missing value is null.
fn given(value: &Option<DynamicValue>) -> &DynamicValue {
    static NOTHING: DynamicValue = DynamicValue { msgpack: Vec::new(), json: Vec::new() };
    value.as_ref().unwrap_or(&NOTHING)
}

fn stored<R: Resource>(
    diagnostics: &mut Diagnostics,
    state: &R::State<'_>,
    private: &R::PrivateState<'_>,
) -> Option<Stored> {
    Some(Stored { state: encode(diagnostics, state)?, private: encode(diagnostics, private)? })
}
