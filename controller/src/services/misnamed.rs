//! ServiceExports whose names no Service can have: they are told so, and nothing else is done about them.

use std::time::Duration;

use carrick_crds::ServiceExport;
use carrick_crds::service::GROUP;
use jiff::Timestamp;
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};
use tracing::warn;

use super::conditions::{Outcome, changed, of_export};
use super::discover::Unexportable;
use super::facts::ExportFacts;
use super::names::STATUS_MANAGER;
use crate::brief::Brief;

/// How often one is told that cannot be; afterwards it waits for its next change.
const ATTEMPTS: u32 = 5;

/// Before the second attempt; doubles with each.
const PAUSE: Duration = Duration::from_secs(1);

/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What to write for the ServiceExport `key`, `namespace/name`; `None` when it says so already.
pub fn verdict(key: &str, export: &ExportFacts, now: Timestamp) -> Option<Value> {
    let (namespace, name) = key.split_once('/')?;
    let said = of_export(Outcome {
        refused: Some(Unexportable::Misnamed),
        surplus: 0,
        obstacle: None,
        merged: None,
    });
    let conditions = changed(&said, &export.conditions, export.generation, now)?;
    Some(json!({
        "apiVersion": format!("{GROUP}/v1beta1"),
        "kind": "ServiceExport",
        "metadata": { "name": name, "namespace": namespace, "uid": export.uid },
        "status": { "conditions": conditions },
    }))
}

/// Writes it.
pub async fn tell(client: Client, object: Value) {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
    let (namespace, name) = (text("namespace"), text("name"));
    let kind = ApiResource::erase::<ServiceExport>(&());
    let api = Api::<DynamicObject>::namespaced_with(client, namespace, &kind);
    let params = PatchParams::apply(STATUS_MANAGER).force();
    let patch = Patch::Apply(&object);
    for attempt in 0..ATTEMPTS {
        let write = api.patch_status(name, &params, &patch);
        let failed = match tokio::time::timeout(PATIENCE, write).await {
            Ok(Ok(_)) => return,
            Ok(Err(kube::Error::Api(status))) if status.is_not_found() => return,
            Ok(Err(error)) => Brief(&error).to_string(),
            Err(_) => format!("no answer within {} s", PATIENCE.as_secs()),
        };
        warn!(namespace, name, failed, "cannot tell a ServiceExport that its name is no Service's");
        tokio::time::sleep(PAUSE * 2u32.pow(attempt)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_what_is_wrong_and_it_is_said_once() {
        let object = json!({ "metadata": { "name": "a.b", "uid": "u", "generation": 3 } });
        let object: DynamicObject = serde_json::from_value(object).expect("object");
        let mut export = ExportFacts::read(&object);
        let now = Timestamp::UNIX_EPOCH;
        let written = verdict("shop/a.b", &export, now).expect("news");
        assert_eq!(written["metadata"], json!({ "name": "a.b", "namespace": "shop", "uid": "u" }));
        let valid = &written["status"]["conditions"][0];
        assert_eq!((&valid["type"], &valid["status"]), (&json!("Valid"), &json!("False")));
        assert_eq!(valid["reason"], "NoService");
        assert!(valid["message"].as_str().is_some_and(|text| text.contains("RFC 1035")), "{valid}");
        let conditions = written["status"]["conditions"].clone();
        export.conditions = serde_json::from_value(conditions).expect("conditions");
        assert_eq!(verdict("shop/a.b", &export, now), None);
    }
}
