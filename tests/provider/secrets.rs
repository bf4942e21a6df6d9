//! Token and password: never in a plan, a log or an error, and in the state only where that is wanted.

use crate::{
    api::{PASSWORD, TOKEN},
    journeys::{AT, FORK, enabled, fork},
    terraform::Module,
};
use std::fs;

/// An ephemeral resource whose password goes into a check, and nowhere else.
const CREDENTIALS: &str = r#"
ephemeral "fork_credentials" "dr" {
  provider     = btar
  project      = "demo"
  service_name = split("/", fork_from_secondary_backup.dr.id)[1]
  lifecycle {
    postcondition {
      condition     = self.port == "5433" && self.host == "127.0.0.1" && self.username == "avnadmin"
      error_message = "Wrong address."
    }
    postcondition {
      condition     = sha256(self.password) == "HASH" && strcontains(self.uri, self.password)
      error_message = "Wrong password."
    }
  }
}
"#;

/// The SHA-256 of the fake's password, so that the password itself is not in the configuration.
const HASH: &str = "516b6ba98a80f9a7da9230780e70b6862f7040d48829bb753ba01cafefea3b6e";

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
    let credentials = CREDENTIALS.replace("HASH", HASH);
    module.write(&(base.clone() + &fork(&hidden) + &credentials));
    let planned = traced(&module, &["plan", "-input=false", "-out=saved"]);
    check("a plan", &planned);
    let shown = module.command(&["show", "-json", "saved"]).output().unwrap();
    check("a saved plan", &String::from_utf8_lossy(&shown.stdout));
    let applied = traced(&module, &["apply", "-input=false", "saved"]);
    check("an apply", &applied);
    assert!(applied.contains("Opening complete"), "{}", &applied[..2000]);
    let state = || fs::read_to_string(module.path().join("terraform.tfstate")).unwrap();
    check("the state", &state());
    assert_eq!(module.state(FORK)["service_host"], "127.0.0.1");
    // A refresh does not even ask for secrets that nobody wants.
    api.forget();
    module.run(&["plan", "-refresh-only"]).expect(0, &[]);
    module.write(&(base.clone() + &fork(&hidden)));
    api.forget();
    module.plan().expect(0, &[]);
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
    let credentials = CREDENTIALS
        .replace("split(\"/\", fork_from_secondary_backup.dr.id)[1]", "\"orders-dr\"")
        .replace("HASH", HASH);
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
