//! Calls about data sources and functions.

use crate::plugin::{
    answer::{Answer, Call, provider},
    calls::{
        CallFunctionRequest, CallFunctionResponse, GetFunctionsRequest, GetFunctionsResponse,
        ReadDataSourceRequest, ReadDataSourceResponse, ValidateDataResourceConfigRequest,
        ValidateDataResourceConfigResponse,
    },
    codec, convert,
    registry::Registry,
};
use tf_provider::Diagnostics;

impl Call for ValidateDataResourceConfigRequest {
    type Answer = ValidateDataResourceConfigResponse;

    fn subject(&self) -> String {
        format!("the check of a data source `{}`", self.type_name)
    }

    async fn answer(self, registry: &Registry, diagnostics: &mut Diagnostics) -> Self::Answer {
        let config = self.config.unwrap_or_default();
        if let Some(data_source) = registry.offers.data_source(diagnostics, &self.type_name) {
            data_source.validate(diagnostics, &config).await;
        }
        ValidateDataResourceConfigResponse::default()
    }
}

impl Call for ReadDataSourceRequest {
    type Answer = ReadDataSourceResponse;

    fn subject(&self) -> String {
        format!("the reading of a data source `{}`", self.type_name)
    }

    async fn answer(self, registry: &Registry, diagnostics: &mut Diagnostics) -> Self::Answer {
        let config = self.config.unwrap_or_default();
        let state = match registry.offers.data_source(diagnostics, &self.type_name) {
            Some(data_source) => data_source.read(diagnostics, &config).await,
            None => None,
        };
        ReadDataSourceResponse { state: state.map(codec::msgpack), diagnostics: Vec::new() }
    }
}

impl Call for GetFunctionsRequest {
    type Answer = GetFunctionsResponse;

    fn subject(&self) -> String {
        "the list of its functions".to_owned()
    }

    async fn answer(self, registry: &Registry, diagnostics: &mut Diagnostics) -> Self::Answer {
        let functions = provider::functions(registry, diagnostics);
        GetFunctionsResponse { functions, diagnostics: Vec::new() }
    }
}

impl Call for CallFunctionRequest {
    type Answer = CallFunctionResponse;

    fn subject(&self) -> String {
        format!("the function `{}`", self.name)
    }

    async fn answer(self, registry: &Registry, diagnostics: &mut Diagnostics) -> Self::Answer {
        let result = match registry.offers.function(diagnostics, &self.name) {
            Some(function) => function.call(diagnostics, &self.arguments).await,
            None => None,
        };
        CallFunctionResponse { result: result.map(codec::msgpack), error: None }
    }
}

impl Answer for CallFunctionResponse {
    fn with(mut self, diagnostics: Diagnostics) -> Self {
        self.error = convert::function_error(diagnostics);
        self
    }
}
