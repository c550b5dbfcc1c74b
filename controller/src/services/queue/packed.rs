//! A write as it waits: its object as text, of which ten thousands may wait. A tree of values takes ten times as much.

use std::mem::discriminant;

use serde_json::Value;

use crate::services::plan::Write;

/// A write, and all of it.
#[derive(Debug)]
pub enum Packed {
    /// [`Write::Apply`].
    Apply(Box<str>, Option<String>),
    /// [`Write::Status`].
    Status(Box<str>),
    /// [`Write::Delete`].
    Delete(String),
}

impl Packed {
    /// Whether it does the same to an object, whatever it is to be.
    pub fn is_like(&self, other: &Self) -> bool {
        discriminant(self) == discriminant(other)
    }
}

impl From<Write> for Packed {
    fn from(write: Write) -> Self {
        match write {
            Write::Apply(object, uid) => Self::Apply(object.to_string().into(), uid),
            Write::Status(object) => Self::Status(object.to_string().into()),
            Write::Delete(uid) => Self::Delete(uid),
        }
    }
}

impl From<Packed> for Write {
    fn from(packed: Packed) -> Self {
        match packed {
            Packed::Apply(text, uid) => Self::Apply(value(&text), uid),
            Packed::Status(text) => Self::Status(value(&text)),
            Packed::Delete(uid) => Self::Delete(uid),
        }
    }
}

/// What we wrote ourselves can be read. Were it not so, the API server would refuse what is empty, and its words would be told.
fn value(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_write_is_the_same_after_it_waited() {
        let object = json!({ "a": [1, "\u{1F980} \"x\"", null, { "b": 1.5 }], "c": {} });
        for write in [
            Write::Apply(object.clone(), None),
            Write::Apply(object.clone(), Some("u".to_owned())),
            Write::Status(object),
            Write::Delete("u".to_owned()),
        ] {
            assert_eq!(Write::from(Packed::from(write.clone())), write);
        }
    }
}
