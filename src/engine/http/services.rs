//! Handlers of services, backups and tags.

use crate::{
    api::{
        backups::BackupList,
        service::{ServiceCreate, ServiceList, ServiceReply, ServiceUpdate},
    },
    engine::http::{
        Answer, Engine,
        answer::{Failure, read},
    },
};
use axum::{
    Json,
    body::Bytes,
    extract::{Path, State},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;

type Names = Path<(String, String)>;

pub(super) async fn list(State(app): Engine, Path(project): Path<String>) -> Answer<ServiceList> {
    Ok(Json(ServiceList { services: app.list_services(&project)? }))
}

pub(super) async fn create(
    State(app): Engine,
    Path(project): Path<String>,
    body: Bytes,
) -> Answer<ServiceReply> {
    let create: ServiceCreate = read(&body)?;
    // On a task of its own: a client that goes away must not leave half a decision behind.
    let made = tokio::spawn(async move { app.create_service(&project, create).await });
    let service = made.await.expect("creating a service does not panic")?;
    Ok(Json(ServiceReply { service }))
}

pub(super) async fn get(
    State(app): Engine,
    Path((project, service)): Names,
) -> Answer<ServiceReply> {
    Ok(Json(ServiceReply { service: app.get_service(&project, &service)? }))
}

pub(super) async fn update(
    State(app): Engine,
    Path((project, service)): Names,
    body: Bytes,
) -> Answer<ServiceReply> {
    let update: ServiceUpdate = read(&body)?;
    Ok(Json(ServiceReply { service: app.update_service(&project, &service, update).await? }))
}

pub(super) async fn delete(State(app): Engine, Path((project, service)): Names) -> Answer<Value> {
    let deleted = tokio::spawn(async move { app.delete_service(&project, &service).await });
    deleted.await.expect("deleting a service does not panic")?;
    Ok(Json(json!({"message": "deleted", "errors": []})))
}

pub(super) async fn backups(
    State(app): Engine,
    Path((project, service)): Names,
) -> Answer<BackupList> {
    Ok(Json(app.backups(&project, &service)?))
}

#[derive(Deserialize)]
struct ReportRequest {
    period: Option<String>,
}

pub(super) async fn lag_report(
    State(app): Engine,
    Path((project, service)): Names,
    body: Bytes,
) -> Answer<Value> {
    let request: ReportRequest = read(&body)?;
    let period = request.period.as_deref().unwrap_or("hour");
    Ok(Json(app.lag_report(&project, &service, period)?))
}

#[derive(Deserialize, Serialize)]
pub(super) struct Tags {
    #[serde(default)]
    tags: BTreeMap<String, Option<String>>,
}

impl Tags {
    fn of(tags: BTreeMap<String, String>) -> Json<Self> {
        Json(Self { tags: tags.into_iter().map(|(key, value)| (key, Some(value))).collect() })
    }
}

pub(super) async fn tags(State(app): Engine, Path((project, service)): Names) -> Answer<Tags> {
    Ok(Tags::of(app.tags(&project, &service)?))
}

pub(super) async fn put_tags(
    State(app): Engine,
    Path((project, service)): Names,
    body: Bytes,
) -> Answer<Tags> {
    let sent: Tags = read(&body)?;
    let all = sent.tags.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
    Ok(Tags::of(app.change_tags(&project, &service, |tags| *tags = all).await?))
}

pub(super) async fn patch_tags(
    State(app): Engine,
    Path((project, service)): Names,
    body: Bytes,
) -> Answer<Tags> {
    let sent: Tags = read(&body)?;
    let patch = |tags: &mut BTreeMap<String, String>| {
        for (key, value) in sent.tags {
            match value {
                Some(value) => drop(tags.insert(key, value)),
                None => drop(tags.remove(&key)),
            }
        }
    };
    let changed: Result<_, Failure> =
        app.change_tags(&project, &service, patch).await.map_err(Failure);
    Ok(Tags::of(changed?))
}
