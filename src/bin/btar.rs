//! The engine's command line.

use anyhow::Context;
use btar::{
    client::{endpoints::Api, retry::RetryPolicy, token::Token, transport::Endpoint},
    engine::{
        config,
        fork::fetch,
        serve, status_text,
        verify::{self, Copy, Depth},
    },
    sys::{
        clock::{Clock, SystemClock},
        telemetry,
    },
};
use clap::Parser;
use std::{
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

/// Backup to another region: the engine.
#[derive(Debug, Parser)]
#[command(name = "btar", version)]
enum Call {
    /// Replicates backups, forks databases, and serves the API.
    Serve {
        /// The configuration.
        #[arg(long)]
        config: PathBuf,
    },
    /// Checks a configuration and says what it means.
    Check {
        /// The configuration.
        #[arg(long)]
        config: PathBuf,
    },
    /// Verifies the copies by their listing, or deeply by reading everything again. Needs no running
    /// engine and writes nothing. Ends with 1 when a copy is not good.
    Verify {
        /// The configuration.
        #[arg(long)]
        config: PathBuf,
        /// Only this service, as PROJECT/SERVICE.
        #[arg(long)]
        service: Option<String>,
        /// Only copies in this region.
        #[arg(long)]
        region: Option<String>,
        /// Read every object and compare its checksum.
        #[arg(long)]
        deep: bool,
        /// Read at most so many MiB a second.
        #[arg(long, requires = "deep")]
        rate_mib: Option<u64>,
    },
    /// Shows what every copy can restore, how far it lags, and the forks.
    Status {
        /// Base URL of the engine.
        #[arg(long, env = "AIVEN_WEB_URL", default_value = "http://127.0.0.1:8787")]
        url: String,
        /// The API token; better given by the environment than on the command line.
        #[arg(long, env = "AIVEN_TOKEN", hide_env_values = true)]
        token: String,
        /// As JSON, for programs.
        #[arg(long)]
        json: bool,
    },
    /// Hands PostgreSQL one file of its log, as the `restore_command` of a fork.
    #[command(hide = true)]
    WalFetch {
        /// The file that says what the recovery needs.
        plan: PathBuf,
        /// PostgreSQL's name of the file.
        name: String,
        /// Where to put it.
        destination: PathBuf,
    },
}

fn main() -> ExitCode {
    let done = match Call::parse() {
        Call::WalFetch { plan, name, destination } => {
            return fetch::run(&plan, &name, &destination);
        }
        Call::Serve { config } => run(&config),
        Call::Check { config } => check(&config),
        Call::Status { url, token, json } => status(url, token, json),
        Call::Verify { config, service, region, deep, rate_mib } => {
            let rate_bytes = rate_mib.map(|mib| mib << 20);
            let depth = if deep { Depth::Deep { rate_bytes } } else { Depth::Fast };
            verify(&config, service.as_deref(), region.as_deref(), depth)
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody else could be told.
            let _ = writeln!(std::io::stderr(), "btar: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(file: &Path) -> anyhow::Result<()> {
    let settings = config::load(file)?;
    telemetry::init();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("starting the runtime failed")?;
    runtime.block_on(serve::serve(settings))?;
    Ok(())
}

fn status(url: String, token: String, json: bool) -> anyhow::Result<()> {
    let endpoint = Endpoint {
        url,
        token: Token::new(token),
        ca_pem: None,
        user_agent: concat!("btar/", env!("CARGO_PKG_VERSION")).to_owned(),
        request_timeout: Duration::from_secs(30),
    };
    let policy = RetryPolicy { retries_max: 0, ..RetryPolicy::default() };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime failed")?;
    let status = runtime.block_on(async {
        Api::new(&endpoint, policy, Arc::new(SystemClock::new()))?.status().await
    });
    let status = status.map_err(|error| anyhow::anyhow!(error.explain()))?;
    let mut out = std::io::stdout().lock();
    if json {
        writeln!(out, "{}", serde_json::to_string_pretty(&status)?)?;
    } else {
        write!(out, "{}", status_text::table(&status))?;
    }
    Ok(())
}

fn verify(
    file: &Path,
    service: Option<&str>,
    region: Option<&str>,
    depth: Depth,
) -> anyhow::Result<()> {
    let settings = config::load(file)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("starting the runtime failed")?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let copies: Vec<Copy> = verify::copies(&settings, &clock)?
        .into_iter()
        .filter(|copy| service.is_none_or(|service| copy.service.to_string() == service))
        .filter(|copy| region.is_none_or(|region| copy.region.as_str() == region))
        .collect();
    anyhow::ensure!(!copies.is_empty(), "there is no such copy in the configuration");
    let (mut seen, mut good) = (0, 0);
    for copy in &copies {
        let found = runtime.block_on(verify::verify(copy, depth, &*clock));
        // A region of the configuration that holds no copy of this service is none to verify.
        if found.as_ref().is_ok_and(|report| report.objects == 0) {
            continue;
        }
        seen += 1;
        good += usize::from(found.as_ref().is_ok_and(|report| report.faults.is_empty()));
        write!(std::io::stdout(), "{}", verify::text(copy, depth, &found))?;
    }
    anyhow::ensure!(seen > 0, "no region holds a copy");
    anyhow::ensure!(good == seen, "{} of {seen} copies are not good", seen - good);
    Ok(())
}

fn check(file: &Path) -> anyhow::Result<()> {
    let settings = config::load(file)?;
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "{}: {} regions, {} services, {} tokens; forks on {} ports {}-{}",
        file.display(),
        settings.regions.len(),
        settings.services.len(),
        settings.tokens.len(),
        settings.forks.host,
        settings.forks.ports.0,
        settings.forks.ports.1,
    )?;
    Ok(())
}
