//! The endpoints of the API, one method each. Reads are shared, writes make them stale.

use super::{
    error::ClientError,
    exchange::{Exchange, Request},
    reads::Reads,
    retry::RetryPolicy,
    transport::{Endpoint, Method},
};
use crate::{
    api::{
        backups::BackupList,
        catalog::{CloudList, ServiceType},
        path,
        service::{Service, ServiceCreate, ServiceList, ServiceReply, ServiceUpdate},
        status::{self, Status},
    },
    domain::ids::{ProjectName, ServiceId},
    sys::clock::Clock,
};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::OwnedMutexGuard;

/// From this many reads of services in one project within [`BURST`], the project's list is read
/// instead: a plan of a thousand services is then one request.
const SINGLE_READS_MAX: u32 = 8;
const BURST: Duration = Duration::from_secs(2);

/// The services of a project by name.
type Listed = HashMap<String, Arc<Service>>;

/// The API.
#[derive(Debug)]
pub struct Api {
    exchange: Exchange,
    clock: Arc<dyn Clock>,
    services: Reads<Service>,
    secrets: Reads<Service>,
    lists: Reads<Listed>,
    backups: Reads<BackupList>,
    clouds: Reads<CloudList>,
    types: Reads<ServiceType>,
    /// When each service was last written, on the monotonic clock.
    written: Mutex<HashMap<ServiceId, Duration>>,
    bursts: Mutex<HashMap<ProjectName, Burst>>,
    locks: Mutex<HashMap<ServiceId, Arc<tokio::sync::Mutex<()>>>>,
}

/// How much is read of one project.
#[derive(Clone, Copy, Debug, Default)]
struct Burst {
    since: Duration,
    reads: u32,
    /// The list cannot be had, or tells less than the single reads.
    list_unusable: bool,
}

impl Api {
    /// A client of one API. Nothing is sent yet.
    ///
    /// # Errors
    /// [`ClientError::Setup`] when the URL, the token or the certificates make no sense.
    pub fn new(
        endpoint: &Endpoint,
        policy: RetryPolicy,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ClientError> {
        Ok(Self {
            exchange: Exchange::new(endpoint, policy, Arc::clone(&clock))?,
            clock,
            services: Reads::new(),
            secrets: Reads::new(),
            lists: Reads::new(),
            backups: Reads::new(),
            clouds: Reads::new(),
            types: Reads::new(),
            written: Mutex::default(),
            bursts: Mutex::default(),
            locks: Mutex::default(),
        })
    }

    /// Reads a service, without its secrets. The answer may be about two seconds old.
    ///
    /// # Errors
    /// Any [`ClientError`] but those of writes.
    pub async fn service(&self, id: &ServiceId) -> Result<Arc<Service>, ClientError> {
        let not_before = self.written_at(id);
        if self.is_burst(&id.project)
            && let Some(service) = self.listed(id, not_before).await
        {
            return Ok(service);
        }
        let key = path::service(id.project.as_str(), id.service.as_str());
        let fetch = async { self.fetch_service(&key, id).await };
        let now = self.clock.monotonic();
        self.services.get(&key, now, not_before, fetch).await.map(|(service, _)| service)
    }

    /// Reads a service as it is now, without its secrets.
    ///
    /// # Errors
    /// Any [`ClientError`] but those of writes.
    pub async fn service_now(&self, id: &ServiceId) -> Result<Service, ClientError> {
        let path = path::service(id.project.as_str(), id.service.as_str());
        self.fetch_service(&path, id).await
    }

    /// Reads a service with its credentials. The answer may be about two seconds old.
    ///
    /// # Errors
    /// Any [`ClientError`] but those of writes.
    pub async fn service_with_secrets(&self, id: &ServiceId) -> Result<Arc<Service>, ClientError> {
        let key = path::service(id.project.as_str(), id.service.as_str());
        let fetch = self.service_with_secrets_now(id);
        let (now, not_before) = (self.clock.monotonic(), self.written_at(id));
        self.secrets.get(&key, now, not_before, fetch).await.map(|(service, _)| service)
    }

    /// Reads a service as it is now, with its credentials.
    ///
    /// # Errors
    /// Any [`ClientError`] but those of writes.
    pub async fn service_with_secrets_now(&self, id: &ServiceId) -> Result<Service, ClientError> {
        let path = path::service(id.project.as_str(), id.service.as_str());
        self.fetch_service(&format!("{path}?include_secrets=true"), id).await
    }

    /// Reads the backups of a service and what can be restored. About two seconds old at most.
    ///
    /// # Errors
    /// Any [`ClientError`] but those of writes.
    pub async fn backups(&self, id: &ServiceId) -> Result<Arc<BackupList>, ClientError> {
        let path = path::backups(id.project.as_str(), id.service.as_str());
        let doing = format!("reading the backups of service {id}");
        self.shared(&self.backups, &path, &doing, self.written_at(id)).await
    }

    /// Reads the backups of a service as they are now.
    ///
    /// # Errors
    /// Any [`ClientError`] but those of writes.
    pub async fn backups_now(&self, id: &ServiceId) -> Result<Arc<BackupList>, ClientError> {
        let path = path::backups(id.project.as_str(), id.service.as_str());
        let doing = format!("reading the backups of service {id}");
        self.shared(&self.backups, &path, &doing, self.clock.monotonic()).await
    }

    /// Reads the clouds that a project may use.
    ///
    /// # Errors
    /// Any [`ClientError`] but those of writes.
    pub async fn clouds(&self, project: &ProjectName) -> Result<Arc<CloudList>, ClientError> {
        let path = path::clouds(project.as_str());
        let doing = format!("reading the clouds of project {project}");
        self.shared(&self.clouds, &path, &doing, Duration::ZERO).await
    }

    /// Reads a service type with the JSON schema of its settings.
    ///
    /// # Errors
    /// Any [`ClientError`] but those of writes.
    pub async fn service_type(
        &self,
        project: &ProjectName,
        service_type: &str,
    ) -> Result<Arc<ServiceType>, ClientError> {
        let path = path::service_type(project.as_str(), service_type);
        let doing = format!("reading service type {service_type}");
        self.shared(&self.types, &path, &doing, Duration::ZERO).await
    }

    /// Reads the replication-lag report of a service over a period: `hour`, `day`, `week`, `month` or
    /// `year`. Its shape is free-form.
    ///
    /// # Errors
    /// Any [`ClientError`] but those of writes.
    pub async fn lag_report(
        &self,
        id: &ServiceId,
        period: &str,
    ) -> Result<serde_json::Value, ClientError> {
        let path = path::lag_report(id.project.as_str(), id.service.as_str());
        let doing = format!("reading the replication lag of service {id}");
        let body = serde_json::json!({ "period": period }).to_string();
        let body = Some(body.as_bytes());
        let request = Request { method: Method::Post, path: &path, body, doing: &doing };
        self.exchange.json(request).await
    }

    /// Creates a service.
    ///
    /// # Errors
    /// Any [`ClientError`]; [`ClientError::Conflict`] when the name is taken. Ask
    /// [`ClientError::maybe_done`] whether it may exist all the same.
    pub async fn create(
        &self,
        id: &ServiceId,
        body: &ServiceCreate,
    ) -> Result<Service, ClientError> {
        let path = path::services(id.project.as_str());
        let doing = format!("creating service {id}");
        let reply: Result<ServiceReply, _> =
            self.write(id, Method::Post, &path, &doing, body).await;
        reply.map(|reply| reply.service)
    }

    /// Changes a service. Of `user_config` only the keys that are given change.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn update(
        &self,
        id: &ServiceId,
        body: &ServiceUpdate,
    ) -> Result<Service, ClientError> {
        let path = path::service(id.project.as_str(), id.service.as_str());
        let doing = format!("changing service {id}");
        let reply: Result<ServiceReply, _> = self.write(id, Method::Put, &path, &doing, body).await;
        reply.map(|reply| reply.service)
    }

    /// Replaces the tags of a service.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn set_tags(
        &self,
        id: &ServiceId,
        tags: &BTreeMap<String, String>,
    ) -> Result<(), ClientError> {
        let path = path::tags(id.project.as_str(), id.service.as_str());
        let doing = format!("setting the tags of service {id}");
        let body = serde_json::json!({ "tags": tags });
        self.write::<_, serde_json::Value>(id, Method::Put, &path, &doing, &body).await.map(|_| ())
    }

    /// Deletes a service. What is gone already counts as deleted.
    ///
    /// # Errors
    /// Any [`ClientError`] but [`ClientError::NotFound`].
    pub async fn delete(&self, id: &ServiceId) -> Result<(), ClientError> {
        let path = path::service(id.project.as_str(), id.service.as_str());
        let doing = format!("deleting service {id}");
        let request = Request { method: Method::Delete, path: &path, body: None, doing: &doing };
        let outcome = self.exchange.reply(request).await;
        self.mark_written(id);
        match outcome {
            Ok(_) | Err(ClientError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Reads what an engine of this project does and can restore. Aiven's API has no such thing.
    ///
    /// # Errors
    /// Any [`ClientError`] but those of writes.
    pub async fn status(&self) -> Result<Status, ClientError> {
        let doing = "reading the engine's status";
        let request = Request { method: Method::Get, path: status::PATH, body: None, doing };
        self.exchange.json(request).await
    }

    /// Keeps other tasks of this process from changing the service while the guard lives. What is
    /// read, changed and written back must be under it.
    pub async fn lock(&self, id: &ServiceId) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(locks.entry(id.clone()).or_default())
        };
        lock.lock_owned().await
    }

    async fn fetch_service(&self, path: &str, id: &ServiceId) -> Result<Service, ClientError> {
        let doing = format!("reading service {id}");
        let request = Request { method: Method::Get, path, body: None, doing: &doing };
        self.exchange.json::<ServiceReply>(request).await.map(|reply| reply.service)
    }

    async fn shared<T: DeserializeOwned>(
        &self,
        reads: &Reads<T>,
        path: &str,
        doing: &str,
        not_before: Duration,
    ) -> Result<Arc<T>, ClientError> {
        let request = Request { method: Method::Get, path, body: None, doing };
        let fetch = self.exchange.json::<T>(request);
        reads.get(path, self.clock.monotonic(), not_before, fetch).await.map(|(value, _)| value)
    }

    async fn write<B: Serialize, T: DeserializeOwned>(
        &self,
        id: &ServiceId,
        method: Method,
        path: &str,
        doing: &str,
        body: &B,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).map_err(|e| ClientError::Setup {
            url: path.to_owned(),
            reason: format!("encoding the request: {e}"),
        })?;
        let request = Request { method, path, body: Some(&body), doing };
        let outcome = self.exchange.json(request).await;
        // A failed write may have been carried out all the same.
        self.mark_written(id);
        outcome
    }

    fn mark_written(&self, id: &ServiceId) {
        let now = self.clock.monotonic();
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        written.insert(id.clone(), now);
    }

    fn written_at(&self, id: &ServiceId) -> Duration {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        written.get(id).copied().unwrap_or_default()
    }

    /// Counts a read, and says whether there are so many that the list is worth its price.
    fn is_burst(&self, project: &ProjectName) -> bool {
        let now = self.clock.monotonic();
        let mut bursts = self.bursts.lock().unwrap_or_else(PoisonError::into_inner);
        let burst = bursts.entry(project.clone()).or_default();
        if now.saturating_sub(burst.since) >= BURST {
            burst.since = now;
            // A burst that goes on stays one: its next second needs no single reads first.
            burst.reads = if burst.reads > SINGLE_READS_MAX { SINGLE_READS_MAX } else { 0 };
        }
        burst.reads = burst.reads.saturating_add(1);
        burst.reads > SINGLE_READS_MAX && !burst.list_unusable
    }

    /// The service from the project's list. `None` when a single read must tell.
    async fn listed(&self, id: &ServiceId, not_before: Duration) -> Option<Arc<Service>> {
        let path = path::services(id.project.as_str());
        let fetch = async {
            let doing = format!("listing the services of project {}", id.project);
            let request = Request { method: Method::Get, path: &path, body: None, doing: &doing };
            let list: ServiceList = self.exchange.json(request).await?;
            let pair = |service: Service| (service.service_name.clone(), Arc::new(service));
            Ok(list.services.into_iter().map(pair).collect::<Listed>())
        };
        let answer = self.lists.get(&path, self.clock.monotonic(), Duration::ZERO, fetch).await;
        let Ok((list, started)) = answer else {
            self.mark_list_unusable(&id.project);
            return None;
        };
        // A service that is not in the list is asked for by itself: the API then says why.
        let service = list.get(id.service.as_str()).filter(|_| started >= not_before)?;
        if service.backups.is_none() {
            self.mark_list_unusable(&id.project);
            return None;
        }
        Some(Arc::clone(service))
    }

    fn mark_list_unusable(&self, project: &ProjectName) {
        let mut bursts = self.bursts.lock().unwrap_or_else(PoisonError::into_inner);
        bursts.entry(project.clone()).or_default().list_unusable = true;
    }
}
