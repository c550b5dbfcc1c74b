//! A write as it waits: its object as text, of which ten thousands may wait. A tree of values takes ten times as much.

use crate::services::plan::Write;

/// A write whose object is text.
pub type Packed = Write<Box<str>>;

/// As it waits.
pub fn pack(write: Write) -> Packed {
    write.map(|object| object.to_string().into())
}

/// As it was. What we wrote ourselves can be read; were it not so, the API server would refuse what is empty, and its words would be
/// told.
pub fn unpack(packed: Packed) -> Write {
    packed.map(|text| serde_json::from_str(&text).unwrap_or_default())
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
            assert_eq!(unpack(pack(write.clone())), write);
        }
    }
}
