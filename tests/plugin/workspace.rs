//! A folder with a configuration, in which Terraform runs with this executable as its provider.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};
use tempfile::TempDir;

const REQUIRED: &str =
    "terraform {\n required_providers {\n shelf = { source = \"test/shelf\" }\n }\n}\n";

pub(crate) struct Workspace {
    home: TempDir,
    /// Where sockets go; apart, because their paths must be short.
    sockets: TempDir,
    environment: Vec<(&'static str, OsString)>,
}

pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    /// stdout and stderr.
    pub(crate) text: String,
    pub(crate) stdout: String,
}

impl Workspace {
    /// An initialised folder with this configuration.
    pub(crate) fn new(configuration: &str) -> Self {
        let mut workspace = Self {
            // Beside the executable, so that it can be linked instead of copied.
            home: TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap(),
            sockets: TempDir::new().unwrap(),
            environment: Vec::new(),
        };
        workspace.install();
        workspace.write(configuration);
        workspace.succeeds(&["init"]);
        workspace
    }

    /// Lays the executable out as a filesystem mirror: host/namespace/type/version/platform.
    fn install(&self) {
        let platform = match env::consts::ARCH {
            "x86_64" => "linux_amd64",
            "aarch64" => "linux_arm64",
            other => panic!("which platform does Terraform call {other}?"),
        };
        let mirror = self.path("mirror");
        let package = mirror.join("registry.terraform.io/test/shelf/0.1.0").join(platform);
        fs::create_dir_all(&package).unwrap();
        let plugin = package.join("terraform-provider-shelf_v0.1.0");
        let executable = env::current_exe().unwrap();
        if fs::hard_link(&executable, &plugin).is_err() {
            fs::copy(&executable, &plugin).unwrap();
        }
        let settings = format!(
            "provider_installation {{\n filesystem_mirror {{\n path = \"{}\"\n }}\n}}\n",
            mirror.display()
        );
        fs::write(self.path("terraformrc"), settings).unwrap();
    }

    pub(crate) fn write(&mut self, configuration: &str) {
        fs::write(self.path("main.tf"), format!("{REQUIRED}{configuration}\n")).unwrap();
    }

    #[must_use]
    pub(crate) fn with(mut self, name: &'static str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.environment.push((name, value.as_ref().to_owned()));
        self
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub(crate) fn terraform(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("terraform");
        command.args(arguments).current_dir(self.home.path());
        for name in ["RUST_BACKTRACE", "TF_LOG", "TF_LOG_PROVIDER", "TF_LOG_PATH"] {
            command.env_remove(name);
        }
        command
            .env("CHECKPOINT_DISABLE", "1")
            .env("NO_COLOR", "1")
            .env("TF_CLI_ARGS", "-no-color")
            .env("TF_CLI_CONFIG_FILE", self.path("terraformrc"))
            .env("PLUGIN_UNIX_SOCKET_DIR", self.sockets.path())
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        output(self.terraform(arguments).output().expect("terraform is on the PATH"))
    }

    /// stdout of a run that must succeed.
    pub(crate) fn succeeds(&self, arguments: &[&str]) -> String {
        let ended = self.run(arguments);
        assert_eq!(ended.code, Some(0), "terraform {arguments:?}:\n{}", ended.text);
        ended.stdout
    }

    /// All output, on one line per paragraph, of a run that must fail.
    pub(crate) fn fails(&self, arguments: &[&str]) -> String {
        let ended = self.run(arguments);
        assert_eq!(ended.code, Some(1), "terraform {arguments:?}:\n{}", ended.text);
        ended.text
    }

    pub(crate) fn apply(&self) -> String {
        self.succeeds(&["apply", "-auto-approve"])
    }

    pub(crate) fn plan_is_clean(&self) -> bool {
        let ended = self.run(&["plan", "-detailed-exitcode"]);
        assert!(matches!(ended.code, Some(0 | 2)), "{}", ended.text);
        ended.code == Some(0)
    }

    pub(crate) fn resources(&self) -> Vec<serde_json::Value> {
        let state = fs::read(self.path("terraform.tfstate")).unwrap();
        let state: serde_json::Value = serde_json::from_slice(&state).unwrap();
        state["resources"].as_array().unwrap().clone()
    }

    /// The attributes of the only object of a type.
    pub(crate) fn attributes(&self, kind: &str) -> serde_json::Value {
        let resources = self.resources();
        let found = resources.iter().find(|resource| resource["type"] == kind).unwrap();
        found["instances"][0]["attributes"].clone()
    }

    /// Every plugin has ended and cleaned up behind itself.
    pub(crate) fn finish(self) {
        wait_for("the socket directories to go", || is_empty(self.sockets.path()));
    }
}

pub(crate) fn output(output: Output) -> Ended {
    let stdout = String::from_utf8(output.stdout).unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    Ended { code: output.status.code(), text: format!("{stdout}{stderr}"), stdout }
}

pub(crate) fn is_empty(directory: &Path) -> bool {
    fs::read_dir(directory).unwrap().next().is_none()
}

/// Sends a signal to a process, or to a group with a `-` before its number.
pub(crate) fn signal(name: &str, to: &str) {
    let sent = Command::new("kill").args(["-s", name, "--", to]).status().unwrap();
    assert!(sent.success());
}

/// Waits for another process, for a minute at most.
#[allow(clippy::disallowed_methods, reason = "another process has no clock of ours")]
pub(crate) fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..1200 {
        if done() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("waited for {what} in vain");
}
