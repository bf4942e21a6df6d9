//! stub
pub mod runner;
use crate::{
    domain::{ids::ServiceId, recovery::BinlogPlan},
    engine::fork::{ForkSite, Secret},
    sealed::keys::Keys,
    store::BlobStore,
};
use std::{collections::BTreeMap, path::PathBuf, sync::Arc};
#[derive(Debug)]
pub struct MySqlOrder {
    pub service: ServiceId,
    pub plan: BinlogPlan,
    pub store: Arc<dyn BlobStore>,
    pub keys: Arc<Keys>,
    pub site: ForkSite,
    pub admin_user: String,
    pub admin_password: Secret,
    pub settings: BTreeMap<String, String>,
    pub programs: Option<PathBuf>,
}
