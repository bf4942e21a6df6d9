//! Calls about ephemeral resources, in the order in which Terraform makes them.

use crate::plugin::{
    answer::Call,
    calls::{
        CloseEphemeralResourceRequest, CloseEphemeralResourceResponse,
        OpenEphemeralResourceRequest, OpenEphemeralResourceResponse, RenewEphemeralResourceRequest,
        RenewEphemeralResourceResponse, Timestamp, ValidateEphemeralResourceConfigRequest,
        ValidateEphemeralResourceConfigResponse,
    },
    codec,
    registry::Registry,
};
use chrono::{DateTime, Utc};
use tf_provider::Diagnostics;

fn timestamp(time: DateTime<Utc>) -> Timestamp {
    let nanos = i32::try_from(time.timestamp_subsec_nanos()).unwrap_or(0);
    Timestamp { seconds: time.timestamp(), nanos }
}

impl Call for ValidateEphemeralResourceConfigRequest {
    type Answer = ValidateEphemeralResourceConfigResponse;

    fn subject(&self) -> String {
        format!("the check of an ephemeral `{}`", self.type_name)
    }

    async fn answer(self, registry: &Registry, diagnostics: &mut Diagnostics) -> Self::Answer {
        let config = self.config.unwrap_or_default();
        if let Some(resource) = registry.offers.ephemeral(diagnostics, &self.type_name) {
            resource.validate(diagnostics, &config).await;
        }
        ValidateEphemeralResourceConfigResponse::default()
    }
}

impl Call for OpenEphemeralResourceRequest {
    type Answer = OpenEphemeralResourceResponse;

    fn subject(&self) -> String {
        format!("the opening of an ephemeral `{}`", self.type_name)
    }

    async fn answer(self, registry: &Registry, diagnostics: &mut Diagnostics) -> Self::Answer {
        let config = self.config.unwrap_or_default();
        let opened = match registry.offers.ephemeral(diagnostics, &self.type_name) {
            Some(resource) => resource.open(diagnostics, &config).await,
            None => None,
        };
        // Without a result there is an error, and Terraform looks no further.
        opened.map_or_else(OpenEphemeralResourceResponse::default, |opened| {
            OpenEphemeralResourceResponse {
                diagnostics: Vec::new(),
                renew_at: opened.renew_at.map(timestamp),
                result: Some(codec::msgpack(opened.state)),
                private: Some(opened.private),
            }
        })
    }
}

impl Call for RenewEphemeralResourceRequest {
    type Answer = RenewEphemeralResourceResponse;

    fn subject(&self) -> String {
        format!("the renewal of an ephemeral `{}`", self.type_name)
    }

    async fn answer(self, registry: &Registry, diagnostics: &mut Diagnostics) -> Self::Answer {
        let private = self.private.unwrap_or_default();
        let renewed = match registry.offers.ephemeral(diagnostics, &self.type_name) {
            Some(resource) => resource.renew(diagnostics, &private).await,
            None => None,
        };
        match renewed {
            Some(renewed) => RenewEphemeralResourceResponse {
                diagnostics: Vec::new(),
                renew_at: renewed.renew_at.map(timestamp),
                private: Some(renewed.private),
            },
            // What is kept is still needed to close it.
            None => RenewEphemeralResourceResponse {
                private: Some(private),
                ..RenewEphemeralResourceResponse::default()
            },
        }
    }
}

impl Call for CloseEphemeralResourceRequest {
    type Answer = CloseEphemeralResourceResponse;

    fn subject(&self) -> String {
        format!("the closing of an ephemeral `{}`", self.type_name)
    }

    async fn answer(self, registry: &Registry, diagnostics: &mut Diagnostics) -> Self::Answer {
        let private = self.private.unwrap_or_default();
        if let Some(resource) = registry.offers.ephemeral(diagnostics, &self.type_name) {
            resource.close(diagnostics, &private).await;
        }
        CloseEphemeralResourceResponse::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::{
        adapt::{ephemeral::Typed, provider::ProviderHandler},
        ephemeral::{EphemeralResource, Opened, Renewed},
        registry::Offers,
        wire::DynamicValue,
    };
    use async_trait::async_trait;
    use serde_json::{Value, json};
    use tf_provider::schema::Schema;
    use tokio_util::sync::CancellationToken;

    /// A lease that can be renewed twice.
    struct Lease;

    fn later() -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 500).unwrap()
    }

    #[async_trait]
    impl EphemeralResource for Lease {
        type State = Value;
        type Private = u32;

        fn schema(&self, _: &mut Diagnostics) -> Option<Schema> {
            None
        }

        async fn validate(&self, diagnostics: &mut Diagnostics, config: Value) -> Option<()> {
            if config["name"].is_null() {
                diagnostics.root_error_short("a name is missing");
            }
            Some(())
        }

        async fn open(&self, _: &mut Diagnostics, config: Value) -> Option<Opened<Value, u32>> {
            let state = json!({"name": config["name"], "key": "k"});
            Some(Opened { state, private: 0, renew_at: Some(later()) })
        }

        async fn renew(&self, diagnostics: &mut Diagnostics, n: u32) -> Option<Renewed<u32>> {
            if n == 1 {
                diagnostics.root_error_short("no more");
                return None;
            }
            Some(Renewed { private: n + 1, renew_at: None })
        }

        async fn close(&self, diagnostics: &mut Diagnostics, n: u32) -> Option<()> {
            diagnostics.root_warning(format!("closed after {n}"), "");
            Some(())
        }
    }

    struct Nothing;

    #[async_trait]
    impl ProviderHandler for Nothing {
        fn schema(&self, _: &mut Diagnostics) -> Option<Schema> {
            None
        }
        async fn validate(&self, _: &mut Diagnostics, _: &DynamicValue) -> Option<()> {
            None
        }
        async fn configure(&self, _: &mut Diagnostics, _: String, _: &DynamicValue) -> Option<()> {
            None
        }
    }

    fn registry() -> Registry {
        let mut offers = Offers::default();
        offers.ephemerals.insert("lease", Box::new(Typed(Lease)));
        Registry { provider: Box::new(Nothing), offers, stop: CancellationToken::new() }
    }

    fn config(json: &Value) -> Option<DynamicValue> {
        Some(codec::msgpack(rmp_serde::to_vec_named(json).unwrap()))
    }

    #[tokio::test]
    async fn a_lease_is_opened_renewed_and_closed_with_what_it_keeps() {
        let (registry, mut said) = (registry(), Diagnostics::default());
        let type_name = || "lease".to_owned();
        let config = config(&json!({"name": "a"}));
        let request = OpenEphemeralResourceRequest { type_name: type_name(), config };
        let opened = request.answer(&registry, &mut said).await;
        let result: Value = rmp_serde::from_slice(&opened.result.unwrap().msgpack).unwrap();
        assert_eq!(result, json!({"name": "a", "key": "k"}));
        assert_eq!(opened.renew_at, Some(Timestamp { seconds: 1_800_000_000, nanos: 500 }));

        let private = opened.private;
        let request = RenewEphemeralResourceRequest { type_name: type_name(), private };
        let renewed = request.answer(&registry, &mut said).await;
        assert_eq!((&renewed.renew_at, said.errors.len()), (&None, 0));
        // A renewal that fails loses nothing: it can still be closed.
        let private = renewed.private.clone();
        let request = RenewEphemeralResourceRequest { type_name: type_name(), private };
        let failed = request.answer(&registry, &mut said).await;
        assert_eq!((failed.private == renewed.private, said.errors.len()), (true, 1));

        let private = failed.private;
        let request = CloseEphemeralResourceRequest { type_name: type_name(), private };
        request.answer(&registry, &mut said).await;
        assert_eq!(said.warnings[0].summary, "closed after 1");
    }

    #[tokio::test]
    async fn a_wrong_configuration_and_an_unknown_type_are_errors() {
        for (name, text) in
            [("lease", "a name is missing"), ("other", "The provider does not offer `other`")]
        {
            let (mut said, type_name) = (Diagnostics::default(), name.to_owned());
            let config = config(&json!({}));
            let request = ValidateEphemeralResourceConfigRequest { type_name, config };
            request.answer(&registry(), &mut said).await;
            assert_eq!(said.errors[0].summary, text);
        }
    }
}
