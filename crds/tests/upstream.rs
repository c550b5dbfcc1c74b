//! ServiceExport and ServiceImport are those of mcs-api, field by field: fetched by Go, as the clusters' parts are.

use std::path::PathBuf;
use std::process::Command;

use carrick_crds::service::RELEASE;
use serde_json::{Map, Value, json};

/// What the module must be: its checksum, as in a go.sum.
const SUM: &str = "h1:N+vrRiCIb0WJ0dxbBo7VfNv2WJigOHEo4gsLXpffVs8=";

/// The module's folder.
fn module() -> PathBuf {
    let module = format!("sigs.k8s.io/mcs-api@{RELEASE}");
    let mut go = Command::new("go");
    go.args(["mod", "download", "-json", &module]).current_dir(std::env::temp_dir());
    let output = go.output().expect("go runs (it is needed for the clusters' parts as well)");
    let said: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    assert_eq!(said["Sum"], SUM, "{said} {}", String::from_utf8_lossy(&output.stderr));
    PathBuf::from(said["Dir"].as_str().expect("a folder"))
}

fn upstream(plural: &str) -> Value {
    let file = format!("config/crd/multicluster.x-k8s.io_{plural}.yaml");
    let text = std::fs::read_to_string(module().join(file)).expect("the definition");
    serde_yaml::from_str(&text).expect("YAML")
}

/// Without what is words for people, and without Helm's annotation.
fn bare(mut value: Value) -> Value {
    fn strip(value: &mut Value, is_map: bool) {
        match value {
            Value::Object(fields) => {
                // A property may be called "description": only a text is one.
                if !is_map && fields.get("description").is_some_and(Value::is_string) {
                    fields.remove("description");
                }
                for (name, inside) in fields.iter_mut() {
                    strip(inside, !is_map && name == "properties");
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| strip(item, false)),
            _ => {}
        }
    }
    strip(&mut value, false);
    if let Some(metadata) = value["metadata"].as_object_mut() {
        metadata.remove("annotations");
    }
    value
}

/// Every difference, by its path.
fn differences(path: &str, ours: &Value, theirs: &Value, out: &mut Vec<String>) {
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => {
            let all: Map<String, Value> = a.clone().into_iter().chain(b.clone()).collect();
            for name in all.keys() {
                let at = |side: &Map<String, Value>| side.get(name).cloned().unwrap_or_default();
                differences(&format!("{path}.{name}"), &at(a), &at(b), out);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (i, (a, b)) in a.iter().zip(b).enumerate() {
                differences(&format!("{path}[{i}]"), a, b, out);
            }
        }
        // 0 and 0.0 are one number to YAML.
        (Value::Number(a), Value::Number(b)) if a.as_f64() == b.as_f64() => {}
        _ if ours != theirs => out.push(format!("{path}: ours {ours}, theirs {theirs}")),
        _ => {}
    }
}

#[test]
fn every_field_is_as_in_mcs_api() {
    for (file, crd) in carrick_crds::generate::services().expect("definitions") {
        let ours = bare(serde_json::to_value(crd).expect("JSON"));
        let theirs = bare(upstream(file.trim_end_matches(".yaml")));
        let mut found = Vec::new();
        differences("", &ours, &theirs, &mut found);
        assert!(found.is_empty(), "{file}:\n{}", found.join("\n"));
    }
}

#[test]
fn differences_are_found() {
    let (one, other) = (json!({"a": {"b": [1, 2]}, "c": 3}), json!({"a": {"b": [1, 4]}, "d": 3}));
    let mut found = Vec::new();
    differences("", &one, &other, &mut found);
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found[0].starts_with(".a.b[1]: ours 2, theirs 4"), "{found:?}");
}
