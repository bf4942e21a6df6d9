//! Opens a verified fork: its administrator is made behind the private socket, then it goes public.

use crate::engine::fork::{
    error::ForkError,
    mysql::{
        conf::Stage,
        door::{self, Door},
        error::MySqlError,
        identity::Identity,
        runner::Job,
        verify,
    },
    site::{check_port, remove_dir},
};

const DOING: &str = "opening the fork";

/// Makes the administrator, and starts the server on its public port. It may be repeated.
pub(super) async fn open(job: &Job<'_>) -> Result<(), ForkError> {
    let (site, paths) = (&job.order.site, job.paths());
    job.end_leftover(DOING).await?;
    job.start(Stage::Private, DOING).await?;
    // A fork that an earlier run had opened may have gone on since.
    verify::compare(job).await?;
    let identity = Identity::get(&paths)?;
    Door { job }.hand_over(&identity.user).await?;
    job.stop_in_order(DOING).await?;
    Identity::lock(&paths)?;
    check_port(site)?;
    let started = job.start(Stage::Open, DOING).await;
    // When another program was quicker with the port, say so, and not what the log makes of it.
    if let Err(ForkError::MySql(MySqlError::Server { .. })) = started {
        check_port(site)?;
    }
    started?;
    door::log_in(job).await?;
    remove_dir(&paths.binlogs()).await
}

/// Starts the server of an open fork, unless it runs. It asks no question: accounts and passwords
/// are the administrator's now.
pub(super) async fn start_again(job: &Job<'_>) -> Result<(), ForkError> {
    let started = job.start_again(DOING).await;
    if let Err(ForkError::MySql(MySqlError::Server { .. })) = started {
        check_port(&job.order.site)?;
    }
    started
}
