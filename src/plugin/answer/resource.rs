//! Calls about resources, in the order in which Terraform makes them.

use crate::plugin::{
    adapt::resource::{Applied, ResourceHandler, Stored},
    answer::Call,
    calls::{
        ApplyResourceChangeRequest, ApplyResourceChangeResponse, ImportResourceStateRequest,
        ImportResourceStateResponse, ImportedResource, MoveResourceStateRequest,
        MoveResourceStateResponse, PlanResourceChangeRequest, PlanResourceChangeResponse,
        ReadResourceRequest, ReadResourceResponse, UpgradeResourceStateRequest,
        UpgradeResourceStateResponse, ValidateResourceConfigRequest,
        ValidateResourceConfigResponse,
    },
    codec, convert,
    registry::Registry,
    state, wire,
};
use tf_provider::Diagnostics;

impl Call for ValidateResourceConfigRequest {
    type Answer = ValidateResourceConfigResponse;

    fn subject(&self) -> String {
        format!("the check of a `{}`", self.type_name)
    }

    async fn answer(self, registry: &Registry, diagnostics: &mut Diagnostics) -> Self::Answer {
        let config = self.config.unwrap_or_default();
        if let Some(resource) = registry.offers.resource(diagnostics, &self.type_name) {
            resource.validate(diagnostics, &config).await;
        }
        ValidateResourceConfigResponse::default()
    }
}

impl Call for UpgradeResourceStateRequest {
    type Answer = UpgradeResourceStateResponse;

    fn subject(&self) -> String {
        format!("the upgrade of the state of a `{}`", self.type_name)
    }

    /// Terraform asks before every read, whether the version differs or not.
    async fn answer(self, registry: &Registry, diagnostics: &mut Diagnostics) -> Self::Answer {
        let resource = registry.offers.resource(diagnostics, &self.type_name);
        let upgraded = resource.and_then(|resource| upgrade(resource, diagnostics, &self));
        UpgradeResourceStateResponse {
            upgraded_state: upgraded.as_ref().map(codec::json),
            diagnostics: Vec::new(),
        }
    }
}

fn upgrade(
    resource: &dyn ResourceHandler,
    diagnostics: &mut Diagnostics,
    request: &UpgradeResourceStateRequest,
) -> Option<serde_json::Value> {
    let schema = resource.schema(diagnostics)?;
    let old = parse_state(diagnostics, request.raw_state.as_ref())?;
    if request.version > schema.version {
        diagnostics.root_error(
            "The state was written by a newer version of the provider",
            format!(
                "It is of schema version {} and this provider knows versions up to {}. Install the \
                 newer version again.",
                request.version, schema.version
            ),
        );
        return None;
    }
    let present = if request.version == schema.version {
        old
    } else {
        resource.extra().upgrade_state(diagnostics, request.version, old)?
    };
    Some(state::fit(&schema.block, present))
}

fn parse_state(
    diagnostics: &mut Diagnostics,
    raw: Option<&wire::RawState>,
) -> Option<serde_json::Value> {
    let json = raw.map_or(&[][..], |raw| &raw.json);
    // Terraform before 0.12 kept another format.
    let parsed = serde_json::from_slice(json).map_err(|error| {
        diagnostics.root_error("The state is not JSON", format!("Reading it failed: {error}."));
    });
    parsed.ok()
}

impl Call for ReadResourceRequest {
    type Answer = ReadResourceResponse;

    fn subject(&self) -> String {
        format!("the reading of a `{}`", self.type_name)
    }

    fn on_panic(&self) -> Self::Answer {
        ReadResourceResponse {
            new_state: self.current_state.clone(),
            diagnostics: Vec::new(),
            private: self.private.clone(),
        }
    }

    async fn answer(self, registry: &Registry, diagnostics: &mut Diagnostics) -> Self::Answer {
        let current = self.current_state.unwrap_or_default();
        let read = match registry.offers.resource(diagnostics, &self.type_name) {
            Some(resource) => resource.read(diagnostics, &current, &self.private).await,
            None => None,
        };
        let (new_state, private) = match read {
            Some(Stored { state, private }) => (Some(codec::msgpack(state)), private),
            // Without an error the object is gone; with one, nobody knows.
            None if diagnostics.errors.is_empty() => (None, Vec::new()),
            None => (Some(current), self.private),
        };
        ReadResourceResponse { new_state, diagnostics: Vec::new(), private }
    }
}

impl Call for PlanResourceChangeRequest {
    type Answer = PlanResourceChangeResponse;

    fn subject(&self) -> String {
        format!("the planning of a `{}`", self.type_name)
    }

    async fn answer(self, registry: &Registry, diagnostics: &mut Diagnostics) -> Self::Answer {
        let planned = match registry.offers.resource(diagnostics, &self.type_name) {
            Some(resource) => resource.plan(diagnostics, &self).await,
            None => None,
        };
        // Without a plan there is an error, and Terraform looks no further.
        planned.map_or_else(PlanResourceChangeResponse::default, |planned| {
            PlanResourceChangeResponse {
                planned_state: planned.state.map(codec::msgpack),
                requires_replace: planned.requires_replace.into_iter().map(convert::path).collect(),
                planned_private: planned.private,
                diagnostics: Vec::new(),
            }
        })
    }
}

impl Call for ApplyResourceChangeRequest {
    type Answer = ApplyResourceChangeResponse;

    fn subject(&self) -> String {
        format!("a change of a `{}`", self.type_name)
    }

    /// The prior state is kept: what Terraform forgets, nobody finds again.
    fn on_panic(&self) -> Self::Answer {
        ApplyResourceChangeResponse {
            new_state: self.prior_state.clone(),
            private: self.planned_private.clone(),
            diagnostics: Vec::new(),
        }
    }

    async fn answer(self, registry: &Registry, diagnostics: &mut Diagnostics) -> Self::Answer {
        let applied = match registry.offers.resource(diagnostics, &self.type_name) {
            Some(resource) => resource.apply(diagnostics, &self).await,
            None => None,
        };
        match applied {
            Some(Applied::Stands(Stored { state, private })) => ApplyResourceChangeResponse {
                new_state: Some(codec::msgpack(state)),
                private,
                diagnostics: Vec::new(),
            },
            Some(Applied::Gone) => ApplyResourceChangeResponse::default(),
            None => self.on_panic(),
        }
    }
}

impl Call for ImportResourceStateRequest {
    type Answer = ImportResourceStateResponse;

    fn subject(&self) -> String {
        format!("the import of a `{}`", self.type_name)
    }

    async fn answer(self, registry: &Registry, diagnostics: &mut Diagnostics) -> Self::Answer {
        let imported = match registry.offers.resource(diagnostics, &self.type_name) {
            Some(resource) => resource.import(diagnostics, self.id).await,
            None => None,
        };
        let imported = imported.map(|Stored { state, private }| ImportedResource {
            type_name: self.type_name,
            state: Some(codec::msgpack(state)),
            private,
        });
        ImportResourceStateResponse {
            imported_resources: imported.into_iter().collect(),
            diagnostics: Vec::new(),
        }
    }
}

impl Call for MoveResourceStateRequest {
    type Answer = MoveResourceStateResponse;

    fn subject(&self) -> String {
        format!("the move of a `{}` to a `{}`", self.source_type_name, self.target_type_name)
    }

    async fn answer(self, registry: &Registry, diagnostics: &mut Diagnostics) -> Self::Answer {
        let resource = registry.offers.resource(diagnostics, &self.target_type_name);
        let moved = resource.and_then(|resource| {
            let schema = resource.schema(diagnostics)?;
            let source = parse_state(diagnostics, self.source_state.as_ref())?;
            let moved = resource.extra().move_state(diagnostics, &self.source_type_name, source)?;
            let private = resource.extra().private_after_move();
            Some((state::fit(&schema.block, moved), codec::encode(diagnostics, &private)?))
        });
        let (target_state, target_private) = moved.unzip();
        MoveResourceStateResponse {
            target_state: target_state.as_ref().map(codec::json),
            diagnostics: Vec::new(),
            target_private: target_private.unwrap_or_default(),
        }
    }
}
