//! A ClusterPeering as the API has it, readable even when its spec is not.

use carrick_crds::{ClusterPeeringSpec, ClusterPeeringStatus};
use jiff::Timestamp;
use kube::api::DynamicObject;

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
        let mut data = object.data;
        let spec = data.get_mut("spec").map(serde_json::Value::take).unwrap_or_default();
        let status = data.get_mut("status").map(serde_json::Value::take).unwrap_or_default();
        let created = object.metadata.creation_timestamp.map(|time| time.0);
        Self {
            name: object.metadata.name.unwrap_or_default(),
            uid: object.metadata.uid.unwrap_or_default(),
            generation: object.metadata.generation,
            created: created.unwrap_or(Timestamp::UNIX_EPOCH),
            spec: serde_json::from_value(spec).map_err(|error| format!("spec: {error}")),
            // A status that cannot be read is written anew.
            status: serde_json::from_value(status).unwrap_or_default(),
        }
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
