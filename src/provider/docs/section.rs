//! The schema section of a page: attributes by how they are set, what is nested below its own heading.

use crate::provider::docs::document::{Attribute, Block};
use serde_json::Value;
use std::collections::BTreeMap;

/// The block that has a section of its own.
pub(super) const TIMEOUTS: &str = "timeouts";

/// How an attribute or block is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Mode {
    Required,
    Optional,
    ReadOnly,
}

impl Mode {
    fn of(attribute: &Attribute) -> Self {
        if attribute.required {
            Self::Required
        } else if attribute.optional {
            Self::Optional
        } else {
            Self::ReadOnly
        }
    }

    fn heading(self) -> &'static str {
        match self {
            Self::Required => "Required",
            Self::Optional => "Optional",
            Self::ReadOnly => "Read-Only",
        }
    }
}

/// One line of a list, and what is to be written below its own heading.
struct Line {
    mode: Mode,
    name: String,
    text: String,
    inside: Option<String>,
}

/// `## Schema` of a block.
pub(super) fn schema(block: &Block) -> String {
    let lines = block_lines("", block);
    let mut text = String::from("## Schema\n");
    text.push_str(&lists(&lines, "###"));
    text.push_str(&nested("", lines));
    text
}

/// `## Timeouts` of a block that has them.
pub(super) fn timeouts(block: &Block) -> Option<String> {
    let timeouts = &block.block_types.get(TIMEOUTS)?.block;
    let text = prose(&timeouts.description);
    let lines: String =
        attribute_lines(TIMEOUTS, &timeouts.attributes).map(|line| line.text + "\n").collect();
    Some(format!("## Timeouts\n\nThe block `timeouts` has these arguments. {text}\n\n{lines}"))
}

/// The lines of each mode below a heading of its own.
fn lists(lines: &[Line], level: &str) -> String {
    [Mode::Required, Mode::Optional, Mode::ReadOnly]
        .into_iter()
        .map(|mode| {
            let items: String = lines
                .iter()
                .filter(|line| line.mode == mode)
                .map(|line| format!("{}\n", line.text))
                .collect();
            let heading = mode.heading();
            if items.is_empty() { items } else { format!("\n{level} {heading}\n\n{items}") }
        })
        .collect()
}

/// What is nested, each below its own heading, depth first.
fn nested(prefix: &str, lines: Vec<Line>) -> String {
    lines
        .into_iter()
        .filter_map(|line| {
            let path = join(prefix, &line.name);
            let inside = line.inside?;
            let anchor = anchor(&path);
            Some(format!("\n<a id=\"{anchor}\"></a>\n### Nested Schema for `{path}`\n{inside}"))
        })
        .collect()
}

fn block_lines(prefix: &str, block: &Block) -> Vec<Line> {
    let mut lines: Vec<Line> = attribute_lines(prefix, &block.attributes).collect();
    lines.extend(block.block_types.iter().map(|(name, nested_block)| {
        let path = join(prefix, name);
        let text = prose(&nested_block.block.description);
        let mode = if nested_block.min_items > 0 { Mode::Required } else { Mode::Optional };
        let kind = match nested_block.nesting_mode.as_str() {
            "list" => "Block List",
            "set" => "Block Set",
            "map" => "Block Map",
            _ => "Block",
        };
        let (target, inside) = if path == TIMEOUTS {
            ("timeouts".to_owned(), None)
        } else {
            let inner = block_lines(&path, &nested_block.block);
            let inside = format!("{}{}", lists(&inner, "####"), nested(&path, inner));
            (anchor(&path), Some(inside))
        };
        let text = format!("- `{name}` ({kind}) {text} See [below](#{target}).");
        Line { mode, name: name.clone(), text, inside }
    }));
    lines.sort_by(|a, b| (a.mode, &a.name).cmp(&(b.mode, &b.name)));
    lines
}

fn attribute_lines(
    prefix: &str,
    attributes: &BTreeMap<String, Attribute>,
) -> impl Iterator<Item = Line> {
    attributes.iter().map(move |(name, attribute)| {
        let path = join(prefix, name);
        let inside = inside(&path, attribute);
        let mut kind = vec![match &attribute.nested_type {
            Some(nested) if nested.nesting_mode == "single" => "Attributes".to_owned(),
            Some(nested) => format!("{} of Attributes", capital(&nested.nesting_mode)),
            None => type_name(&attribute.value_type),
        }];
        for (is_set, word) in [
            (attribute.sensitive, "Sensitive"),
            (attribute.write_only, "Write-only"),
            (attribute.deprecated, "Deprecated"),
        ] {
            kind.extend(is_set.then(|| word.to_owned()));
        }
        let below = match inside {
            Some(_) => format!(" See [below](#{}).", anchor(&path)),
            None => String::new(),
        };
        let kind = kind.join(", ");
        let text = format!("- `{name}` ({kind}) {}{below}", prose(&attribute.description));
        Line { mode: Mode::of(attribute), name: name.clone(), text, inside }
    })
}

/// What an attribute holds, where that is more than one value.
fn inside(path: &str, attribute: &Attribute) -> Option<String> {
    if let Some(nested_type) = &attribute.nested_type {
        let inner: Vec<Line> = attribute_lines(path, &nested_type.attributes).collect();
        return Some(format!("{}{}", lists(&inner, "####"), nested(path, inner)));
    }
    let fields = object_fields(&attribute.value_type)?;
    Some(format!("\n{}", field_list(fields)))
}

/// A list of the fields of an object type, which has no descriptions of its own.
pub(super) fn field_list(fields: &serde_json::Map<String, Value>) -> String {
    fields.iter().map(|(name, kind)| format!("- `{name}` ({})\n", type_name(kind))).collect()
}

/// The fields of an object type, or of a collection of objects.
pub(super) fn object_fields(value_type: &Value) -> Option<&serde_json::Map<String, Value>> {
    let inner = value_type.get(1)?;
    match value_type.get(0)?.as_str()? {
        "object" => inner.as_object(),
        _ => object_fields(inner),
    }
}

/// A type in words.
pub(super) fn type_name(value_type: &Value) -> String {
    if let Some(word) = value_type.as_str() {
        return if word == "bool" { "Boolean".to_owned() } else { capital(word) };
    }
    match value_type.get(0).and_then(Value::as_str) {
        Some(word @ ("list" | "set" | "map")) => {
            let inner = value_type.get(1).map(type_name).unwrap_or_default();
            format!("{} of {inner}", capital(word))
        }
        Some(word) => capital(word),
        None => "Dynamic".to_owned(),
    }
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().collect::<String>() + letters.as_str()
    })
}

/// A doc comment as one line.
pub(super) fn prose(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn join(prefix: &str, name: &str) -> String {
    if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") }
}

fn anchor(path: &str) -> String {
    format!("nested--{}", path.replace('.', "--"))
}
