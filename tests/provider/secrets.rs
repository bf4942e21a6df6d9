//! Token and password: never in a plan, a log or an error, and in the state only where that is wanted.

use crate::{
    api::{PASSWORD, TOKEN},
    journeys::{AT, FORK, enabled, fork},
    terraform::Module,
};
use std::fs;

/// An ephemeral resource whose values go to a program, as to `psql`, and nowhere else.
const CREDENTIALS: &str = r#"
ephemeral "fork_credentials" "dr" {
  provider     = btar
  project      = "demo"
  service_name = split("/", fork_from_secondary_backup.dr.id)[1]
}
resource "terraform_data" "user" {
  provisioner "local-exec" {
    command = "printf %s \"$ADDRESS $PGPASSWORD $URI\" | sha256sum > used"
    environment = {
      ADDRESS = join(" ", [
        ephemeral.fork_credentials.dr.host,
        ephemeral.fork_credentials.dr.port,
        ephemeral.fork_credentials.dr.username,
      ])
      PGPASSWORD = ephemeral.fork_credentials.dr.password
      URI        = ephemeral.fork_credentials.dr.uri
    }
  }
}
"#;

/// The SHA-256 of what the program gets.
const HASH: &str = "e0ced2f9b6eb209b9e5af035aea4ee47428764ae126d50d959d7bb982ec0ff03";

/// Runs Terraform with the fullest log into a file, and gives everything that it wrote.
fn traced(module: &Module, arguments: &[&str]) -> String {
    let log = module.path().join("trace.log");
    let out = module.command(arguments).env("TF_LOG", "TRACE").env("TF_LOG_PATH", &log).output();
    let out = out.unwrap();
    let said = String::from_utf8_lossy(&out.stdout) + String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{said}");
    let log = fs::read_to_string(log).unwrap();
    assert!(log.contains("[TRACE]") && log.len() > 10_000, "the log is full");
    said.into_owned() + &log
}

fn check(what: &str, text: &str) {
    assert!(!text.contains(TOKEN), "{what} holds the token");
    assert!(!text.contains(PASSWORD), "{what} holds the password");
}

#[test]
fn credentials_are_ephemeral_and_leave_no_trace() {
    let (api, module, base) = enabled();
    let hidden = format!("{AT}\n  expose_credentials = false");
    module.write(&(base.clone() + &fork(&hidden) + CREDENTIALS));
    let planned = traced(&module, &["plan", "-input=false", "-out=saved"]);
    check("a plan", &planned);
    let shown = module.command(&["show", "-json", "saved"]).output().unwrap();
    check("a saved plan", &String::from_utf8_lossy(&shown.stdout));
    let applied = traced(&module, &["apply", "-input=false", "saved"]);
    check("an apply", &applied);
    let used = fs::read_to_string(module.path().join("used")).unwrap();
    assert_eq!(used.split(' ').next(), Some(HASH));
    let state = || fs::read_to_string(module.path().join("terraform.tfstate")).unwrap();
    check("the state", &state());
    assert_eq!(module.state(FORK)["service_host"], "127.0.0.1");
    // A refresh does not even ask for secrets that nobody wants.
    module.write(&(base.clone() + &fork(&hidden)));
    api.forget();
    module.plan().expect(2, &["0 to add, 0 to change, 1 to destroy"]);
    assert_eq!(api.count("GET /v1/project/demo/service/orders-dr?include_secrets"), 0);
    check("the state", &state());

    // Where they are wanted, they are in the state, marked as sensitive, and nowhere else.
    module.write(&(base + &fork(AT)));
    let planned = traced(&module, &["plan", "-input=false"]);
    check("a plan", &planned);
    let applied = traced(&module, &["apply", "-input=false", "-auto-approve"]);
    check("an apply", &applied);
    assert_eq!(module.state(FORK)["service_password"], PASSWORD);
    assert!(!state().contains(TOKEN));
    check("a plan", &traced(&module, &["plan", "-input=false"]));
}

#[test]
fn credentials_of_a_fork_that_is_not_ready_are_an_error_with_its_remedy() {
    let (api, module, base) = enabled();
    let credentials =
        CREDENTIALS.replace("split(\"/\", fork_from_secondary_backup.dr.id)[1]", "\"orders-dr\"");
    module.write(&(base.clone() + &credentials));
    module.plan().expect(1, &["Service \"orders-dr\" does not exist"]);
    let waiting = crate::api::service("orders-dr", "REBUILDING");
    api.with(|state| {
        state.services.insert("orders-dr".to_owned(), waiting);
    });
    module.plan().expect(1, &["No credentials", "still being restored"]);
    module.write(&(base + &credentials.replace("\"orders-dr\"", "\"Orders\"")));
    module.run(&["validate"]).expect(1, &["is not a service name"]);
}
