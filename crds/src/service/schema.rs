//! What makes the derived schemas those of mcs-api: nothing is nullable, nothing has a default, `spec` may be
//! left out, and conditions are checked as Kubernetes checks its own.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use super::{RELEASE, SERVED, STORED};

/// A list of conditions. The reason may have commas: several conflicts are joined by them.
pub(super) fn conditions(_: &mut SchemaGenerator) -> Schema {
    let type_pattern = "^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?\
                        (([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$";
    json_schema!({
        "description": "What is so, by type.",
        "type": "array",
        "items": {
            "description": "One thing that is so, or is not.",
            "type": "object",
            "required": ["lastTransitionTime", "message", "reason", "status", "type"],
            "properties": {
                "lastTransitionTime": {
                    "description": "When its status changed last.",
                    "type": "string", "format": "date-time",
                },
                "message": { "description": "Why, for people.", "type": "string", "maxLength": 32768 },
                "observedGeneration": {
                    "description": "The metadata.generation that it is about.",
                    "type": "integer", "format": "int64", "minimum": 0,
                },
                "reason": {
                    "description": "Why, for programs.",
                    "type": "string", "maxLength": 1024, "minLength": 1,
                    "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
                },
                "status": {
                    "description": "Whether it is so.",
                    "type": "string", "enum": ["True", "False", "Unknown"],
                },
                "type": {
                    "description": "What it is about.",
                    "type": "string", "maxLength": 316, "pattern": type_pattern,
                },
            },
        },
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
    })
}

/// The definition with the schema as mcs-api has it.
pub(crate) fn as_upstream(
    crd: CustomResourceDefinition,
) -> Result<CustomResourceDefinition, serde_json::Error> {
    let mut value = serde_json::to_value(crd)?;
    if let Some(versions) = value["spec"]["versions"].as_array_mut() {
        for version in versions {
            let root = &mut version["schema"]["openAPIV3Schema"];
            plain(root);
            if let Some(root) = root.as_object_mut() {
                root.remove("required");
                let properties = root.entry("properties").or_insert_with(|| json!({}));
                properties["apiVersion"] = json!({ "type": "string" });
                properties["kind"] = json!({ "type": "string" });
                properties["metadata"] = json!({ "type": "object" });
            }
        }
    }
    value["metadata"]["labels"] = json!({
        "multicluster.x-k8s.io/release-version": RELEASE,
        "multicluster.x-k8s.io/crd-schema-revision": "0",
    });
    serde_json::from_value(value)
}

/// Takes out of a schema what a Rust type says and a Go type does not.
fn plain(schema: &mut Value) {
    let Some(fields) = schema.as_object_mut() else { return };
    for word in ["nullable", "default", "title"] {
        fields.remove(word);
    }
    if let Some(Value::Array(words)) = fields.get_mut("enum") {
        words.retain(|word| !word.is_null());
    }
    for inside in ["items", "additionalProperties"] {
        fields.get_mut(inside).into_iter().for_each(plain);
    }
    let properties = fields.get_mut("properties").and_then(Value::as_object_mut);
    properties.into_iter().flat_map(Map::values_mut).for_each(plain);
}

/// The definition with the older version beside the stored one.
pub(crate) fn both_versions(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    let versions = &mut crd.spec.versions;
    if let Some(stored) = versions.iter().find(|version| version.name == STORED).cloned() {
        let mut older = stored;
        older.name = SERVED.to_owned();
        (older.served, older.storage) = (true, false);
        versions.insert(0, older);
    }
    crd
}
