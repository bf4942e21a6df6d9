//! Clouds, projects and service types.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// `{"clouds": […]}`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CloudList {
    /// The clouds on offer.
    pub clouds: Vec<CloudItem>,
}

/// A cloud on offer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CloudItem {
    /// Name, such as `aws-eu-west-1`.
    pub cloud_name: String,
    /// `europe`, ….
    #[serde(default)]
    pub geo_region: String,
    /// Text for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloud_description: Option<String>,
    /// `aws`, `google`, …; not always given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// Text for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_description: Option<String>,
    /// Degrees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub geo_latitude: Option<f64>,
    /// Degrees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub geo_longitude: Option<f64>,
}

/// Answer of `GET /project/{p}/service-types/{t}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ServiceType {
    /// Text for people.
    #[serde(default)]
    pub description: String,
    /// JSON schema of `user_config`.
    #[serde(default)]
    pub user_config_schema: Value,
    /// The rest as the other clients want it.
    #[serde(flatten)]
    pub rest: serde_json::Map<String, Value>,
}
