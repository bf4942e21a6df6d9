//! The example modules for drills and for the day itself, as they stand in `examples/`, against the engine.

use crate::support::{
    both,
    engine::{TOKEN, World},
    postgres_bin, program, run,
    source::Recorded,
    terraform::Module,
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// A copy of a module below `examples/`, with the provider that was built.
struct Example {
    dir: tempfile::TempDir,
    url: String,
}

impl Example {
    fn new(name: &str, world: &World) -> Self {
        let dir = tempfile::Builder::new().prefix("btar-example-").tempdir().unwrap();
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        run(Command::new("cp")
            .arg("-r")
            .arg(root.join("examples").join(name).join("."))
            .arg(dir.path()));
        let mirror = dir.path().join(".mirror");
        run(Command::new(root.join(".ci/install-provider"))
            .arg(env!("CARGO_BIN_EXE_terraform-provider-btar"))
            .arg(&mirror));
        let mirror = mirror.display();
        let rc = format!(
            "provider_installation {{\n  filesystem_mirror {{\n    path = \"{mirror}\"\n  }}\n}}\n"
        );
        fs::write(dir.path().join(".terraformrc"), rc).unwrap();
        let example = Self { dir, url: world.url.clone() };
        example.terraform(&["init", "-input=false"], &[]).unwrap();
        example
    }

    /// Runs terraform with variables; the words of a failure are the error.
    fn terraform(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Result<String, String> {
        let mut path = vec![postgres_bin()];
        path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap()));
        let out = Command::new(program("terraform", "Terraform (README.md says how)"))
            .args(arguments)
            .arg("-no-color")
            .current_dir(self.dir.path())
            .env("PATH", std::env::join_paths(path).unwrap())
            .env("TF_CLI_CONFIG_FILE", self.dir.path().join(".terraformrc"))
            .env("TF_IN_AUTOMATION", "1")
            .env("CHECKPOINT_DISABLE", "1")
            .env("AIVEN_TOKEN", TOKEN)
            .env("AIVEN_WEB_URL", &self.url)
            .envs(variables.iter().map(|(name, value)| (format!("TF_VAR_{name}"), value)))
            .output()
            .unwrap();
        if out.status.success() { Ok(both(&out)) } else { Err(both(&out)) }
    }
}

/// A world whose secondary region holds everything recorded, and whose primary region is gone.
fn lost() -> (Recorded, World) {
    let recorded = Recorded::get();
    let mut world = World::new(&recorded);
    world.start();
    world.enable();
    world.wait_covered(&recorded.restorable().last().unwrap().time);
    world.lose_primary();
    (recorded, world)
}

fn exists(world: &World, service: &str) -> bool {
    world.call("GET", &format!("/v1/project/demo/service/{service}"), None).status == 200
}

#[test]
fn a_drill_restores_asks_and_destroys() {
    let (recorded, world) = lost();
    let mark = recorded.restorable().last().unwrap();
    let example = Example::new("drills", &world);
    let drill = |at_least: u64| {
        let variables = [
            ("project", "demo"),
            ("max_rpo", "8760h"),
            ("recovery_target_time", mark.time.as_str()),
            ("database", "postgres"),
            ("at_least", &at_least.to_string()),
        ];
        example.terraform(&["test", "-verbose"], &variables)
    };
    let good = drill(mark.rows).unwrap_or_else(|text| panic!("{text}\n{}", world.log()));
    assert!(good.contains("2 passed, 0 failed"), "{good}");
    assert!(!exists(&world, "orders-drill"), "the drill leaves nothing behind");
    // A drill that finds too little fails, otherwise it would prove nothing.
    let bad = drill(mark.rows + 1).unwrap_err();
    assert!(bad.contains("1 passed, 1 failed"), "{bad}");
    assert!(!exists(&world, "orders-drill"), "the drill leaves nothing behind");
}

#[test]
fn one_apply_forks_everything_with_the_primary_and_the_engine_gone() {
    let (recorded, mut world) = lost();
    let marks = recorded.restorable();
    let (early, late) = (&marks[0], marks.last().unwrap());
    // The engine's machine is gone too: a new one has the secondary region's store and nothing else.
    world.forget_all_but_the_copy();
    world.start();
    world.wait_covered(&late.time);
    let example = Example::new("dr", &world);
    let forks = serde_json::json!({
        "orders-dr": {"source_service_name": "orders"},
        "orders-early": {"source_service_name": "orders", "recovery_target_time": early.time},
    })
    .to_string();
    let variables = [
        ("project", "demo"),
        ("forks", forks.as_str()),
        ("recovery_target_time", late.time.as_str()),
        ("deletion_protection", "false"),
    ];
    let apply = ["apply", "-input=false", "-auto-approve"];
    let applied = example.terraform(&apply, &variables);
    let applied = applied.unwrap_or_else(|text| panic!("{text}\n{}", world.log()));
    assert!(applied.contains("2 added"), "{applied}");
    for (name, mark) in [("orders-dr", late), ("orders-early", early)] {
        assert_eq!(world.rows(&world.wait_running(name)), (mark.rows, mark.sum), "{name}");
    }
    let plan = ["plan", "-input=false", "-detailed-exitcode"];
    example.terraform(&plan, &variables).expect("a second plan is empty");
    example.terraform(&["destroy", "-input=false", "-auto-approve"], &variables).unwrap();
    assert!(!exists(&world, "orders-dr") && !exists(&world, "orders-early"));
}

/// The shell script of the guide "Drift detection in a pipeline".
fn drift_job() -> String {
    let guide = include_str!("../../docs/guides/drift-detection.md");
    let start = guide.find("#!/bin/sh").expect("the guide has the job");
    guide[start..].split("```").next().unwrap().to_owned()
}

#[test]
fn the_drift_job_of_the_guide_tells_three_outcomes_apart() {
    let recorded = Recorded::get();
    let mut world = World::new(&recorded);
    world.start();
    let region = "resource \"aiven_service_backup_region\" \"orders\" {\n  provider = btar\n  \
                  project = \"demo\"\n  service_name = \"orders\"\n  region = \"aws-eu-central-1\"\n}\n";
    let module = Module::new(&world.url, region);
    assert_eq!(module.apply().code, 0);
    let job = || {
        let mut command = Command::new("sh");
        command.args(["-c", &drift_job()]).current_dir(module.path());
        for (name, value) in module.command().get_envs() {
            command.env(name, value.unwrap());
        }
        let out = command.output().unwrap();
        (out.status.code(), both(&out))
    };
    let (code, text) = job();
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("everything is as configured"), "{text}");
    let off = serde_json::json!({"user_config": {"additional_backup_regions": []}});
    assert_eq!(world.call("PUT", "/v1/project/demo/service/orders", Some(off)).status, 200);
    let (code, text) = job();
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("aiven_service_backup_region.orders: create"), "{text}");
    world.kill();
    let (code, text) = job();
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("this says nothing about drift"), "{text}");
}

/// The example files that a person copies name what the modules have.
#[test]
fn the_example_of_variables_fits_the_module() {
    let recorded = Recorded::get();
    let mut world = World::new(&recorded);
    world.start();
    let example = Example::new("dr", &world);
    let values: PathBuf = example.dir.path().join("terraform.tfvars");
    fs::rename(example.dir.path().join("terraform.tfvars.example"), values).unwrap();
    // The engine has no project of that name: the plan gets as far as asking.
    let refused = example.terraform(&["plan", "-input=false"], &[]).unwrap_err();
    for fork in ["orders-dr", "reports-dr"] {
        assert!(refused.contains(&format!("this[\"{fork}\"]")), "{refused}");
    }
    assert!(refused.contains("project \"shop\""), "{refused}");
    assert!(!refused.contains("Value for undeclared variable"), "{refused}");
}
