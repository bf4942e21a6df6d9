//! Pages of a made-up provider that has one of everything.

use super::*;

const JSON: &str = r#"{"format_version": "1.0", "provider_schemas": {"registry.terraform.io/btar/btar": {
  "provider": {"version": 0, "block": {"description": "A provider."}},
  "resource_schemas": {"thing": {"version": 0, "block": {
    "description": "A thing\nof two lines.\n\nAnd more.",
    "attributes": {
      "id": {"type": "string", "description": "Id.", "computed": true},
      "name": {"type": "string", "description": "Name.\nReally.", "required": true},
      "secret": {"type": "string", "description": "Secret.", "optional": true, "sensitive": true, "write_only": true},
      "tags": {"type": ["map", "string"], "description": "Tags.", "optional": true, "computed": true},
      "parts": {"description": "Parts.", "computed": true, "nested_type": {"nesting_mode": "list", "attributes": {
        "size": {"type": "number", "description": "Size.", "computed": true},
        "ends": {"type": ["list", ["object", {"at": "string", "is_open": "bool"}]], "description": "Ends.", "computed": true}
      }}}
    },
    "block_types": {
      "rule": {"nesting_mode": "list", "min_items": 1, "block": {"description": "Rule.", "attributes": {
        "word": {"type": "string", "description": "Word.", "required": true}}}},
      "timeouts": {"nesting_mode": "group", "block": {"description": "Limits: create `1h`.", "attributes": {
        "create": {"type": "string", "description": "Limit of the creation.", "optional": true}}}}
    }}}},
  "data_source_schemas": {"state": {"version": 0, "block": {"description": "A state.", "attributes": {
    "lag": {"type": "number", "description": "Lag.", "computed": true}}}}},
  "ephemeral_resource_schemas": {"key": {"version": 0, "block": {"description": "A key."}}},
  "functions": {"join": {"summary": "Joins.", "description": "Joins words.", "return_type": ["object", {"text": "string"}],
    "parameters": [{"name": "sep", "description": "Separator.", "type": "string", "is_nullable": true}],
    "variadic_parameter": {"name": "words", "description": "Words.", "type": "string"}}}
}}}"#;

fn examples() -> Examples {
    [
        ("provider/provider.tf", "provider \"btar\" {}\n"),
        ("resources/thing/resource.tf", "resource \"thing\" \"t\" {}\n"),
        ("resources/thing/import.sh", "terraform import thing.t x\n"),
        ("resources/thing/import-by-string-id.tf", "import {}\n"),
        ("data-sources/state/data-source.tf", "data \"state\" \"s\" {}\n"),
        ("ephemeral-resources/key/ephemeral-resource.tf", "ephemeral \"key\" \"k\" {}\n"),
        ("functions/join/function.tf", "output \"o\" {}\n"),
    ]
    .map(|(path, text)| (path.to_owned(), text.to_owned()))
    .into()
}

#[test]
fn everything_has_a_page() {
    let document = Document::parse(JSON).unwrap();
    let pages = pages(&document, &examples()).unwrap();
    let text: String =
        pages.iter().map(|page| format!("=== {}\n{}", page.path, page.text)).collect();
    insta::assert_snapshot!(text);
}

#[test]
fn what_is_missing_is_named() {
    let document = Document::parse(&JSON.replace("\"Tags.\"", "\" \"")).unwrap();
    let mut examples = examples();
    examples.remove("functions/join/function.tf");
    let errors = pages(&document, &examples).unwrap_err();
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "rendering resources/thing.md: `tags` has no description",
            "rendering functions/join.md: the example examples/functions/join/function.tf is missing",
        ]
    );
}

#[test]
fn a_document_of_no_or_two_providers_is_refused() {
    let none = Document::parse(r#"{"format_version": "1.0"}"#).unwrap_err();
    assert!(matches!(none, document::DocumentError::ProviderCount { found: 0 }));
    assert!(Document::parse("{").is_err());
}
