//! The ephemeral resource `fork_credentials`: how to log in to a fork, kept in neither plan nor state.

use crate::{
    api::service::Service,
    domain::ids::{ProjectName, ServiceName},
    plugin::ephemeral::{EphemeralResource, Opened, Renewed},
    provider::{
        names, report,
        session::Session,
        start,
        value::{Secret, Tf},
    },
};
use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tf_provider::{Diagnostics, schema::Schema};

/// The ephemeral resource's type name.
pub const TYPE: &str = "fork_credentials";

/// The credentials of a fork, read from the API whenever they are needed. With
/// `expose_credentials = false` in the fork they are in no plan and in no state. Needs Terraform 1.10.
///
/// While the fork is still to be made, take `service_name` from a value that is known only afterwards,
/// such as `split("/", fork_from_secondary_backup.example.id)[1]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CredentialsModel {
    /// Project of the fork.
    #[schemars(extend("x-tf" = "required"))]
    pub project: Tf<String>,
    /// Name of the fork.
    #[schemars(extend("x-tf" = "required"))]
    pub service_name: Tf<String>,
    /// Host name or address.
    #[schemars(extend("x-tf" = "computed"))]
    pub host: Tf<String>,
    /// Port.
    #[schemars(extend("x-tf" = "computed"))]
    pub port: Tf<String>,
    /// User name.
    #[schemars(extend("x-tf" = "computed"))]
    pub username: Tf<String>,
    /// Password.
    #[schemars(extend("x-tf" = "computed sensitive"))]
    pub password: Tf<Secret>,
    /// Connection URI with the password.
    #[schemars(extend("x-tf" = "computed sensitive"))]
    pub uri: Tf<Secret>,
}

/// The ephemeral resource.
#[derive(Debug)]
pub struct Credentials(pub Arc<Session>);

#[async_trait]
impl EphemeralResource for Credentials {
    type State = CredentialsModel;
    type Private = ();

    fn schema(&self, diagnostics: &mut Diagnostics) -> Option<Schema> {
        start::read_schema_of::<CredentialsModel>(diagnostics)
    }

    async fn validate(
        &self,
        diagnostics: &mut Diagnostics,
        config: CredentialsModel,
    ) -> Option<()> {
        names::validate(diagnostics, "project", &config.project, ProjectName::parse);
        names::validate(diagnostics, "service_name", &config.service_name, ServiceName::parse);
        Some(())
    }

    async fn open(
        &self,
        diagnostics: &mut Diagnostics,
        config: CredentialsModel,
    ) -> Option<Opened<CredentialsModel, ()>> {
        let connection = self.0.connected(diagnostics)?;
        let id = names::service_id(&config.project, &config.service_name)?;
        let service = connection.api.service_with_secrets(&id).await;
        let service = service
            .map_err(|e| report::service_unread(diagnostics, "service_name", &id, &e))
            .ok()?;
        let Some(state) = filled(config, &service) else {
            report::reading::no_credentials(diagnostics, &id);
            return None;
        };
        // A password does not run out, so there is nothing to renew and nothing to give back.
        Some(Opened { state, private: (), renew_at: None })
    }

    async fn renew(&self, _: &mut Diagnostics, _private: ()) -> Option<Renewed<()>> {
        Some(Renewed { private: (), renew_at: None })
    }

    async fn close(&self, _: &mut Diagnostics, _private: ()) -> Option<()> {
        Some(())
    }
}

/// The configuration with the credentials; `None` while the service has none.
fn filled(config: CredentialsModel, service: &Service) -> Option<CredentialsModel> {
    let part = |key: &str| service.service_uri_params.get(key).cloned();
    Some(CredentialsModel {
        host: Tf::Known(part("host")?),
        port: Tf::Known(part("port")?),
        username: Tf::Known(part("user")?),
        password: Tf::Known(Secret(part("password")?)),
        uri: Tf::Known(Secret(service.service_uri.clone()?)),
        ..config
    })
}
