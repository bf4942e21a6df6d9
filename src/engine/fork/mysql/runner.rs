//! stub
use crate::{
    domain::{fork::ForkPhase, recovery::BinlogPlan},
    engine::fork::{ForkSite, Watch, error::ForkError, mysql::MySqlOrder},
    sys::clock::Clock,
};
use tokio_util::sync::CancellationToken;
pub async fn run(
    _: &MySqlOrder,
    _: ForkPhase,
    _: &dyn Watch,
    _: &dyn Clock,
    _: &CancellationToken,
) -> Result<(), ForkError> {
    Ok(())
}
pub fn preflight(_: &ForkSite, _: &BinlogPlan, _: u64) -> Result<(), ForkError> {
    Ok(())
}
pub async fn remove(_: &ForkSite, _: &dyn Clock) -> Result<(), ForkError> {
    Ok(())
}
