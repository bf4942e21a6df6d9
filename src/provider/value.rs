//! Terraform's three-state value: null, not yet known, or known.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, IntoDeserializer as _},
};
use std::{borrow::Cow, fmt, marker::PhantomData};

/// The value of an attribute.
///
/// On the wire (`MessagePack`) null is nil, and unknown is extension 0, or 12 with what is known
/// about it (go-cty's refinements), which this provider does not look at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Tf<T> {
    /// Not set.
    #[default]
    Null,
    /// Known only after apply.
    Unknown,
    /// Known.
    Known(T),
}

impl<T> Tf<T> {
    /// The value, where it is known.
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Null | Self::Unknown => None,
        }
    }

    /// Whether nothing is set.
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// Whether the value is known only after apply.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown)
    }

    /// Null becomes `default`.
    #[must_use]
    pub fn or(self, default: T) -> Self {
        if self.is_null() { Self::Known(default) } else { self }
    }

    /// Unknown becomes null: what apply must do with what it could not learn.
    #[must_use]
    pub fn settled(self) -> Self {
        if self.is_unknown() { Self::Null } else { self }
    }
}

/// A text that is sensitive: it goes to Terraform, and into no log.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

impl Tf<Secret> {
    /// The text, where it is known.
    #[must_use]
    pub fn reveal(&self) -> Option<&str> {
        self.known().map(|secret| secret.0.as_str())
    }
}

impl From<&str> for Tf<Secret> {
    fn from(text: &str) -> Self {
        Self::Known(Secret(text.to_owned()))
    }
}

impl Tf<String> {
    /// The text, where it is known.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        self.known().map(String::as_str)
    }
}

impl From<&str> for Tf<String> {
    fn from(text: &str) -> Self {
        Self::Known(text.to_owned())
    }
}

impl<T> From<Option<T>> for Tf<T> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Self::Known)
    }
}

/// The body of an unknown value: extension 0 with no bytes.
#[derive(Serialize)]
#[serde(rename = "_ExtStruct")]
struct UnknownExtension((i8, NoBytes));

struct NoBytes;

impl Serialize for NoBytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&[])
    }
}

impl<T: Serialize> Serialize for Tf<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Unknown => UnknownExtension((0, NoBytes)).serialize(serializer),
            Self::Known(value) => value.serialize(serializer),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Tf<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TfVisitor(PhantomData))
    }
}

struct TfVisitor<T>(PhantomData<T>);

macro_rules! forward {
    ($($visit:ident: $type:ty),*) => {$(
        fn $visit<E: de::Error>(self, value: $type) -> Result<Tf<T>, E> {
            T::deserialize(value.into_deserializer()).map(Tf::Known)
        }
    )*};
}

impl<'de, T: Deserialize<'de>> de::Visitor<'de> for TfVisitor<T> {
    type Value = Tf<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of the attribute's type")
    }

    forward!(visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64, visit_str: &str,
        visit_string: String);

    fn visit_unit<E: de::Error>(self) -> Result<Tf<T>, E> {
        Ok(Tf::Null)
    }

    fn visit_none<E: de::Error>(self) -> Result<Tf<T>, E> {
        Ok(Tf::Null)
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, access: A) -> Result<Tf<T>, A::Error> {
        T::deserialize(de::value::SeqAccessDeserializer::new(access)).map(Tf::Known)
    }

    fn visit_map<A: de::MapAccess<'de>>(self, access: A) -> Result<Tf<T>, A::Error> {
        T::deserialize(de::value::MapAccessDeserializer::new(access)).map(Tf::Known)
    }

    /// An extension: only unknown values have one.
    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<Tf<T>, D::Error> {
        de::IgnoredAny::deserialize(inner).map(|_| Tf::Unknown)
    }
}

impl<T: JsonSchema> JsonSchema for Tf<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn check<T>(value: Tf<T>, bytes: &[u8])
    where
        T: Serialize + for<'a> Deserialize<'a> + PartialEq + fmt::Debug,
    {
        assert_eq!(rmp_serde::to_vec_named(&value).unwrap(), bytes);
        assert_eq!(rmp_serde::from_slice::<Tf<T>>(bytes).unwrap(), value);
    }

    #[test]
    fn the_three_states_go_there_and_back() {
        check(Tf::<String>::Null, &[0xc0]);
        check(Tf::<String>::Unknown, &[0xc7, 0, 0]);
        check(Tf::<String>::from("a"), &[0xa1, b'a']);
        check(Tf::Known(true), &[0xc3]);
        check(Tf::<Secret>::from("s"), &[0xa1, b's']);
        let map = BTreeMap::from([("k".to_owned(), Tf::<String>::Unknown)]);
        check(Tf::Known(map), &[0x81, 0xa1, b'k', 0xc7, 0, 0]);
    }

    #[test]
    fn a_secret_hides_itself() {
        assert_eq!(format!("{:?}", Tf::<Secret>::from("s")), "Known(Secret(hidden))");
    }

    #[test]
    fn terraforms_spellings_of_unknown_are_read() {
        for bytes in [&[0xd4, 0, 0][..], &[0xc7, 2, 12, 0x81, 1]] {
            assert_eq!(rmp_serde::from_slice::<Tf<String>>(bytes).unwrap(), Tf::Unknown);
        }
    }
}
