//! The function `parse_cloud`: takes a cloud name apart.

use crate::provider::functions::{cloud, signature};
use async_trait::async_trait;
use serde::Serialize;
use std::collections::HashMap;
use tf_provider::{
    Diagnostics, Function,
    schema::{FunctionSchema, Type},
};

/// The function.
#[derive(Debug)]
pub struct ParseCloud;

/// The parts of a cloud name.
#[derive(Debug, Serialize)]
pub struct Parts {
    /// The whole name.
    pub name: String,
    /// The provider.
    pub provider: Option<String>,
    /// The provider's own name of the region.
    pub region: String,
}

#[async_trait]
impl Function for ParseCloud {
    type Input<'a> = (String,);
    type Output<'a> = Parts;

    fn schema(&self, _: &mut Diagnostics) -> Option<FunctionSchema> {
        Some(signature(
            "Takes a cloud name apart.",
            "Returns an object with `name`, `provider` and `region`, the region as the provider itself names it. `provider` is null where the name does not tell it.",
            &[("name", "Cloud name, such as `aws-eu-central-1`.")],
            Type::Object(HashMap::from([
                ("name".to_owned(), Type::String),
                ("provider".to_owned(), Type::String),
                ("region".to_owned(), Type::String),
            ])),
        ))
    }

    async fn call<'a>(&self, diags: &mut Diagnostics, (name,): (String,)) -> Option<Parts> {
        let cloud = cloud(diags, 0, &name)?;
        Some(Parts {
            name: cloud.name.as_str().to_owned(),
            provider: cloud.provider.map(|provider| provider.as_str().to_owned()),
            region: cloud.name.region().to_owned(),
        })
    }
}
