//! The Terraform provider, started by Terraform.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this is what a person sees")]

use btar::{plugin, provider};
use std::process::ExitCode;

const VERSION: &str = concat!("terraform-provider-btar ", env!("CARGO_PKG_VERSION"));
const HELP: &str = "\
This program is a Terraform provider. Terraform and OpenTofu start it themselves; put it where they
look for providers, and write:

  terraform {
    required_providers {
      btar = { source = \"btar/btar\" }
    }
  }

Options:
  --version   print the version
  --help      print this text";

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("--version" | "-V" | "version") => {
            println!("{VERSION}");
            return ExitCode::SUCCESS;
        }
        Some("--help" | "-h" | "help") => {
            println!("{VERSION}\n\n{HELP}");
            return ExitCode::SUCCESS;
        }
        _ => {}
    }
    if !plugin::start::run_by_terraform() {
        eprintln!("{HELP}");
        return ExitCode::FAILURE;
    }
    plugin::log::init("btar");
    // Two threads are plenty: the work is waiting.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("starting the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(provider::start::serve()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("serving Terraform: {:#}", anyhow::Error::new(error));
            ExitCode::FAILURE
        }
    }
}
