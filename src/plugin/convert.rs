//! tf-provider's schemas, diagnostics and attribute paths as messages of the protocol.

use crate::plugin::{extra::Overlay, wire};
use std::{backtrace, collections::HashMap, sync::OnceLock};
use tf_provider::{
    AttributePath, AttributePathStep, Diagnostic, Diagnostics,
    schema::{
        Attribute, AttributeConstraint, AttributeType, Block, Description, FunctionSchema,
        NestedBlock, Parameter, Schema, StringKind,
    },
};

/// A schema with what [`Overlay`] adds to its top-level attributes.
pub(super) fn schema(schema: &Schema, overlay: &Overlay) -> wire::Schema {
    wire::Schema { version: schema.version, block: Some(block(&schema.block, overlay)) }
}

fn block(block: &Block, overlay: &Overlay) -> wire::Block {
    let mut block_types: Vec<_> =
        block.blocks.iter().map(|(name, nested)| nested_block(name, nested)).collect();
    block_types.sort_by(|a, b| a.type_name.cmp(&b.type_name));
    wire::Block {
        version: block.version,
        attributes: attributes(&block.attributes, overlay),
        block_types,
        description: block.description.content.clone(),
        description_kind: kind(&block.description),
        deprecated: block.deprecated,
    }
}

fn nested_block(name: &str, nested: &NestedBlock) -> wire::NestedBlock {
    use wire::Nesting;
    // For lists, sets and maps, 0 as the largest count means "any".
    let (nesting, inner, min_items, max_items) = match nested {
        NestedBlock::Single(inner) => (Nesting::Single, inner, 1, 1),
        NestedBlock::List(inner) => (Nesting::List, inner, 0, 0),
        NestedBlock::Set(inner) => (Nesting::Set, inner, 0, 0),
        NestedBlock::Map(inner) => (Nesting::Map, inner, 0, 0),
        NestedBlock::Group(inner) => (Nesting::Group, inner, 0, 0),
        NestedBlock::Optional(inner) => (Nesting::List, inner, 0, 1),
    };
    wire::NestedBlock {
        type_name: name.to_owned(),
        block: Some(block(inner, &Overlay::default())),
        nesting: nesting.into(),
        min_items,
        max_items,
    }
}

/// Sorted by name, so that equal schemas are equal bytes.
fn attributes(attributes: &HashMap<String, Attribute>, overlay: &Overlay) -> Vec<wire::Attribute> {
    let mut converted: Vec<_> =
        attributes.iter().map(|(name, a)| attribute(name, a, overlay)).collect();
    converted.sort_by(|a, b| a.name.cmp(&b.name));
    converted
}

fn attribute(name: &str, attribute: &Attribute, overlay: &Overlay) -> wire::Attribute {
    use AttributeConstraint::{Computed, Optional, OptionalComputed, Required};
    // Never both: Terraform then refuses the whole provider.
    let nested_type = nested_type(&attribute.attr_type);
    let r#type = match nested_type {
        Some(_) => Vec::new(),
        None => attribute.attr_type.to_string().into_bytes(),
    };
    let deprecation = overlay.deprecated.iter().find(|(n, _)| *n == name).map(|(_, text)| *text);
    wire::Attribute {
        name: name.to_owned(),
        r#type,
        nested_type,
        description: attribute.description.content.clone(),
        description_kind: kind(&attribute.description),
        required: attribute.constraint == Required,
        optional: matches!(attribute.constraint, Optional | OptionalComputed),
        computed: matches!(attribute.constraint, Computed | OptionalComputed),
        sensitive: attribute.sensitive,
        deprecated: attribute.deprecated || deprecation.is_some(),
        write_only: overlay.write_only.contains(&name),
        deprecation_message: deprecation.unwrap_or_default().to_owned(),
    }
}

fn nested_type(attr_type: &AttributeType) -> Option<wire::Object> {
    use wire::Nesting;
    let (nesting, inner) = match attr_type {
        AttributeType::AttributeSingle(inner) => (Nesting::Single, inner),
        AttributeType::AttributeList(inner) => (Nesting::List, inner),
        AttributeType::AttributeSet(inner) => (Nesting::Set, inner),
        AttributeType::AttributeMap(inner) => (Nesting::Map, inner),
        AttributeType::String
        | AttributeType::Number
        | AttributeType::Bool
        | AttributeType::List(_)
        | AttributeType::Set(_)
        | AttributeType::Map(_)
        | AttributeType::Object(_)
        | AttributeType::Tuple(_)
        | AttributeType::Any => return None,
    };
    let attributes = attributes(inner, &Overlay::default());
    Some(wire::Object { attributes, nesting: nesting.into() })
}

fn kind(description: &Description) -> i32 {
    match description.kind {
        StringKind::Plain => wire::StringKind::Plain,
        StringKind::Markdown => wire::StringKind::Markdown,
    }
    .into()
}

/// The signature of a function.
pub(super) fn function(schema: &FunctionSchema) -> wire::Function {
    wire::Function {
        parameters: schema.parameters.iter().map(parameter).collect(),
        variadic_parameter: schema.variadic.as_ref().map(parameter),
        r#return: Some(wire::Return { r#type: schema.return_type.to_string().into_bytes() }),
        summary: schema.summary.clone(),
        description: schema.description.content.clone(),
        description_kind: kind(&schema.description),
        deprecation_message: schema.deprecated.clone().unwrap_or_default(),
    }
}

fn parameter(parameter: &Parameter) -> wire::Parameter {
    wire::Parameter {
        name: parameter.name.clone(),
        r#type: parameter.param_type.to_string().into_bytes(),
        allow_null_value: parameter.allow_null,
        allow_unknown_values: parameter.allow_unknown,
        description: parameter.description.content.clone(),
        description_kind: kind(&parameter.description),
    }
}

/// The first error of a function call; the protocol has room for one and for no warning.
pub(super) fn function_error(diagnostics: Diagnostics) -> Option<wire::FunctionError> {
    let error = diagnostics.errors.into_iter().next()?;
    let function_argument = match error.attribute.steps.first() {
        Some(AttributePathStep::Index(index)) => Some(*index),
        Some(AttributePathStep::Attribute(_) | AttributePathStep::Key(_)) | None => None,
    };
    let detail = without_backtrace(&error.detail);
    let text = if detail.is_empty() {
        error.summary.into_owned()
    } else {
        format!("{}: {detail}", error.summary)
    };
    Some(wire::FunctionError { text, function_argument })
}

/// Errors first, then warnings.
pub(super) fn diagnostics(diagnostics: Diagnostics) -> Vec<wire::Diagnostic> {
    let errors = diagnostics.errors.into_iter().map(|d| diagnostic(d, wire::Severity::Error));
    let warnings = diagnostics.warnings.into_iter().map(|d| diagnostic(d, wire::Severity::Warning));
    errors.chain(warnings).collect()
}

fn diagnostic(diagnostic: Diagnostic, severity: wire::Severity) -> wire::Diagnostic {
    let at_attribute = !diagnostic.attribute.steps.is_empty();
    wire::Diagnostic {
        severity: severity.into(),
        summary: diagnostic.summary.into_owned(),
        detail: without_backtrace(&diagnostic.detail).to_owned(),
        attribute: at_attribute.then(|| path(diagnostic.attribute)),
    }
}

pub(super) fn path(path: AttributePath) -> wire::AttributePath {
    let steps = path.steps.into_iter().map(|step| match step {
        AttributePathStep::Attribute(name) => wire::Selector::AttributeName(name.into_owned()),
        AttributePathStep::Key(key) => wire::Selector::ElementKeyString(key.into_owned()),
        AttributePathStep::Index(index) => wire::Selector::ElementKeyInt(index),
    });
    wire::AttributePath {
        steps: steps.map(|selector| wire::Step { selector: Some(selector) }).collect(),
    }
}

/// The detail without the backtrace that `Diagnostic::new` puts behind it when `RUST_BACKTRACE` is
/// set, as it is in many CI systems: a hundred lines that no user of a provider can read.
fn without_backtrace(detail: &str) -> &str {
    static APPENDED: OnceLock<bool> = OnceLock::new();
    // std decides once per process whether backtraces are captured; so may we.
    let appended = *APPENDED.get_or_init(|| {
        backtrace::Backtrace::capture().status() == backtrace::BacktraceStatus::Captured
    });
    if appended { cut_backtrace(detail) } else { detail }
}

/// Cuts at the line of frame 0 if all that follows looks like frames.
fn cut_backtrace(detail: &str) -> &str {
    let mut start = 0;
    for line in detail.split_inclusive('\n') {
        if line.trim_start().starts_with("0: ") && detail[start..].lines().all(is_frame) {
            return detail[..start].trim_end_matches('\n');
        }
        start += line.len();
    }
    detail
}

/// `   7: symbol`, `             at file:line`, or an inlined symbol below its frame.
fn is_frame(line: &str) -> bool {
    let numbered = line.trim_start_matches(|c: char| c.is_ascii_digit()).starts_with(": ");
    line.is_empty() || line.starts_with(' ') || numbered
}

#[cfg(test)]
mod tests {
    use super::*;
    use tf_provider::map;

    fn text(constraint: AttributeConstraint) -> Attribute {
        Attribute {
            attr_type: AttributeType::String,
            description: Description::markdown("some *text*"),
            constraint,
            ..Attribute::default()
        }
    }

    #[test]
    fn a_nested_attribute_has_a_nested_type_and_no_type() {
        let inner: HashMap<String, Attribute> = map! {"a" => text(AttributeConstraint::Required)};
        for (attr_type, nesting) in [
            (AttributeType::AttributeSingle(inner.clone()), wire::Nesting::Single),
            (AttributeType::AttributeList(inner.clone()), wire::Nesting::List),
            (AttributeType::AttributeSet(inner.clone()), wire::Nesting::Set),
            (AttributeType::AttributeMap(inner), wire::Nesting::Map),
        ] {
            let nested = Attribute { attr_type, ..text(AttributeConstraint::Optional) };
            let converted = attribute("outer", &nested, &Overlay::default());
            assert!(converted.r#type.is_empty());
            let object = converted.nested_type.unwrap();
            assert_eq!(object.nesting(), nesting);
            assert_eq!(object.attributes[0].name, "a");
            assert_eq!(object.attributes[0].r#type, b"\"string\"");
        }
    }

    #[test]
    fn attributes_are_sorted_and_carry_the_overlay() {
        let attrs: HashMap<String, Attribute> = map! {
            "secret" => text(AttributeConstraint::Optional),
            "old" => text(AttributeConstraint::OptionalComputed),
            "id" => text(AttributeConstraint::Computed),
        };
        let overlay = Overlay { write_only: vec!["secret"], deprecated: vec![("old", "use id")] };
        let converted = attributes(&attrs, &overlay);
        let flags: Vec<_> = converted
            .iter()
            .map(|a| (a.name.as_str(), a.optional, a.computed, a.write_only, a.deprecated))
            .collect();
        assert_eq!(
            flags,
            [
                ("id", false, true, false, false),
                ("old", true, true, false, true),
                ("secret", true, false, true, false),
            ]
        );
        assert_eq!(converted[1].deprecation_message, "use id");
        assert_eq!(converted[0].description_kind(), wire::StringKind::Markdown);
    }

    #[test]
    fn blocks_keep_their_counts() {
        let inner = Block::default();
        for (nested, nesting, counts) in [
            (NestedBlock::Single(inner.clone()), wire::Nesting::Single, (1, 1)),
            (NestedBlock::Group(inner.clone()), wire::Nesting::Group, (0, 0)),
            (NestedBlock::Optional(inner.clone()), wire::Nesting::List, (0, 1)),
            (NestedBlock::Set(inner), wire::Nesting::Set, (0, 0)),
        ] {
            let converted = nested_block("b", &nested);
            assert_eq!(converted.nesting(), nesting);
            assert_eq!((converted.min_items, converted.max_items), counts);
        }
    }

    #[test]
    fn diagnostics_keep_severity_and_path() {
        let mut given = Diagnostics::default();
        given.warning("w", "careful", AttributePath::new("tags").key("env"));
        given.error("e", "wrong", AttributePath::new("rule").index(1).attribute("port"));
        let converted = diagnostics(given);
        assert_eq!(converted[0].severity(), wire::Severity::Error);
        assert_eq!(converted[1].severity(), wire::Severity::Warning);
        let selectors: Vec<_> = converted[0]
            .attribute
            .clone()
            .unwrap()
            .steps
            .into_iter()
            .map(|s| s.selector.unwrap())
            .collect();
        assert_eq!(
            selectors,
            [
                wire::Selector::AttributeName("rule".to_owned()),
                wire::Selector::ElementKeyInt(1),
                wire::Selector::AttributeName("port".to_owned()),
            ]
        );
    }

    #[test]
    fn a_backtrace_is_cut_and_text_is_kept() {
        let real = backtrace::Backtrace::force_capture();
        assert_eq!(cut_backtrace(&format!("{real}")), "");
        assert_eq!(cut_backtrace(&format!("{real:#}")), "");
        assert_eq!(cut_backtrace(&format!("line one\nline two\n{real}")), "line one\nline two");
        let list = "   0: first\nand then more text";
        assert_eq!(cut_backtrace(list), list);
        assert_eq!(cut_backtrace("plain"), "plain");
    }

    #[test]
    fn a_function_error_names_the_argument() {
        let mut given = Diagnostics::default();
        given.function_error(2, "too long");
        let error = function_error(given).unwrap();
        assert_eq!((error.text.as_str(), error.function_argument), ("too long", Some(2)));
        assert!(function_error(Diagnostics::default()).is_none());
    }
}
