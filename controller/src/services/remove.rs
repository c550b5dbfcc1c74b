//! Takes away all that was made for imports: before Carrick goes, and when services are no longer shared.

use std::time::Duration;

use anyhow::{Context as _, bail};
use carrick_crds::{ServiceExport, ServiceImport};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, Preconditions,
};
use kube::{Client, ResourceExt as _};
use serde_json::json;
use tracing::info;

use super::names::STATUS_MANAGER;
use super::plan::{Held, Kind};
use crate::brief::Brief;
use crate::options::WithdrawOptions;

/// So many objects come with one answer.
const PAGE: u32 = 500;

/// So many deletions are under way at a time.
const AT_ONCE: usize = 8;

/// How often it is looked for what a controller that has just ended may have written meanwhile.
const ROUNDS: usize = 5;

/// Why something is left.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// The API server refused.
    #[error("{what}: {}", Brief(.error))]
    Api {
        /// What was asked for.
        what: &'static str,
        /// What it said.
        error: Box<kube::Error>,
    },
    /// Each time there was something again.
    #[error("somebody makes imported services anew; does a controller of Carrick still run?")]
    Again,
}

/// `carrick-controller remove-services`: after an upgrade by which services are no longer shared.
///
/// # Errors
/// When something is left.
pub async fn remove_services(options: WithdrawOptions) -> anyhow::Result<()> {
    let client = Client::try_default().await.context("cannot find the Kubernetes API")?;
    let patience = Duration::from_secs(options.timeout_seconds);
    match tokio::time::timeout(patience, remove(&client)).await {
        Ok(removed) => info!(objects = removed?, "nothing of imported services is left"),
        Err(_) => bail!("imported services are not gone after {} s", patience.as_secs()),
    }
    Ok(())
}

/// Removes derived Services, EndpointSlices and ServiceImports that we made, and what we said of ServiceExports. What may not
/// be looked at was never shared. Gives how many objects went.
///
/// # Errors
/// When something is left.
pub async fn remove(client: &Client) -> Result<usize, RemoveError> {
    let mut removed = 0;
    for _ in 0..ROUNDS {
        let now = round(client).await?;
        if now == 0 {
            return Ok(removed);
        }
        removed += now;
    }
    Err(RemoveError::Again)
}

async fn round(client: &Client) -> Result<usize, RemoveError> {
    let services = ApiResource::erase::<Service>(&());
    let slices = ApiResource::erase::<EndpointSlice>(&());
    let imports = ApiResource::erase::<ServiceImport>(&());
    let mut removed = 0;
    for (what, kind, resource) in [
        ("services", Kind::Derived, services),
        ("endpointslices", Kind::Slice, slices),
        ("serviceimports", Kind::Import, imports),
    ] {
        let all = list(client, what, &resource).await?;
        let ours = |object: &DynamicObject| {
            let going = object.metadata.deletion_timestamp.is_some();
            !going && Held::read(object, kind).is_some_and(|(_, held)| held.ours)
        };
        let ours: Vec<DynamicObject> = all.into_iter().filter(ours).collect();
        removed += ours.len();
        let gone = ours.iter().map(|object| delete(client, what, &resource, object));
        stream::iter(gone).buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
    }
    silence(client).await?;
    Ok(removed)
}

/// All objects of a kind; none where there is no such kind, or no right to look at it.
async fn list(
    client: &Client,
    what: &'static str,
    resource: &ApiResource,
) -> Result<Vec<DynamicObject>, RemoveError> {
    let api = Api::<DynamicObject>::all_with(client.clone(), resource);
    let mut all = Vec::new();
    let mut page = ListParams::default().limit(PAGE);
    loop {
        let found = match api.list(&page).await {
            Ok(found) => found,
            Err(kube::Error::Api(status)) if status.is_not_found() || status.is_forbidden() => {
                return Ok(all);
            }
            Err(error) => return Err(RemoveError::Api { what, error: Box::new(error) }),
        };
        all.extend(found.items);
        match found.metadata.continue_.filter(|next| !next.is_empty()) {
            Some(next) => page = page.continue_token(&next),
            None => return Ok(all),
        }
    }
}

async fn delete(
    client: &Client,
    what: &'static str,
    resource: &ApiResource,
    object: &DynamicObject,
) -> Result<(), RemoveError> {
    let namespace = object.namespace().unwrap_or_default();
    let api = Api::<DynamicObject>::namespaced_with(client.clone(), &namespace, resource);
    let only = Preconditions { uid: object.uid(), resource_version: None };
    let params = DeleteParams { preconditions: Some(only), ..DeleteParams::default() };
    match api.delete(&object.name_any(), &params).await {
        Ok(_) => Ok(()),
        // It is gone, or another one has its name, which the next round looks at.
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(()),
        Err(error) => Err(RemoveError::Api { what, error: Box::new(error) }),
    }
}

/// Takes back what we said of ServiceExports.
async fn silence(client: &Client) -> Result<(), RemoveError> {
    const WHAT: &str = "serviceexports";
    let resource = ApiResource::erase::<ServiceExport>(&());
    let all = list(client, WHAT, &resource).await?;
    let spoken = |object: &&DynamicObject| {
        let said = object.data.pointer("/status/conditions").and_then(|list| list.as_array());
        said.is_some_and(|said| !said.is_empty())
    };
    for object in all.iter().filter(spoken) {
        let namespace = object.namespace().unwrap_or_default();
        let api = Api::<DynamicObject>::namespaced_with(client.clone(), &namespace, &resource);
        let nothing = json!({
            "apiVersion": resource.api_version, "kind": resource.kind,
            "metadata": { "name": object.name_any(), "uid": object.uid() },
            "status": { "conditions": [] },
        });
        let params = PatchParams::apply(STATUS_MANAGER).force();
        match api.patch_status(&object.name_any(), &params, &Patch::Apply(&nothing)).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => {}
            Err(error) => return Err(RemoveError::Api { what: WHAT, error: Box::new(error) }),
        }
    }
    Ok(())
}
