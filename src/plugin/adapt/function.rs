//! A function: its signature and its calls.

use crate::plugin::{
    adapt::required,
    codec::{decode_arguments, encode, sequence},
    wire::DynamicValue,
};
use async_trait::async_trait;
use tf_provider::{Diagnostics, Function, schema::FunctionSchema};

/// A function with its types hidden.
#[async_trait]
pub(in crate::plugin) trait FunctionHandler: Send + Sync {
    fn schema(&self, diagnostics: &mut Diagnostics) -> Option<FunctionSchema>;
    async fn call(
        &self,
        diagnostics: &mut Diagnostics,
        arguments: &[DynamicValue],
    ) -> Option<Vec<u8>>;
}

pub(in crate::plugin) struct Typed<F>(pub(in crate::plugin) F);

#[async_trait]
impl<F: Function> FunctionHandler for Typed<F> {
    fn schema(&self, diagnostics: &mut Diagnostics) -> Option<FunctionSchema> {
        let schema = self.0.schema(diagnostics);
        required(diagnostics, schema, "describing a function")
    }

    async fn call(
        &self,
        diagnostics: &mut Diagnostics,
        arguments: &[DynamicValue],
    ) -> Option<Vec<u8>> {
        let arguments = match sequence(arguments) {
            Ok(arguments) => arguments,
            Err(error) => {
                diagnostics.root_error("The arguments cannot be read", error.to_string());
                return None;
            }
        };
        let arguments = decode_arguments(diagnostics, &arguments)?;
        let result = self.0.call(diagnostics, arguments).await;
        let result = required(diagnostics, result, "calling a function")?;
        encode(diagnostics, &result)
    }
}
