//! A ClusterPeering as the API has it, readable even when its spec is not.

use carrick_crds::{ClusterPeeringSpec, ClusterPeeringStatus};
use jiff::Timestamp;
use kube::api::DynamicObject;

use crate::object::Object;

/// A ClusterPeering. One whose spec cannot be read stays an object, so that its status can say so.
#[derive(Debug, Clone, PartialEq)]
pub struct PeeringObject {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Its `metadata.generation`.
    pub generation: Option<i64>,
    /// When it was made: the older of two for one peer stays.
    pub created: Timestamp,
    /// What the operator wrote, or why it cannot be read.
    pub spec: Result<ClusterPeeringSpec, String>,
    /// What was last written about it.
    pub status: ClusterPeeringStatus,
}

impl From<DynamicObject> for PeeringObject {
    fn from(object: DynamicObject) -> Self {
        let generation = object.metadata.generation;
        let Object { name, uid, created, spec, status } = object.into();
        Self { name, uid, generation, created, spec, status }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unreadable_spec_keeps_the_object() {
        let object: DynamicObject = serde_json::from_value(serde_json::json!({
            "apiVersion": "carrick.dev/v1alpha1",
            "kind": "ClusterPeering",
            "metadata": {"name": "osaka", "uid": "u", "generation": 3},
            "spec": {"clusterID": 7},
            "status": {"conditions": "nonsense"},
        }))
        .expect("object");
        let peering = PeeringObject::from(object);
        assert_eq!((peering.name.as_str(), peering.generation), ("osaka", Some(3)));
        assert!(peering.spec.expect_err("spec").starts_with("spec: "));
        assert_eq!(peering.status, ClusterPeeringStatus::default());
    }
}
