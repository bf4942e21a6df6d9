//! The engine's command line.

use anyhow::Context;
use btar::{
    client::{endpoints::Api, retry::RetryPolicy, token::Token, transport::Endpoint},
    engine::{
        config,
        fork::fetch,
        serve, status_text,
        verify::{
            self, Copy, Depth,
            report::{self, Outcome},
            resume::Resume,
        },
    },
    push::{self, binlogs::Flush},
    store::{config::process_environment, open},
    sys::{
        clock::{Clock, SystemClock},
        telemetry,
    },
};
use clap::{Parser, ValueEnum};
use std::{
    ffi::OsString,
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
    /// engine and writes nothing into them. Ends with 1 when a copy is not good, and with 2 when one
    /// cannot be read.
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
        /// A directory that remembers what has been proven: when this is interrupted, the same command
        /// goes on. It is emptied at the end.
        #[arg(long, requires = "deep", value_name = "DIR")]
        resume: Option<PathBuf>,
        /// As JSON, for programs.
        #[arg(long)]
        json: bool,
    },
    /// Stores backups of a MySQL or MariaDB server on this machine in its primary region. May be
    /// interrupted at any time and run again. Ends with 2 when everything is stored but something is
    /// missing before it, so that a new base backup is needed.
    Push {
        /// What to store.
        what: Push,
        /// The settings of the server and its store.
        #[arg(long)]
        config: PathBuf,
        /// First close the binary log that the server is writing, when there is anything in it.
        #[arg(long)]
        flush: bool,
        /// As JSON, for programs.
        #[arg(long)]
        json: bool,
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
    /// Opens segments before PostgreSQL asks for them, for measuring.
    #[command(hide = true)]
    WalAhead {
        /// The file that says what the recovery needs.
        plan: PathBuf,
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

/// What `push` stores.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Push {
    /// A base backup, and the binary logs up to its end.
    Base,
    /// The binary logs that the server has closed.
    Binlogs,
}

fn main() -> ExitCode {
    if let Some(status) = restore_command() {
        return status;
    }
    let done = match Call::parse() {
        Call::WalFetch { plan, name, destination } => {
            return fetch::run(&plan, &name, &destination);
        }
        Call::WalAhead { plan } => open_ahead(&plan),
        Call::Serve { config } => run(&config),
        Call::Check { config } => check(&config),
        Call::Status { url, token, json } => status(url, token, json),
        Call::Push { what, config, flush, json } => match push(&config, what, flush, json) {
            Ok(outcome) => return outcome.exit_code().into(),
            Err(error) => Err(error),
        },
        Call::Verify { config, service, region, deep, rate_mib, resume, json } => {
            let rate_bytes = rate_mib.map(|mib| mib << 20);
            let depth = if deep { Depth::Deep { rate_bytes } } else { Depth::Fast };
            let asked = Verify { service, region, depth, resume, json };
            match verify(&config, &asked) {
                Ok(outcome) => return outcome.exit_code().into(),
                Err(error) => Err(error),
            }
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

/// The call that PostgreSQL waits for with every segment, before anything that the other calls need is
/// made. Whatever is not exactly that call is left to the parser.
fn restore_command() -> Option<ExitCode> {
    let args: Vec<_> = std::env::args_os().skip(1).take(5).collect();
    let [call, plan, name, destination] = &args[..] else { return None };
    let is_option = |word: &OsString| word.as_encoded_bytes().starts_with(b"-");
    if call != "wal-fetch" || args.iter().any(is_option) {
        return None;
    }
    Some(fetch::run(Path::new(plan), name.to_str()?, Path::new(destination)))
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

fn open_ahead(plan: &Path) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime failed")?;
    let opened = runtime.block_on(fetch::open_ahead(plan, &SystemClock::new()));
    opened.map_err(|what| anyhow::anyhow!("reading {} failed: {what}", plan.display()))
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

fn push(file: &Path, what: Push, flush: bool, json: bool) -> anyhow::Result<push::report::Outcome> {
    let settings = push::settings::load(file)?;
    telemetry::init();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("starting the runtime failed")?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let (address, options) = (&settings.store, &settings.store_options);
    let store = open::open(address, options, clock.clone(), &process_environment)
        .context("opening the store failed")?;
    let (text, rows, outcome) = match what {
        Push::Base => {
            let made = runtime.block_on(push::base::run(&settings, store, clock))?;
            (made.text(), serde_json::to_string_pretty(&made)?, push::report::Outcome::Good)
        }
        Push::Binlogs => {
            let flush = if flush { Flush::WhenUsed } else { Flush::No };
            let made = runtime.block_on(push::binlogs::run(&settings, store, clock, flush))?;
            (made.text(), serde_json::to_string_pretty(&made)?, made.outcome())
        }
    };
    let mut out = std::io::stdout().lock();
    if json {
        writeln!(out, "{rows}")?;
    } else {
        write!(out, "{text}")?;
    }
    Ok(outcome)
}

/// What `verify` was asked for.
struct Verify {
    service: Option<String>,
    region: Option<String>,
    depth: Depth,
    resume: Option<PathBuf>,
    json: bool,
}

fn verify(file: &Path, asked: &Verify) -> anyhow::Result<Outcome> {
    let settings = config::load(file)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("starting the runtime failed")?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let (service, region) = (asked.service.as_deref(), asked.region.as_deref());
    let copies: Vec<Copy> = verify::copies(&settings, &clock)?
        .into_iter()
        .filter(|copy| service.is_none_or(|service| copy.service.to_string() == service))
        .filter(|copy| region.is_none_or(|region| copy.region.as_str() == region))
        .collect();
    anyhow::ensure!(!copies.is_empty(), "there is no such copy in the configuration");
    let resume = asked.resume.as_deref().map(Resume::open).transpose()?;
    let (mut outcomes, mut rows) = (Vec::new(), Vec::new());
    let mut out = std::io::stdout();
    for copy in &copies {
        let verified = verify::verify(copy, asked.depth, resume.as_ref(), &clock);
        let found = runtime.block_on(verified);
        // A region of the configuration that holds no copy of this service is none to verify.
        if found.as_ref().is_ok_and(|report| report.objects == 0 && report.recorded == 0) {
            continue;
        }
        outcomes.push(Outcome::of(&found));
        if asked.json {
            rows.push(report::json(copy, &found));
        } else {
            write!(out, "{}", report::text(copy, asked.depth, &found))?;
        }
    }
    anyhow::ensure!(!outcomes.is_empty(), "no region holds a copy");
    if asked.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&rows)?)?;
    }
    let bad = outcomes.iter().filter(|outcome| **outcome != Outcome::Good).count();
    if bad > 0 {
        let seen = outcomes.len();
        writeln!(std::io::stderr(), "btar: {bad} of {seen} copies are not good")?;
    }
    let outcome = outcomes.into_iter().max().unwrap_or(Outcome::Good);
    // What could not be read is left to be gone on with.
    if let (Some(resume), true) = (resume, outcome != Outcome::Unreadable) {
        resume.end().context("ending the memory of --resume failed")?;
    }
    Ok(outcome)
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
