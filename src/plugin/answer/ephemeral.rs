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
