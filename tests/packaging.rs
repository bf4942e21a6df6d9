//! What `make install` and `make release` make: Terraform finds the provider without any configuration.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const BINARY: &str = env!("CARGO_BIN_EXE_terraform-provider-btar");
const VERSION: &str = env!("CARGO_PKG_VERSION");

fn ci(script: &str) -> Command {
    Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join(".ci").join(script))
}

/// Runs it and gives its output; fails with everything that it said.
fn run(command: &mut Command) -> String {
    let out = command.output().unwrap_or_else(|e| panic!("cannot start {command:?}: {e}"));
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let error = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{command:?} gave {}\n{text}{error}", out.status);
    text
}

fn platform() -> String {
    run(&mut ci("platform")).trim().to_owned()
}

/// Terraform in a module that uses the provider, with a home of its own and no settings.
fn terraform(home: &Path, arguments: &[&str]) -> String {
    let module = home.join("module");
    fs::create_dir_all(&module).unwrap();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/provider/provider.tf");
    fs::copy(example, module.join("main.tf")).unwrap();
    run(Command::new("terraform")
        .args(arguments)
        .arg("-no-color")
        .current_dir(&module)
        .env("HOME", home)
        .env_remove("TF_CLI_CONFIG_FILE")
        .env_remove("XDG_DATA_HOME")
        .env("CHECKPOINT_DISABLE", "1"))
}

#[test]
fn an_installed_provider_is_found_without_any_configuration() {
    let home = tempfile::tempdir().unwrap();
    run(ci("install-provider").arg(BINARY).arg(home.path().join(".terraform.d/plugins")));
    let said = terraform(home.path(), &["init", "-input=false"]);
    assert!(said.contains(&format!("Installed btar/btar v{VERSION}")), "{said}");
    let schema = terraform(home.path(), &["providers", "schema", "-json"]);
    assert!(schema.contains("\"fork_from_secondary_backup\""));
    // OpenTofu looks in the same directory, below its own registry.
    let tofu = home.path().join(".terraform.d/plugins/registry.opentofu.org/btar/btar");
    let binary = format!("{VERSION}/{}/terraform-provider-btar_v{VERSION}", platform());
    assert!(tofu.join(binary).is_file());
}

fn release(into: &Path) -> Vec<PathBuf> {
    let said = run(ci("release")
        .args([BINARY, &platform()])
        .arg(into)
        .env("SOURCE_DATE_EPOCH", "1764115200"));
    said.lines().map(PathBuf::from).collect()
}

#[test]
fn a_release_is_what_the_registries_want_and_the_same_every_time() {
    let place = tempfile::tempdir().unwrap();
    let (one, two) = (place.path().join("one"), place.path().join("two"));
    let files = release(&one);
    let again = release(&two);
    let name = |suffix: &str| format!("terraform-provider-btar_{VERSION}_{suffix}");
    let names: Vec<_> =
        files.iter().map(|f| f.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    let zip = name(&format!("{}.zip", platform()));
    assert_eq!(names, [zip.clone(), name("manifest.json"), name("SHA256SUMS")]);
    for (file, other) in files.iter().zip(&again) {
        assert_eq!(fs::read(file).unwrap(), fs::read(other).unwrap(), "{}", file.display());
    }
    run(Command::new("sha256sum").args(["-c", &name("SHA256SUMS")]).current_dir(&one));
    let sums = fs::read_to_string(one.join(name("SHA256SUMS"))).unwrap();
    assert_eq!(sums.lines().count(), 2, "the manifest is listed too: {sums}");

    // Terraform takes the zip from a packed mirror.
    let home = tempfile::tempdir().unwrap();
    let mirror = home.path().join(".terraform.d/plugins/registry.terraform.io/btar/btar");
    fs::create_dir_all(&mirror).unwrap();
    fs::copy(one.join(&zip), mirror.join(&zip)).unwrap();
    let said = terraform(home.path(), &["init", "-input=false"]);
    assert!(said.contains(&format!("Installed btar/btar v{VERSION}")), "{said}");
    let schema = terraform(home.path(), &["providers", "schema", "-json"]);
    assert!(schema.contains("\"aiven_service_backup_region\""));
}
