//! One write to the Kubernetes API, on behalf of imports and exports.

use std::time::Duration;

use carrick_crds::{ServiceExport, ServiceImport};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Client;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, Preconditions};
use serde_json::Value;

use super::names::{MANAGER, STATUS_MANAGER, derived};
use super::plan::{Write, shows};
use super::queue::Key;
use super::render::What;
use crate::brief::Brief;

/// What the API server says of an object that is not valid.
const INVALID: u16 = 422;

/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a write failed.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The API server said so.
    #[error("{}", Brief(.0))]
    Api(#[from] kube::Error),
    /// It said nothing.
    #[error("no answer within {} s", PATIENCE.as_secs())]
    Silence,
    /// There is nothing any more whose status it would be, as where a namespace ends; the watch is about to say so.
    #[error("it is gone")]
    Gone,
    /// It took the write and has something else.
    #[error("something changes it at once to what it was")]
    Changed,
}

/// Writes, and gives the object as it is then; `None` when it is gone.
///
/// # Errors
/// When the API server refuses, does not answer, or has something else afterwards.
pub async fn write(
    client: &Client,
    key: &Key,
    write: &Write,
) -> Result<Option<DynamicObject>, WriteError> {
    let done = tokio::time::timeout(PATIENCE, attempt(client, key, write)).await;
    done.unwrap_or(Err(WriteError::Silence))
}

/// The kind of an object, as the API's path and our metrics name it.
pub fn kind(what: &What) -> &'static str {
    match what {
        What::Derived => "services",
        What::Slice(_) => "endpointslices",
        What::Import => "serviceimports",
        What::ImportStatus => "serviceimports/status",
        What::ExportStatus => "serviceexports/status",
    }
}

async fn attempt(
    client: &Client,
    key: &Key,
    write: &Write,
) -> Result<Option<DynamicObject>, WriteError> {
    let (api, name) = place(client, key);
    match write {
        Write::Apply(object, uid) => apply(&api, &name, object, uid.as_deref()).await.map(Some),
        Write::Status(object) => {
            let params = PatchParams::apply(STATUS_MANAGER).force();
            match api.patch_status(&name, &params, &Patch::Apply(object)).await {
                Err(kube::Error::Api(status)) if status.is_not_found() => Err(WriteError::Gone),
                done => Ok(Some(done?)),
            }
        }
        Write::Delete(uid) => {
            let only = Preconditions { uid: Some(uid.clone()), resource_version: None };
            let params = DeleteParams { preconditions: Some(only), ..DeleteParams::default() };
            match api.delete(&name, &params).await {
                Ok(_) => Ok(None),
                Err(kube::Error::Api(status)) if status.is_not_found() => Ok(None),
                Err(error) => Err(error.into()),
            }
        }
    }
}

async fn apply(
    api: &Api<DynamicObject>,
    name: &str,
    object: &Value,
    uid: Option<&str>,
) -> Result<DynamicObject, WriteError> {
    let mut object = object.clone();
    let mut params = PatchParams::apply(MANAGER);
    if let Some(uid) = uid {
        // What is ours is restored whoever changed it; but another object of this name is not meant.
        object["metadata"]["uid"] = uid.into();
        params = params.force();
    }
    match api.patch(name, &params, &Patch::Apply(&object)).await {
        Ok(applied) if is_so(&object, &applied) => return Ok(applied),
        Ok(_) => {}
        // Ours and theirs together may not even be valid, such as two ports of one name.
        Err(kube::Error::Api(status)) if uid.is_some() && status.code == INVALID => {}
        Err(error) => return Err(error.into()),
    }
    // Somebody added to a list what is now theirs, and stays in spite of an apply: the whole list is replaced.
    let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    let merged = api.patch(name, &params, &Patch::Merge(&object)).await?;
    if is_so(&object, &merged) { Ok(merged) } else { Err(WriteError::Changed) }
}

fn is_so(wanted: &Value, found: &DynamicObject) -> bool {
    serde_json::to_value(found).is_ok_and(|found| shows(wanted, &found))
}

/// Where the object is.
fn place(client: &Client, key: &Key) -> (Api<DynamicObject>, String) {
    let (resource, name) = match &key.what {
        What::Derived => (ApiResource::erase::<Service>(&()), derived(&key.service)),
        What::Slice(name) => (ApiResource::erase::<EndpointSlice>(&()), name.clone()),
        What::Import | What::ImportStatus => {
            (ApiResource::erase::<ServiceImport>(&()), key.service.name().to_owned())
        }
        What::ExportStatus => {
            (ApiResource::erase::<ServiceExport>(&()), key.service.name().to_owned())
        }
    };
    (Api::namespaced_with(client.clone(), key.service.namespace(), &resource), name)
}
