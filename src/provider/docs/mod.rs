//! The provider's registry pages, rendered from its schemas and the files below `examples/`.
//!
//! Whatever the provider offers gets a page, so that a description exists once: as the doc comment of
//! a model's field. The pages are files of the repository; a test compares them with what is rendered
//! here, and `make generate` writes them.

pub mod document;
mod section;

use crate::provider::docs::{
    document::{Document, Function, Parameter, Schema},
    section::{field_list, object_fields, prose, schema, timeouts, type_name},
};
use std::collections::BTreeMap;

/// Texts of the files below `examples/` by their path there.
pub type Examples = BTreeMap<String, String>;

/// Directories below `docs/` that hold nothing but rendered pages.
pub const DIRECTORIES: &[&str] = &["resources", "data-sources", "ephemeral-resources", "functions"];

/// A page: its path below `docs/`, and its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Such as `resources/fork_from_secondary_backup.md`.
    pub path: String,
    /// Markdown with front matter.
    pub text: String,
}

/// What is missing for a page.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DocsError {
    /// An example.
    #[error("rendering {page}: the example examples/{example} is missing")]
    NoExample {
        /// The page.
        page: String,
        /// The file below `examples/`.
        example: String,
    },
    /// A description.
    #[error("rendering {page}: `{name}` has no description")]
    NoDescription {
        /// The page.
        page: String,
        /// Type, attribute, function or argument.
        name: String,
    },
}

/// Why every block names the provider. It stands at the top of every page with blocks.
const LOCAL_NAME: &str = "-> Every block names `provider = btar`. Terraform takes the first word of a \
type as the name of its provider, and would look for providers called `aiven` and `fork`. Because the \
name is given, a module can use this provider and the official `aiven/aiven` side by side.";

const GUIDES: &str = "## Guides

- [Getting started with Aiven's API](guides/getting-started-aiven.md)
- [Getting started with the engine](guides/getting-started-engine.md)
- [Side by side with the official provider](guides/side-by-side.md)
- [Disaster recovery: a runbook](guides/disaster-recovery.md)
- [Drift detection in a pipeline](guides/drift-detection.md)
- [Restore drills](guides/restore-drills.md)
- [Stores of the engine](guides/stores.md)
- [Backups of PGHoard](guides/pghoard.md)
- [Backups of MySQL and MariaDB](guides/mysql.md)
";

const VOLATILE: &str = "~> What this reads may change at any time. In an output of the root module such \
a value makes every plan show a change; use it in a `check` block, a `precondition`, or read it with \
`terraform console`.";

const FUNCTION: &str = "-> Provider functions need Terraform 1.8 or OpenTofu 1.7. They ask no API.";

/// Everything that has a page, and the examples that each needs.
///
/// # Errors
/// Every example and description that is missing.
pub fn pages(document: &Document, examples: &Examples) -> Result<Vec<Page>, Vec<DocsError>> {
    let mut writer = Writer { examples, missing: Vec::new() };
    let mut pages = vec![writer.index(&document.provider)];
    let each = |kind: Kind| move |(name, schema)| (kind, name, schema);
    let typed = (document.resource_schemas.iter().map(each(Kind::Resource)))
        .chain(document.data_source_schemas.iter().map(each(Kind::DataSource)))
        .chain(document.ephemeral_resource_schemas.iter().map(each(Kind::Ephemeral)));
    for (kind, name, schema) in typed {
        pages.push(writer.typed(kind, name, schema));
    }
    for (name, function) in &document.functions {
        pages.push(writer.function(name, function));
    }
    if writer.missing.is_empty() { Ok(pages) } else { Err(writer.missing) }
}

/// What a type is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Resource,
    DataSource,
    Ephemeral,
}

impl Kind {
    /// Directory of its pages and examples, file of the example, and the word for people.
    fn names(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Resource => ("resources", "resource.tf", "Resource"),
            Self::DataSource => ("data-sources", "data-source.tf", "Data Source"),
            Self::Ephemeral => {
                ("ephemeral-resources", "ephemeral-resource.tf", "Ephemeral Resource")
            }
        }
    }
}

struct Writer<'a> {
    examples: &'a Examples,
    missing: Vec<DocsError>,
}

impl Writer<'_> {
    fn index(&mut self, provider: &Schema) -> Page {
        let path = "index.md";
        self.require_descriptions(path, "provider", provider);
        let example = self.example(path, "provider/provider.tf", "terraform");
        let description = provider.block.description.trim();
        let text = [
            front_matter("btar Provider", None, description),
            format!("# btar Provider\n\n{description}\n\n{LOCAL_NAME}\n"),
            format!("## Example Usage\n\n{example}"),
            schema(&provider.block),
            GUIDES.to_owned(),
        ];
        Page { path: path.to_owned(), text: text.join("\n") }
    }

    fn typed(&mut self, kind: Kind, name: &str, of: &Schema) -> Page {
        let (directory, example, word) = kind.names();
        let path = format!("{directory}/{name}.md");
        self.require_descriptions(&path, name, of);
        let description = of.block.description.trim();
        let mut text = vec![
            front_matter(&format!("{name} {word} - btar"), Some(""), description),
            format!("# {name} ({word})\n\n{description}\n\n{LOCAL_NAME}\n"),
        ];
        if kind == Kind::DataSource {
            text.push(format!("{VOLATILE}\n"));
        }
        let example = self.example(&path, &format!("{directory}/{name}/{example}"), "terraform");
        text.push(format!("## Example Usage\n\n{example}"));
        text.push(schema(&of.block));
        text.extend(timeouts(&of.block));
        if kind == Kind::Resource {
            text.push(self.import(&path, &format!("{directory}/{name}")));
        }
        Page { path, text: text.join("\n") }
    }

    fn import(&mut self, path: &str, directory: &str) -> String {
        let block = self.example(path, &format!("{directory}/import-by-string-id.tf"), "terraform");
        let command = self.example(path, &format!("{directory}/import.sh"), "shell");
        format!(
            "## Import\n\nWith an `import` block (Terraform 1.5 and later):\n\n{block}\n\
             With the command:\n\n{command}"
        )
    }

    fn function(&mut self, name: &str, function: &Function) -> Page {
        let path = format!("functions/{name}.md");
        let example = self.example(&path, &format!("functions/{name}/function.tf"), "terraform");
        let description = [&function.description, &function.summary]
            .map(|text| text.trim())
            .into_iter()
            .find(|text| !text.is_empty())
            .unwrap_or_default();
        self.require(&path, name, description);
        let summary = if function.summary.is_empty() { description } else { &function.summary };
        let parameters: Vec<&Parameter> =
            function.parameters.iter().chain(&function.variadic_parameter).collect();
        for parameter in &parameters {
            self.require(&path, &parameter.name, &parameter.description);
        }
        let mut text = vec![
            front_matter(&format!("{name} Function - btar"), Some(""), summary),
            format!("# {name} (Function)\n\n{description}\n\n{FUNCTION}\n"),
            format!("## Example Usage\n\n{example}"),
            signature(name, function),
        ];
        if !parameters.is_empty() {
            text.push(format!("## Arguments\n\n{}", arguments(function, &parameters)));
        }
        let fields = object_fields(&function.return_type).map(field_list);
        let fields = fields.map_or(String::new(), |fields| format!("\n{fields}"));
        text.push(format!("## Result\n\n{}.\n{fields}", type_name(&function.return_type)));
        Page { path, text: text.join("\n") }
    }

    /// An example as a fenced block.
    fn example(&mut self, page: &str, example: &str, language: &str) -> String {
        match self.examples.get(example) {
            Some(text) => format!("```{language}\n{}\n```\n", text.trim_end()),
            None => {
                let (page, example) = (page.to_owned(), example.to_owned());
                self.missing.push(DocsError::NoExample { page, example });
                String::new()
            }
        }
    }

    fn require(&mut self, page: &str, name: &str, description: &str) {
        if description.trim().is_empty() {
            let (page, name) = (page.to_owned(), name.to_owned());
            self.missing.push(DocsError::NoDescription { page, name });
        }
    }

    fn require_descriptions(&mut self, page: &str, name: &str, of: &Schema) {
        self.require(page, name, &of.block.description);
        for (name, attribute) in &of.block.attributes {
            self.require(page, name, &attribute.description);
        }
        for (name, nested) in &of.block.block_types {
            self.require(page, name, &nested.block.description);
        }
    }
}

fn front_matter(title: &str, subcategory: Option<&str>, description: &str) -> String {
    let subcategory =
        subcategory.map_or(String::new(), |text| format!("subcategory: \"{text}\"\n"));
    // The first paragraph is enough for a search result.
    let first = prose(description.split("\n\n").next().unwrap_or_default());
    format!(
        "---\npage_title: \"{title}\"\n{subcategory}description: |-\n  {first}\n---\n\n\
         <!-- Rendered by `make generate` from the schema and examples/: change those. -->\n"
    )
}

fn signature(name: &str, function: &Function) -> String {
    let word = |parameter: &Parameter| {
        format!("{} {}", parameter.name, type_name(&parameter.value_type).to_lowercase())
    };
    let mut list: Vec<String> = function.parameters.iter().map(word).collect();
    list.extend(function.variadic_parameter.iter().map(|p| format!("{}...", word(p))));
    let result = type_name(&function.return_type).to_lowercase();
    format!("## Signature\n\n```text\nprovider::btar::{name}({}) {result}\n```\n", list.join(", "))
}

fn arguments(function: &Function, parameters: &[&Parameter]) -> String {
    let line = |(index, parameter): (usize, &&Parameter)| {
        let kind = type_name(&parameter.value_type);
        let variadic = if index < function.parameters.len() { "" } else { ", Variadic" };
        let nullable = if parameter.is_nullable { ", Nullable" } else { "" };
        let text = prose(&parameter.description);
        format!("{}. `{}` ({kind}{variadic}{nullable}) {text}\n", index + 1, parameter.name)
    };
    parameters.iter().enumerate().map(line).collect()
}

#[cfg(test)]
mod tests;
