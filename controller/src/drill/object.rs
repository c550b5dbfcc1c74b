//! A FailoverDrill as the API has it, readable even when its spec is not.

use carrick_crds::{FailoverDrillSpec, FailoverDrillStatus};
use jiff::Timestamp;
use kube::api::DynamicObject;

use crate::object::Object;

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
        let deleting = object.metadata.deletion_timestamp.is_some();
        let Object { name, uid, created, spec, status } = object.into();
        Self { name, uid, deleting, created, spec, status }
    }
}
