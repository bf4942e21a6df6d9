//! The data source `aiven_clouds`: the clouds that a project may use.

use crate::{
    api::catalog::CloudItem,
    domain::{
        cloud::{CloudName, CloudProvider},
        ids::ProjectName,
    },
    provider::{
        names,
        report::{self, At},
        session::Session,
        start,
        value::Tf,
    },
};
use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tf_provider::{DataSource, Diagnostics, schema::Schema};

/// The data source's type name.
pub const TYPE: &str = "aiven_clouds";

/// The clouds that a project may use, in order of their names.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CloudsModel {
    /// Project.
    #[schemars(extend("x-tf" = "required"))]
    pub project: Tf<String>,
    /// Only clouds of this provider, such as `aws`. (Terraform keeps the name `provider` for itself.)
    #[schemars(extend("x-tf" = "optional"))]
    pub cloud_provider: Tf<String>,
    /// The clouds.
    #[schemars(extend("x-tf" = "computed"))]
    pub clouds: Tf<Vec<CloudRow>>,
}

/// A cloud.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CloudRow {
    /// Name, such as `aws-eu-west-1`.
    #[schemars(extend("x-tf" = "computed"))]
    pub name: Tf<String>,
    /// Provider: from the API, or else from the name; null where neither tells.
    #[schemars(extend("x-tf" = "computed"))]
    pub provider: Tf<String>,
    /// Part of the world, such as `europe`.
    #[schemars(extend("x-tf" = "computed"))]
    pub geo_region: Tf<String>,
    /// Degrees north.
    #[schemars(extend("x-tf" = "computed"))]
    pub latitude: Tf<f64>,
    /// Degrees east.
    #[schemars(extend("x-tf" = "computed"))]
    pub longitude: Tf<f64>,
}

/// The data source.
#[derive(Debug)]
pub struct Clouds(pub Arc<Session>);

#[async_trait]
impl DataSource for Clouds {
    type State<'a> = CloudsModel;
    type ProviderMetaState<'a> = ();

    fn schema(&self, diags: &mut Diagnostics) -> Option<Schema> {
        start::read_schema_of::<CloudsModel>(diags)
    }

    async fn validate<'a>(&self, diags: &mut Diagnostics, config: CloudsModel) -> Option<()> {
        names::validate(diags, "project", &config.project, ProjectName::parse);
        Some(())
    }

    async fn read<'a>(
        &self,
        diags: &mut Diagnostics,
        config: CloudsModel,
        _meta: (),
    ) -> Option<CloudsModel> {
        let connection = self.0.connected(diags)?;
        let project = ProjectName::parse(config.project.text()?).ok()?;
        let list = connection.api.clouds(&project).await;
        let list = list.map_err(|e| report::client_error(diags, At::Block, &e)).ok()?;
        let rows = rows(&list.clouds, config.cloud_provider.text());
        Some(CloudsModel { clouds: Tf::Known(rows), ..config })
    }
}

fn rows(clouds: &[CloudItem], provider: Option<&str>) -> Vec<CloudRow> {
    let mut clouds: Vec<&CloudItem> = clouds.iter().collect();
    clouds.sort_by(|left, right| left.cloud_name.cmp(&right.cloud_name));
    let rows = clouds.into_iter().map(|item| CloudRow {
        name: item.cloud_name.as_str().into(),
        provider: provider_of(item).map(|found| found.as_str().to_owned()).into(),
        geo_region: item.geo_region.as_str().into(),
        latitude: item.geo_latitude.into(),
        longitude: item.geo_longitude.into(),
    });
    rows.filter(|row| provider.is_none_or(|wanted| row.provider.text() == Some(wanted))).collect()
}

fn provider_of(item: &CloudItem) -> Option<CloudProvider> {
    let by_name = || CloudName::parse(&item.cloud_name).ok()?.provider();
    item.provider.as_deref().map(CloudProvider::new).or_else(by_name)
}
