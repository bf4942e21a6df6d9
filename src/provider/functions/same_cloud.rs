//! The function `same_cloud`: whether two clouds are of one provider.

use crate::{
    domain::cloud::is_same_provider,
    provider::functions::{cloud, signature},
};
use async_trait::async_trait;
use tf_provider::{
    Diagnostics, Function,
    schema::{FunctionSchema, Type},
};

/// The function.
#[derive(Debug)]
pub struct SameCloud;

#[async_trait]
impl Function for SameCloud {
    type Input<'a> = (String, String);
    type Output<'a> = bool;

    fn schema(&self, _: &mut Diagnostics) -> Option<FunctionSchema> {
        Some(signature(
            "Whether two clouds are of one provider.",
            "Secondary backups must stay with the provider of the primary ones. False where a name does not tell the provider, unless both names are equal.",
            &[
                ("a", "Cloud name, such as `aws-eu-west-1`."),
                ("b", "Cloud name, such as `aws-eu-central-1`."),
            ],
            Type::Bool,
        ))
    }

    async fn call<'a>(&self, diags: &mut Diagnostics, (a, b): (String, String)) -> Option<bool> {
        let (left, right) = (cloud(diags, 0, &a), cloud(diags, 1, &b));
        Some(is_same_provider(&left?, &right?))
    }
}
