//! A Terraform module in a directory of its own, with the provider that was built.

use super::{both, engine::TOKEN, program, run};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// A module that uses the provider.
pub(crate) struct Module {
    dir: tempfile::TempDir,
    url: String,
}

/// What a run of Terraform gave.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) text: String,
}

impl Module {
    /// A module with `body` behind the provider block.
    pub(crate) fn new(url: &str, body: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("btar-tf-").tempdir().unwrap();
        let module = Self { dir, url: url.to_owned() };
        module.write(body);
        let mirror = module.path().join("mirror");
        let install = Path::new(env!("CARGO_MANIFEST_DIR")).join(".ci/install-provider");
        run(Command::new(install).arg(env!("CARGO_BIN_EXE_terraform-provider-btar")).arg(&mirror));
        let rc = format!(
            "provider_installation {{\n  filesystem_mirror {{\n    path = \"{}\"\n  }}\n}}\n",
            mirror.display()
        );
        fs::write(module.path().join("terraform.rc"), rc).unwrap();
        let init = module.run(&["init", "-input=false"]);
        assert_eq!(init.code, 0, "{}", init.text);
        module
    }

    /// Replaces the configuration.
    pub(crate) fn write(&self, body: &str) {
        let head = "terraform {\n  required_providers {\n    btar = {\n      source = \"btar/btar\"\n    }\n  }\n}\n";
        let provider = format!("provider \"btar\" {{\n  api_url = \"{}\"\n}}\n", self.url);
        fs::write(self.path().join("main.tf"), format!("{head}{provider}{body}")).unwrap();
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().to_owned()
    }

    /// The command with everything set but its arguments.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(program("terraform", "Terraform (README.md says how)"));
        command
            .current_dir(self.dir.path())
            .env("TF_CLI_CONFIG_FILE", self.dir.path().join("terraform.rc"))
            .env("TF_IN_AUTOMATION", "1")
            .env("CHECKPOINT_DISABLE", "1")
            .env("AIVEN_TOKEN", TOKEN);
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Run {
        let out = self.command().args(arguments).arg("-no-color").output().unwrap();
        Run { code: out.status.code().unwrap_or(-1), text: both(&out) }
    }

    pub(crate) fn apply(&self) -> Run {
        self.run(&["apply", "-input=false", "-auto-approve"])
    }

    pub(crate) fn plan(&self) -> Run {
        self.run(&["plan", "-input=false", "-detailed-exitcode"])
    }
}
