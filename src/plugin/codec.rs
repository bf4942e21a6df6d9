//! Terraform's encoded values to the provider's types and back, with errors that name the attribute.

use crate::plugin::wire::DynamicValue;
use serde::{Deserialize, Serialize};
use serde_path_to_error::{Path, Segment};
use tf_provider::{AttributePath, Diagnostics};

/// `MessagePack`'s null.
pub(super) const NULL: &[u8] = &[0xc0];

/// Whether the value is missing, which is how Terraform says "does not exist".
pub(super) fn is_null(value: &DynamicValue) -> bool {
    match (value.msgpack.as_slice(), value.json.as_slice()) {
        ([], json) => json.is_empty() || json == b"null",
        (msgpack, _) => msgpack == NULL,
    }
}

/// A value of one of the provider's types. `None` with an error when it does not fit.
pub(super) fn decode<'a, T: Deserialize<'a>>(
    diagnostics: &mut Diagnostics,
    value: &'a DynamicValue,
) -> Option<T> {
    decode_any(value).map_err(|error| report(diagnostics, error)).ok()
}

/// The private state that the provider stored beside an object; null at first.
pub(super) fn decode_private<'a, T: Deserialize<'a>>(
    diagnostics: &mut Diagnostics,
    bytes: &'a [u8],
) -> Option<T> {
    let decoded = decode_msgpack(bytes).map_err(|error| {
        diagnostics.root_error(
            "The provider's private data for this object cannot be read",
            format!("{}. This is a bug in the provider.", without_values(&error.reason)),
        );
    });
    decoded.ok()
}

/// The `provider_meta` block, which is not offered and so is always null.
pub(super) fn decode_meta<'a, T: Deserialize<'a>>(diagnostics: &mut Diagnostics) -> Option<T> {
    decode_msgpack(NULL).map_err(|error| report(diagnostics, error)).ok()
}

/// The arguments of a function as one sequence.
pub(super) fn decode_arguments<'a, T: Deserialize<'a>>(
    diagnostics: &mut Diagnostics,
    sequence: &'a [u8],
) -> Option<T> {
    let decoded = decode_msgpack(sequence).map_err(|error| match error.path.iter().next() {
        Some(Segment::Seq { index }) => {
            let index = i64::try_from(*index).unwrap_or(i64::MAX);
            diagnostics.function_error(index, without_values(&error.reason));
        }
        Some(Segment::Map { .. } | Segment::Enum { .. } | Segment::Unknown) | None => {
            diagnostics
                .root_error("The arguments cannot be decoded", without_values(&error.reason));
        }
    });
    decoded.ok()
}

/// One `MessagePack` array of already encoded values.
pub(super) fn sequence(values: &[DynamicValue]) -> Result<Vec<u8>, rmp_serde::encode::Error> {
    let mut bytes = match u16::try_from(values.len()) {
        Ok(count @ 0..16) => vec![0x90 | count.to_le_bytes()[0]],
        Ok(count) => [&[0xdc][..], &count.to_be_bytes()].concat(),
        Err(_) => {
            return Err(rmp_serde::encode::Error::Syntax("more than 65535 arguments".to_owned()));
        }
    };
    for value in values {
        match (value.msgpack.as_slice(), value.json.as_slice()) {
            ([], []) => bytes.extend(NULL),
            ([], json) => {
                let json: serde_json::Value = serde_json::from_slice(json)
                    .map_err(|e| rmp_serde::encode::Error::Syntax(e.to_string()))?;
                bytes.extend(rmp_serde::to_vec_named(&json)?);
            }
            (msgpack, _) => bytes.extend(msgpack),
        }
    }
    Ok(bytes)
}

/// The value in the encoding that Terraform expects. `None` with an error when that fails.
pub(super) fn encode<T: Serialize>(diagnostics: &mut Diagnostics, value: &T) -> Option<Vec<u8>> {
    let encoded = rmp_serde::to_vec_named(value).map_err(|error| {
        diagnostics.root_error(
            "The provider's answer cannot be encoded",
            format!("{error}. This is a bug in the provider."),
        );
    });
    encoded.ok()
}

pub(super) fn msgpack(bytes: Vec<u8>) -> DynamicValue {
    DynamicValue { msgpack: bytes, json: Vec::new() }
}

pub(super) fn json(value: &serde_json::Value) -> DynamicValue {
    DynamicValue { msgpack: Vec::new(), json: value.to_string().into_bytes() }
}

#[derive(Debug)]
struct DecodeError {
    path: Path,
    reason: String,
}

fn decode_any<'a, T: Deserialize<'a>>(value: &'a DynamicValue) -> Result<T, DecodeError> {
    if value.msgpack.is_empty() && !value.json.is_empty() {
        let mut source = serde_json::Deserializer::from_slice(&value.json);
        serde_path_to_error::deserialize(&mut source).map_err(decode_error)
    } else {
        decode_msgpack(&value.msgpack)
    }
}

fn decode_msgpack<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, DecodeError> {
    let bytes = if bytes.is_empty() { NULL } else { bytes };
    let mut source = rmp_serde::Deserializer::from_read_ref(bytes);
    serde_path_to_error::deserialize(&mut source).map_err(decode_error)
}

fn decode_error<E: ToString>(error: serde_path_to_error::Error<E>) -> DecodeError {
    DecodeError { path: error.path().clone(), reason: error.into_inner().to_string() }
}

fn report(diagnostics: &mut Diagnostics, error: DecodeError) {
    // Below the first step a map's key and an attribute's name look alike; the text says the rest.
    let attribute = match error.path.iter().next() {
        Some(Segment::Map { key }) => AttributePath::new(key.clone()),
        Some(Segment::Seq { .. } | Segment::Enum { .. } | Segment::Unknown) | None => {
            AttributePath::root()
        }
    };
    diagnostics.error(
        "A value cannot be decoded",
        format!(
            "`{}`: {}. Terraform's value does not fit the provider's type for it.",
            error.path,
            without_values(&error.reason)
        ),
        attribute,
    );
}

/// serde quotes strings that do not fit, and one of them may be a secret.
fn without_values(reason: &str) -> String {
    match (reason.find('"'), reason.rfind('"')) {
        (Some(first), Some(last)) if first < last => {
            format!("{}…{}", &reason[..=first], &reason[last..])
        }
        (Some(_) | None, Some(_) | None) => reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tf_provider::value::Value;

    #[derive(Debug, Deserialize, Serialize, PartialEq)]
    struct Model {
        name: Value<String>,
        size: Value<i64>,
        tags: Value<Vec<Value<String>>>,
    }

    fn value(json: serde_json::Value) -> DynamicValue {
        msgpack(rmp_serde::to_vec_named(&json).unwrap())
    }

    fn refused<T: for<'a> Deserialize<'a>>(value: &DynamicValue) -> (AttributePath, String) {
        let mut diagnostics = Diagnostics::default();
        assert!(decode::<T>(&mut diagnostics, value).is_none());
        assert_eq!(diagnostics.errors.len(), 1);
        let error = diagnostics.errors.remove(0);
        (error.attribute, error.detail.into_owned())
    }

    #[test]
    fn round_trip_with_null_and_unknown() {
        let model = Model {
            name: Value::Unknown,
            size: Value::Value(3),
            tags: Value::Value(vec![Value::Null, Value::Unknown, Value::Value("a".to_owned())]),
        };
        let mut diagnostics = Diagnostics::default();
        let encoded = msgpack(encode(&mut diagnostics, &model).unwrap());
        assert_eq!(decode::<Model>(&mut diagnostics, &encoded), Some(model));
        assert!(diagnostics.errors.is_empty());
    }

    #[test]
    fn a_refused_value_names_its_attribute() {
        let given = value(serde_json::json!({"name": "n", "size": 2.5, "tags": null}));
        let (attribute, detail) = refused::<Model>(&given);
        assert_eq!(attribute, AttributePath::new("size"));
        assert!(detail.starts_with("`size`: "), "{detail}");
    }

    #[test]
    fn a_refused_value_is_not_repeated() {
        #[derive(Debug, Deserialize)]
        struct Plain {
            #[allow(dead_code, reason = "only its type matters")]
            port: i64,
        }
        let given = serde_json::json!({"port": "s3cret"});
        let (attribute, detail) = refused::<Plain>(&json(&given));
        assert_eq!(attribute, AttributePath::new("port"));
        assert!(!detail.contains("s3cret") && detail.contains("string \"…\""), "{detail}");
        let (attribute, detail) = refused::<Plain>(&value(given));
        assert_eq!(attribute, AttributePath::new("port"));
        assert!(!detail.contains("s3cret"), "{detail}");
    }

    #[test]
    fn null_in_both_encodings() {
        assert!(is_null(&DynamicValue::default()));
        assert!(is_null(&msgpack(NULL.to_vec())));
        assert!(is_null(&json(&serde_json::Value::Null)));
        assert!(!is_null(&value(serde_json::json!({}))));
    }

    #[test]
    fn json_is_decoded_too() {
        let given = json(&serde_json::json!({"name": "n", "size": 1, "tags": []}));
        let model: Model = decode(&mut Diagnostics::default(), &given).unwrap();
        assert_eq!(model.size, Value::Value(1));
    }

    #[test]
    fn arguments_become_a_sequence_and_errors_name_the_argument() {
        let mut diagnostics = Diagnostics::default();
        let arguments = [value(serde_json::json!("a")), value(serde_json::json!(7))];
        let bytes = sequence(&arguments).unwrap();
        let decoded: Option<(String, i64)> = decode_arguments(&mut diagnostics, &bytes);
        assert_eq!(decoded, Some(("a".to_owned(), 7)));
        assert!(decode_arguments::<(String, bool)>(&mut diagnostics, &bytes).is_none());
        assert_eq!(diagnostics.errors[0].attribute, AttributePath::function_argument(1));

        let many = sequence(&vec![value(serde_json::json!(1)); 20]).unwrap();
        assert_eq!(decode_arguments::<Vec<i64>>(&mut diagnostics, &many), Some(vec![1; 20]));
    }
}
