//! What gateways and agents trust: the ConfigMap `carrick-trust`, mounted into their pods.

use std::collections::BTreeMap;

use carrick_model::{ClusterId, IdentityKey};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;
use kube::api::{Api, ObjectMeta, Patch, PatchParams};

/// The ConfigMap's name.
pub const NAME: &str = "carrick-trust";

/// Who writes it, for server-side apply.
const MANAGER: &str = "carrick-controller/trust";

/// Writes the ConfigMap unless it says the same already. Returns whether it was written.
pub async fn ensure(
    client: &Client,
    namespace: &str,
    cluster: &ClusterId,
    identities: &[IdentityKey],
) -> Result<bool, kube::Error> {
    let api = Api::<ConfigMap>::namespaced(client.clone(), namespace);
    let data = content(cluster, identities);
    let held = api.get_opt(NAME).await?.and_then(|map| map.data).unwrap_or_default();
    if data.iter().all(|(key, value)| held.get(key) == Some(value)) {
        return Ok(false);
    }
    let wanted = ConfigMap {
        metadata: ObjectMeta {
            name: Some(NAME.to_owned()),
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        data: Some(data),
        ..ConfigMap::default()
    };
    api.patch(NAME, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&wanted)).await?;
    Ok(true)
}

fn content(cluster: &ClusterId, identities: &[IdentityKey]) -> BTreeMap<String, String> {
    let keys: Vec<String> = identities.iter().map(ToString::to_string).collect();
    BTreeMap::from([
        ("cluster-id".to_owned(), cluster.to_string()),
        ("identities".to_owned(), format!("{}\n", keys.join("\n"))),
    ])
}
