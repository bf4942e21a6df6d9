//! The API over HTTP: routes, authentication, error bodies. Decides nothing.

mod answer;
mod auth;
mod catalog;
mod services;

use crate::engine::app::App;
use axum::{
    Router,
    extract::{DefaultBodyLimit, Request, State},
    http::Uri,
    middleware,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use std::{io, sync::Arc};
use tokio::net::TcpListener;
use tower_service::Service;

/// Largest body of a request, in bytes.
const BODY_BYTES_MAX: usize = 1 << 20;

/// Serves the API until the engine is being stopped.
///
/// # Errors
/// When the listener fails.
pub async fn serve(app: Arc<App>, listener: TcpListener) -> io::Result<()> {
    let stop = app.stop.clone();
    axum::serve(listener, router(&app)).with_graceful_shutdown(stop.cancelled_owned()).await
}

fn router(app: &Arc<App>) -> Router {
    let project = "/v1/project/{project}";
    let service = format!("{project}/service/{{service}}");
    let routes = Router::new()
        .route("/v1/btar/status", get(catalog::status))
        .route("/metrics", get(catalog::metrics))
        .route("/v1/me", get(catalog::me))
        .route("/v1/service_versions", get(catalog::service_versions))
        .route("/v1/account/{account}/service_versions", get(catalog::service_versions))
        .route("/v1/project", get(catalog::projects))
        .route(project, get(catalog::project))
        .route(&format!("{project}/clouds"), get(catalog::project_clouds))
        .route(&format!("{project}/vpcs"), get(catalog::vpcs))
        .route(&format!("{project}/static-ips"), get(catalog::static_ips))
        .route(&format!("{project}/service_types"), get(catalog::service_types))
        .route(&format!("{project}/service-types/{{type}}"), get(catalog::service_type))
        .route(&format!("{project}/service"), get(services::list).post(services::create))
        .route(&service, get(services::get).put(services::update).delete(services::delete))
        .route(&format!("{service}/backups"), get(services::backups))
        .route(&format!("{service}/backup_to_another_region/report"), post(services::lag_report))
        .route(
            &format!("{service}/tags"),
            get(services::tags).put(services::put_tags).patch(services::patch_tags),
        )
        .route_layer(middleware::from_fn_with_state(app.clone(), auth::require))
        // The list of clouds is public, as Aiven's is.
        .route("/v1/clouds", get(catalog::clouds))
        .method_not_allowed_fallback(answer::wrong_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(app.clone());
    let plain = routes.clone();
    routes.fallback(async move |request: Request| collapse_slashes(plain, request).await)
}

/// Clients whose base URL ends in a slash ask for `//v1/…`.
async fn collapse_slashes(mut routes: Router, mut request: Request) -> Response {
    let path = request.uri().path();
    if !path.starts_with("//") {
        return answer::no_such_path(path);
    }
    let rest = request.uri().path_and_query().map_or("", |path| path.as_str());
    let Ok(uri) = format!("/{}", rest.trim_start_matches('/')).parse::<Uri>() else {
        return answer::no_such_path(request.uri().path());
    };
    *request.uri_mut() = uri;
    match routes.call(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// What every handler gets.
type Engine = State<Arc<App>>;

/// A body, or an error in the API's form.
type Answer<T> = Result<axum::Json<T>, answer::Failure>;

impl IntoResponse for answer::Failure {
    fn into_response(self) -> Response {
        answer::failure(&self.0)
    }
}
