//! Requests about services of several clusters.

use std::collections::BTreeMap;
use std::fmt::Debug;

use carrick_crds::ServiceExport;
use carrick_crds::service::{POLICY, SERVICE_NAME, ServiceExportSpec};
use futures::join;
use k8s_openapi::api::core::v1::{Namespace, Service};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::core::NamespaceResourceScope;
use kube::{Api, ResourceExt as _};
use serde::de::DeserializeOwned;

use super::args::{ExportArgs, Pair};
use super::found::{ServiceError, Services};
use crate::connect::Cluster;
use crate::fetch::failed;
use crate::state::{FetchError, FetchErrorKind, Fetched};

/// What is exported and imported in a namespace, or in all.
pub async fn find(cluster: &Cluster, namespace: Option<&str>) -> Services {
    let all = ListParams::default();
    let derived = ListParams::default().labels(SERVICE_NAME);
    let (exports, imports, services, slices) = join!(
        list(cluster, namespace, &all),
        list(cluster, namespace, &all),
        list(cluster, namespace, &derived),
        list(cluster, namespace, &derived),
    );
    Services { exports, imports, derived: services, slices }
}

async fn list<K>(cluster: &Cluster, namespace: Option<&str>, which: &ListParams) -> Fetched<Vec<K>>
where
    K: kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Debug
        + DeserializeOwned,
{
    let client = cluster.client.clone();
    let (api, place) = match namespace {
        Some(namespace) => {
            (Api::<K>::namespaced(client, namespace), format!(" in the namespace {namespace}"))
        }
        None => (Api::all(client), String::new()),
    };
    let what = format!("list {}.{}{place}", K::plural(&()), K::group(&()));
    let list = api.list(which).await.map_err(|error| failed(cluster, &what, &error))?;
    Ok(list.items)
}

/// Whether a namespace is there.
pub async fn has_namespace(cluster: &Cluster, name: &str) -> Fetched<bool> {
    let api = Api::<Namespace>::all(cluster.client.clone());
    let what = format!("get namespaces {name:?}");
    let found = api.get_opt(name).await.map_err(|error| failed(cluster, &what, &error))?;
    Ok(found.is_some())
}

/// A Service.
pub async fn service(cluster: &Cluster, namespace: &str, name: &str) -> Fetched<Option<Service>> {
    let api = Api::<Service>::namespaced(cluster.client.clone(), namespace);
    let what = format!("get services {name:?} in the namespace {namespace}");
    api.get_opt(name).await.map_err(|error| failed(cluster, &what, &error))
}

/// Exports a Service, or changes what its imports get. Not by server-side apply, which leaves `spec: null` behind where the
/// last of its fields goes.
pub async fn export(
    cluster: &Cluster,
    namespace: &str,
    args: &ExportArgs,
) -> Result<(), ServiceError> {
    let api = Api::<ServiceExport>::namespaced(cluster.client.clone(), namespace);
    let what =
        |verb| format!("{verb} serviceexports.multicluster.x-k8s.io {namespace}/{}", args.name);
    let held = api.get_opt(&args.name).await.map_err(|e| failed(cluster, &what("get"), &e))?;
    let params = PostParams::default();
    let (verb, done) = match held {
        None => {
            let wanted = wanted(ServiceExport::new(&args.name, ServiceExportSpec::default()), args);
            ("create", api.create(&params, &wanted).await)
        }
        Some(held) => ("update", api.replace(&args.name, &params, &wanted(held, args)).await),
    };
    match done.map_err(|error| failed(cluster, &what(verb), &error)) {
        Ok(_) => Ok(()),
        Err(error) => Err(absent(cluster, namespace, error).await),
    }
}

/// An export as it is asked for. A policy that somebody wrote before stays unless another one is named.
fn wanted(mut export: ServiceExport, args: &ExportArgs) -> ServiceExport {
    let map = |pairs: &[Pair]| -> BTreeMap<String, String> {
        pairs.iter().map(|pair| (pair.key.clone(), pair.value.clone())).collect()
    };
    export.spec = ServiceExportSpec {
        exported_labels: map(&args.labels),
        exported_annotations: map(&args.annotations),
    };
    if let Some(policy) = &args.policy {
        export.annotations_mut().insert(POLICY.to_owned(), policy.to_string());
    }
    export
}

/// Of a kind that is missing and a namespace that is, the API server says the same code.
async fn absent(cluster: &Cluster, namespace: &str, error: FetchError) -> ServiceError {
    match error.kind {
        FetchErrorKind::KindMissing if has_namespace(cluster, namespace).await == Ok(false) => {
            ServiceError::NoNamespace(namespace.to_owned())
        }
        _ => error.into(),
    }
}

/// Exports a Service no longer.
pub async fn unexport(cluster: &Cluster, namespace: &str, name: &str) -> Result<(), ServiceError> {
    let api = Api::<ServiceExport>::namespaced(cluster.client.clone(), namespace);
    let what = format!("delete serviceexports.multicluster.x-k8s.io {namespace}/{name}");
    match api.delete(name, &DeleteParams::default()).await {
        Ok(_) => Ok(()),
        // By its reason the API server tells an object that is missing from a kind that is.
        Err(kube::Error::Api(status))
            if status.code == 404 && status.details.as_ref().is_some_and(|d| d.name == name) =>
        {
            Err(ServiceError::NotExported {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            })
        }
        Err(error) => Err(failed(cluster, &what, &error).into()),
    }
}

#[cfg(test)]
mod tests;
