//! A FailoverDrill as the API has it, readable even when its spec is not.

use carrick_crds::{FailoverDrillSpec, FailoverDrillStatus};
use jiff::Timestamp;
use kube::api::DynamicObject;

/// A FailoverDrill.
#[derive(Debug, Clone, PartialEq)]
pub struct DrillObject {
    /// Its name.
    pub name: String,
    /// Its UID: members know the drill by it.
    pub uid: String,
    /// When it was made: the oldest goes first.
    pub created: Timestamp,
    /// It is being deleted.
    pub deleting: bool,
    /// What the operator wrote, or why it cannot be read.
    pub spec: Result<FailoverDrillSpec, String>,
    /// What was last written about it.
    pub status: FailoverDrillStatus,
}

impl From<DynamicObject> for DrillObject {
    fn from(object: DynamicObject) -> Self {
        let mut data = object.data;
        let spec = data.get_mut("spec").map(serde_json::Value::take).unwrap_or_default();
        let status = data.get_mut("status").map(serde_json::Value::take).unwrap_or_default();
        let created = object.metadata.creation_timestamp.map(|time| time.0);
        Self {
            name: object.metadata.name.unwrap_or_default(),
            uid: object.metadata.uid.unwrap_or_default(),
            created: created.unwrap_or(Timestamp::UNIX_EPOCH),
            deleting: object.metadata.deletion_timestamp.is_some(),
            spec: serde_json::from_value(spec).map_err(|error| format!("spec: {error}")),
            status: serde_json::from_value(status).unwrap_or_default(),
        }
    }
}
