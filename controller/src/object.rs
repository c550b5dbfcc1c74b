//! Objects of ours as the API has them, readable even when their spec is not.

use jiff::Timestamp;
use kube::api::DynamicObject;
use serde::de::DeserializeOwned;

/// What all kinds have.
pub(crate) struct Object<S, T> {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// When it was made.
    pub created: Timestamp,
    /// What the operator wrote, or why it cannot be read.
    pub spec: Result<S, String>,
    /// What was last written about it. One that cannot be read is as if it were not there, and is written
    /// anew.
    pub status: T,
}

impl<S: DeserializeOwned, T: DeserializeOwned + Default> From<DynamicObject> for Object<S, T> {
    fn from(object: DynamicObject) -> Self {
        let mut data = object.data;
        let mut part = |name| data.get_mut(name).map(serde_json::Value::take).unwrap_or_default();
        let (spec, status) = (part("spec"), part("status"));
        let created = object.metadata.creation_timestamp.map(|time| time.0);
        Self {
            name: object.metadata.name.unwrap_or_default(),
            uid: object.metadata.uid.unwrap_or_default(),
            created: created.unwrap_or(Timestamp::UNIX_EPOCH),
            spec: serde_json::from_value(spec).map_err(|error| format!("spec: {error}")),
            status: serde_json::from_value(status).unwrap_or_default(),
        }
    }
}
