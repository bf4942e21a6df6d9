//! Handlers of what clients ask for besides services.

use crate::{
    api::{catalog::CloudList, status::Status},
    engine::http::{Answer, Engine, answer::Failure},
};
use axum::{
    Json,
    extract::{Path, State},
    http::header,
    response::IntoResponse,
};
use serde_json::{Value, json};

pub(super) async fn status(State(app): Engine) -> Answer<Status> {
    Ok(Json(app.status()?))
}

pub(super) async fn metrics(State(app): Engine) -> Result<impl IntoResponse, Failure> {
    let text = app.metrics()?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text))
}

pub(super) async fn me() -> Json<Value> {
    let user = json!({
        "user": "engine", "real_name": "btar engine", "state": "active", "auth": ["token"],
        "token_validity_begin": null, "projects": [], "project_membership": {},
    });
    Json(json!({ "user": user }))
}

pub(super) async fn clouds(State(app): Engine) -> Json<CloudList> {
    Json(app.clouds())
}

pub(super) async fn projects(State(app): Engine) -> Json<Value> {
    Json(app.projects())
}

pub(super) async fn project(State(app): Engine, Path(project): Path<String>) -> Answer<Value> {
    Ok(Json(app.get_project(&project)?))
}

pub(super) async fn project_clouds(
    State(app): Engine,
    Path(project): Path<String>,
) -> Answer<CloudList> {
    Ok(Json(app.project_clouds(&project)?))
}

pub(super) async fn service_type(
    State(app): Engine,
    Path((project, name)): Path<(String, String)>,
) -> Answer<Value> {
    Ok(Json(app.service_type(&project, &name)?))
}

pub(super) async fn service_types(
    State(app): Engine,
    Path(project): Path<String>,
) -> Answer<Value> {
    Ok(Json(app.service_types(&project)?))
}

pub(super) async fn vpcs(State(app): Engine, Path(project): Path<String>) -> Answer<Value> {
    app.require_project(&project)?;
    Ok(Json(json!({"vpcs": []})))
}

pub(super) async fn static_ips(State(app): Engine, Path(project): Path<String>) -> Answer<Value> {
    app.require_project(&project)?;
    Ok(Json(json!({"static_ips": []})))
}

pub(super) async fn service_versions() -> Json<Value> {
    Json(json!({"service_versions": []}))
}
