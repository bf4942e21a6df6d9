//! The documentation against the provider that was built: pages, examples, guides, with the real terraform.
//!
//! `UPDATE_DOCS=1` (`make generate`) writes the pages instead of comparing them.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use btar::provider::docs::{DIRECTORIES, Examples, Page, document::Document, pages};
use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// A temporary module with the provider in a mirror of its own.
struct Workspace {
    dir: tempfile::TempDir,
}

impl Workspace {
    /// A module with these files, initialized.
    fn new(files: &[(&str, &str)]) -> Self {
        let dir = tempfile::Builder::new().prefix("btar-docs-").tempdir().unwrap();
        let workspace = Self { dir };
        let mirror = workspace.path().join(".mirror");
        let done = Command::new(root().join(".ci/install-provider"))
            .arg(env!("CARGO_BIN_EXE_terraform-provider-btar"))
            .arg(&mirror)
            .status();
        assert!(done.unwrap().success());
        let mirror = mirror.display();
        let rc = format!(
            "provider_installation {{\n  filesystem_mirror {{\n    path = \"{mirror}\"\n  }}\n}}\n"
        );
        fs::write(workspace.path().join(".terraformrc"), rc).unwrap();
        for (name, text) in files {
            workspace.write(name, text);
        }
        workspace.expect(&["init", "-input=false", "-no-color"]);
        workspace
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn write(&self, name: &str, text: &str) {
        let file = self.path().join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }

    /// Runs terraform; the words of a failure are the error.
    fn run(&self, arguments: &[&str]) -> Result<String, String> {
        let out = Command::new("terraform")
            .args(arguments)
            .current_dir(self.path())
            .env("TF_CLI_CONFIG_FILE", self.path().join(".terraformrc"))
            .env("TF_IN_AUTOMATION", "1")
            .env("CHECKPOINT_DISABLE", "1")
            .env_remove("AIVEN_TOKEN")
            .output()
            .expect("terraform is in PATH (README.md says where to get it)");
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        if out.status.success() {
            Ok(text)
        } else {
            Err(text + &String::from_utf8_lossy(&out.stderr))
        }
    }

    fn expect(&self, arguments: &[&str]) -> String {
        self.run(arguments).unwrap_or_else(|text| panic!("terraform {arguments:?}:\n{text}"))
    }

    /// What is wrong with these files as the whole module.
    fn validate(&self, files: &[(&str, &str)]) -> Result<(), String> {
        for (name, text) in files {
            self.write(name, text);
        }
        let found = self.run(&["validate", "-no-color"]);
        for (name, _) in files {
            fs::remove_file(self.path().join(name)).unwrap();
        }
        found.map(drop)
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All files below a directory of the repository, by their path there.
fn files(directory: &str) -> BTreeMap<String, String> {
    let top = root().join(directory);
    let mut found = BTreeMap::new();
    let mut open = vec![top.clone()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(&top).unwrap().to_str().unwrap().to_owned();
            if path.is_dir() && !name.ends_with(".terraform") {
                open.push(path);
            } else if path.is_file() {
                found.insert(name, fs::read_to_string(&path).unwrap());
            }
        }
    }
    found
}

/// The module that asks for the provider, as it stands in the documentation.
fn provider_block() -> String {
    fs::read_to_string(root().join("examples/provider/provider.tf")).unwrap()
}

/// What the built provider offers.
fn document() -> Document {
    let workspace = Workspace::new(&[("provider.tf", &provider_block())]);
    Document::parse(&workspace.expect(&["providers", "schema", "-json"])).unwrap()
}

fn rendered(document: &Document) -> Vec<Page> {
    let examples: Examples = files("examples");
    pages(document, &examples).unwrap_or_else(|errors| {
        let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
        panic!("\n{}", lines.join("\n"))
    })
}

#[test]
fn the_pages_are_those_of_the_schema() {
    let pages = rendered(&document());
    let wanted: BTreeSet<&str> = pages.iter().map(|page| page.path.as_str()).collect();
    let docs = root().join("docs");
    #[allow(clippy::disallowed_methods, reason = "the switch of `make generate`")]
    let is_update = env::var("UPDATE_DOCS").is_ok_and(|text| text == "1");
    let mut faults = Vec::new();
    for page in &pages {
        let file = docs.join(&page.path);
        if is_update {
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, &page.text).unwrap();
        } else if fs::read_to_string(&file).unwrap_or_default() != page.text {
            faults.push(format!("docs/{} is not what the schema and examples/ say", page.path));
        }
    }
    for directory in DIRECTORIES {
        for name in files(&format!("docs/{directory}")).into_keys() {
            let path = format!("{directory}/{name}");
            if wanted.contains(path.as_str()) {
                continue;
            }
            if is_update {
                fs::remove_file(docs.join(&path)).unwrap();
            } else {
                faults.push(format!("docs/{path} is about nothing that the provider has"));
            }
        }
    }
    assert!(faults.is_empty(), "run `make generate`:\n{}", faults.join("\n"));
}

#[test]
fn every_example_is_about_something_and_valid() {
    let document = document();
    let workspace = Workspace::new(&[("provider.tf", &provider_block())]);
    let mut faults = Vec::new();
    let kinds: [(&str, BTreeSet<&String>); 4] = [
        ("resources", document.resource_schemas.keys().collect()),
        ("data-sources", document.data_source_schemas.keys().collect()),
        ("ephemeral-resources", document.ephemeral_resource_schemas.keys().collect()),
        ("functions", document.functions.keys().collect()),
    ];
    let mut modules = 0;
    for (kind, names) in kinds {
        let mut found: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
        for (path, text) in files(&format!("examples/{kind}")) {
            let (name, file) = path.split_once('/').unwrap();
            found.entry(name.to_owned()).or_default().push((file.to_owned(), text));
        }
        for (name, files) in found {
            if !names.contains(&name) {
                faults.push(format!("examples/{kind}/{name} is about nothing that there is"));
                continue;
            }
            let module: Vec<(&str, &str)> = files
                .iter()
                .map(|(file, text)| (file.as_str(), text.as_str()))
                .filter(|(file, _)| file.ends_with(".tf"))
                .collect();
            modules += 1;
            if let Err(text) = workspace.validate(&module) {
                faults.push(format!("examples/{kind}/{name}:\n{text}"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(modules >= document.resource_schemas.len(), "only {modules} modules were looked at");
}

#[test]
fn the_whole_modules_among_the_examples_are_valid() {
    for (directory, arguments) in [
        ("demo", vec!["validate", "-no-color"]),
        ("dr", vec!["validate", "-no-color"]),
        // It validates the test files too, against the module beside them.
        ("drills", vec!["validate", "-no-color"]),
    ] {
        let module = files(&format!("examples/{directory}"));
        let module: Vec<(&str, &str)> = module
            .iter()
            .map(|(file, text)| (file.as_str(), text.as_str()))
            .filter(|(file, _)| file.ends_with(".tf") || file.ends_with(".tftest.hcl"))
            .collect();
        assert!(!module.is_empty(), "examples/{directory} has no module");
        Workspace::new(&module).expect(&arguments);
    }
}

/// The guides and the README, by their paths in the repository.
fn hand_written() -> BTreeMap<String, String> {
    let mut found: BTreeMap<String, String> = files("docs/guides")
        .into_iter()
        .map(|(name, text)| (format!("docs/guides/{name}"), text))
        .collect();
    found.insert("README.md".to_owned(), fs::read_to_string(root().join("README.md")).unwrap());
    found
}

#[test]
fn the_terraform_in_guides_is_valid() {
    let workspace = Workspace::new(&[("provider.tf", &provider_block())]);
    let head = provider_block();
    let mut looked_at = 0;
    for (name, text) in hand_written() {
        // All blocks of a page are one module.
        let blocks: Vec<String> = fences(&text, "terraform")
            .into_iter()
            // The official provider is not at hand where the tests run.
            .filter(|block| !block.contains("aiven/aiven") && !block.contains("aiven_pg"))
            .collect();
        if blocks.is_empty() {
            continue;
        }
        looked_at += 1;
        let module = blocks.join("\n");
        let own_head = module.contains("required_providers");
        workspace.write("provider.tf", if own_head { "" } else { &head });
        if let Err(text) = workspace.validate(&[("guide.tf", &module)]) {
            panic!("{name}:\n{text}");
        }
    }
    assert!(looked_at >= 2, "only {looked_at} pages have terraform in them");
}

/// The fenced blocks of a language, without the indentation of the fence.
fn fences(text: &str, language: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for line in text.lines() {
        let trimmed = line.trim_start();
        match open.take() {
            None if trimmed == format!("```{language}") => {
                open = Some((line.len() - trimmed.len(), String::new()));
            }
            Some((_, block)) if trimmed == "```" => found.push(block),
            Some((indent, block)) => {
                let line = line.get(indent..).unwrap_or_default();
                open = Some((indent, format!("{block}{line}\n")));
            }
            None => {}
        }
    }
    assert!(open.is_none(), "a fence is not closed");
    found
}

#[test]
fn guides_have_front_matter_and_are_on_the_index() {
    let index = fs::read_to_string(root().join("docs/index.md")).unwrap();
    for (name, text) in files("docs/guides") {
        let head = text.strip_prefix("---\n").and_then(|rest| rest.split_once("\n---\n"));
        let (head, _) = head.unwrap_or_else(|| panic!("docs/guides/{name} has no front matter"));
        for key in ["page_title:", "subcategory:", "description:"] {
            assert!(head.lines().any(|line| line.starts_with(key)), "docs/guides/{name}: {key}");
        }
        assert!(index.contains(&format!("(guides/{name})")), "docs/index.md does not name {name}");
    }
}

#[test]
fn links_lead_somewhere() {
    let mut faults = Vec::new();
    let mut pages = hand_written();
    for (name, text) in files("docs") {
        pages.insert(format!("docs/{name}"), text);
    }
    for (name, text) in pages {
        let base = root().join(&name);
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = target.split('#').next().unwrap();
            let elsewhere = target.contains("://") || path.is_empty();
            if !elsewhere && !base.parent().unwrap().join(path).exists() {
                faults.push(format!("{name}: {target}"));
            }
        }
    }
    assert!(faults.is_empty(), "links to nothing:\n{}", faults.join("\n"));
}
