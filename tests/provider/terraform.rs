//! A Terraform module in a directory of its own, with the provider that was built.

use crate::api::TOKEN;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// A module that uses the provider.
pub(crate) struct Module {
    dir: tempfile::TempDir,
    url: String,
}

/// What a run gave: the exit code, and its words with single spaces.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) text: String,
}

impl Run {
    pub(crate) fn of(out: &Output) -> Self {
        let text = String::from_utf8_lossy(&out.stdout) + String::from_utf8_lossy(&out.stderr);
        let text = text.replace(['│', '╷', '╵'], " ");
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        Self { code: out.status.code().unwrap_or(-1), text }
    }

    #[track_caller]
    pub(crate) fn expect(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, code, "{}", self.text);
        for word in words {
            assert!(self.text.contains(word), "no `{word}` in {}", self.text);
        }
    }
}

impl Module {
    pub(crate) fn new(url: &str, body: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("btar-provider-").tempdir().unwrap();
        let module = Self { dir, url: url.to_owned() };
        module.write(body);
        // An override needs no `init` and no checksum of the large debug binary. `installed` takes
        // the way that users go.
        let binary = Path::new(env!("CARGO_BIN_EXE_terraform-provider-btar"));
        let directory = binary.parent().unwrap().display();
        let rc = format!(
            "provider_installation {{\n  dev_overrides {{\n    \"btar/btar\" = \"{directory}\"\n  }}\n  \
             direct {{}}\n}}\n"
        );
        fs::write(module.path().join("terraform.rc"), rc).unwrap();
        module
    }

    /// A module with the provider installed from a mirror, as users install it.
    pub(crate) fn installed(url: &str, body: &str) -> Self {
        let module = Self::new(url, body);
        let mirror = module.path().join("mirror");
        let install = Path::new(env!("CARGO_MANIFEST_DIR")).join(".ci/install-provider");
        let done = Command::new(install)
            .arg(env!("CARGO_BIN_EXE_terraform-provider-btar"))
            .arg(&mirror)
            .status()
            .unwrap();
        assert!(done.success());
        let rc = format!(
            "provider_installation {{\n  filesystem_mirror {{\n    path = \"{}\"\n  }}\n}}\n",
            mirror.display()
        );
        fs::write(module.path().join("terraform.rc"), rc).unwrap();
        module.run(&["init", "-input=false"]).expect(0, &[]);
        module
    }

    /// Replaces the configuration behind the provider block.
    pub(crate) fn write(&self, body: &str) {
        self.write_with("", body);
    }

    /// Replaces the configuration; `settings` are further lines of the provider block.
    pub(crate) fn write_with(&self, settings: &str, body: &str) {
        let text = format!(
            "terraform {{\n  required_providers {{\n    btar = {{\n      source = \"btar/btar\"\n    }}\n  \
             }}\n}}\nprovider \"btar\" {{\n  api_url     = \"{}\"\n  max_retries = \"1\"\n{settings}\n}}\n{body}",
            self.url
        );
        fs::write(self.path().join("main.tf"), text).unwrap();
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().to_owned()
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("terraform");
        command
            .args(arguments)
            .arg("-no-color")
            .current_dir(self.dir.path())
            .env("TF_CLI_CONFIG_FILE", self.dir.path().join("terraform.rc"))
            .env("TF_IN_AUTOMATION", "1")
            .env("CHECKPOINT_DISABLE", "1")
            // No text for people may depend on it.
            .env("RUST_BACKTRACE", "1")
            .env("AIVEN_TOKEN", TOKEN);
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Run {
        let out = self.command(arguments).output();
        let run = Run::of(&out.expect("terraform is in PATH (README.md says where to get it)"));
        assert!(!run.text.contains(TOKEN), "the token is not printed: {}", run.text);
        assert!(!run.text.contains("stack backtrace"), "{}", run.text);
        run
    }

    pub(crate) fn apply(&self) -> Run {
        self.run(&["apply", "-input=false", "-auto-approve"])
    }

    pub(crate) fn plan(&self) -> Run {
        self.run(&["plan", "-input=false", "-detailed-exitcode"])
    }

    /// Nothing is to be done: not with a refresh, not without one, and the refresh itself is quiet.
    ///
    /// The last is read from the words. Terraform 1.11 compares the marks of sensitive attributes in
    /// no fixed order, so that `-refresh-only -detailed-exitcode` gives 2 now and then for any
    /// resource with two of them.
    #[track_caller]
    pub(crate) fn expect_empty(&self) {
        self.plan().expect(0, &[]);
        self.run(&["plan", "-input=false", "-detailed-exitcode", "-refresh=false"]).expect(0, &[]);
        let refresh = self.run(&["plan", "-input=false", "-refresh-only"]);
        refresh.expect(0, &["No changes. Your infrastructure still matches the configuration."]);
    }

    /// The attributes of a resource in the state.
    pub(crate) fn state(&self, address: &str) -> serde_json::Value {
        let out = self.command(&["show", "-json"]).output().unwrap();
        let state: serde_json::Value = serde_json::from_slice(&out.stdout)
            .unwrap_or_else(|_| panic!("{}", Run::of(&out).text));
        let resources = state["values"]["root_module"]["resources"].as_array().unwrap();
        let found = resources.iter().find(|resource| resource["address"] == address);
        found.map(|resource| resource["values"].clone()).unwrap_or_default()
    }

    /// The diagnostics of a run with `-json`: severity, summary, detail, and the attribute's line.
    pub(crate) fn diagnostics(&self, arguments: &[&str]) -> Vec<Said> {
        let out = self.command(&[arguments, &["-json"]].concat()).output().unwrap();
        let text = String::from_utf8(out.stdout).unwrap();
        let lines = text.lines().filter_map(|line| serde_json::from_str(line).ok());
        let said = |line: serde_json::Value| {
            let diagnostic = &line["diagnostic"];
            let word = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
            (!diagnostic.is_null()).then(|| Said {
                severity: word(&diagnostic["severity"]),
                summary: word(&diagnostic["summary"]),
                detail: word(&diagnostic["detail"]),
                code: word(&diagnostic["snippet"]["code"]),
            })
        };
        let ours = |said: &Said| !said.summary.contains("development overrides");
        lines.filter_map(said).filter(ours).collect()
    }

    /// An output of the state.
    pub(crate) fn output(&self, name: &str) -> serde_json::Value {
        let out = self.command(&["output", "-json", name]).output().unwrap();
        serde_json::from_slice(&out.stdout).unwrap()
    }
}

/// A diagnostic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) severity: String,
    pub(crate) summary: String,
    pub(crate) detail: String,
    /// The line of the configuration that it points to.
    pub(crate) code: String,
}
