//! Reads what is in a cluster. Nothing is written, and one failed request doesn't spoil the others.

use std::fmt::Debug;

use carrick_crds::{ClusterIdentity, ClusterPeering, IDENTITY_NAME};
use futures::join;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DynamicObject, ListParams};
use kube::{Api, CustomResourceExt as _, ResourceExt as _};
use serde::de::DeserializeOwned;

use crate::causes;
use crate::connect::Cluster;
use crate::parts;
use crate::state::{FetchError, FetchErrorKind, Fetched, Listed, State};

/// The namespace when none is named and none is found.
const DEFAULT_NAMESPACE: &str = "carrick-system";

/// Everything that `status` and `check` look at.
pub async fn state(cluster: &Cluster) -> State {
    let client = &cluster.client;
    let namespace = namespace(cluster).await;
    let pods = Api::<Pod>::namespaced(client.clone(), &namespace);
    let ours = ListParams::default().labels("app.kubernetes.io/name=carrick");
    let (version, missing_kinds, controller, lease, gateways, agents, pods, identity, peerings) = join!(
        client.apiserver_version(),
        missing_kinds(cluster),
        optional(cluster, &namespace, parts::CONTROLLER),
        optional(cluster, &namespace, parts::CONTROLLER),
        optional(cluster, &namespace, parts::GATEWAY),
        optional(cluster, &namespace, parts::AGENT),
        pods.list(&ours),
        identity(cluster),
        peerings(cluster),
    );
    State {
        server: cluster.server.clone(),
        version: version
            .map(|info| info.git_version)
            .map_err(|e| failed(cluster, "read the version", &e)),
        missing_kinds,
        controller,
        lease,
        gateways,
        agents,
        pods: pods
            .map(|list| list.items)
            .map_err(|e| failed(cluster, &format!("list pods in the namespace {namespace}"), &e)),
        identity,
        peerings,
        namespace,
    }
}

/// ClusterIdentity `self`.
pub async fn identity(cluster: &Cluster) -> Fetched<Option<ClusterIdentity>> {
    let api = Api::<ClusterIdentity>::all(cluster.client.clone());
    match api.get_opt(IDENTITY_NAME).await {
        Ok(found) => Ok(found),
        Err(error) => Err(failed(cluster, "get clusteridentities.carrick.dev", &error)),
    }
}

async fn peerings(cluster: &Cluster) -> Fetched<Vec<Listed>> {
    let kind = ApiResource::erase::<ClusterPeering>(&());
    let api = Api::<DynamicObject>::all_with(cluster.client.clone(), &kind);
    let list = api
        .list(&ListParams::default())
        .await
        .map_err(|e| failed(cluster, "list clusterpeerings.carrick.dev", &e))?;
    let mut found: Vec<Listed> = list.items.into_iter().map(listed).collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

fn listed(object: DynamicObject) -> Listed {
    let name = object.name_any();
    let typed = serde_json::to_value(&object).and_then(serde_json::from_value::<ClusterPeering>);
    Listed { name, object: typed.map(Box::new).map_err(|error| error.to_string()) }
}

async fn missing_kinds(cluster: &Cluster) -> Fetched<Vec<String>> {
    let api = Api::<CustomResourceDefinition>::all(cluster.client.clone());
    let mut missing = Vec::new();
    for wanted in [ClusterIdentity::crd_name(), ClusterPeering::crd_name()] {
        let found = api.get_opt(wanted).await.map_err(|e| {
            failed(cluster, "get customresourcedefinitions.apiextensions.k8s.io", &e)
        })?;
        let served = found.is_some_and(|crd| established(&crd));
        if !served {
            missing.push(wanted.to_owned());
        }
    }
    Ok(missing)
}

fn established(crd: &CustomResourceDefinition) -> bool {
    let conditions = crd.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|c| c.type_ == "Established" && c.status == "True")
}

async fn optional<K>(cluster: &Cluster, namespace: &str, name: &str) -> Fetched<Option<K>>
where
    K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Debug
        + DeserializeOwned,
{
    let api = Api::<K>::namespaced(cluster.client.clone(), namespace);
    api.get_opt(name).await.map_err(|error| {
        let what = format!("get {} in the namespace {namespace}", K::plural(&()));
        failed(cluster, &what, &error)
    })
}

/// The namespace that the person named, else the one with our controller, else the usual one.
async fn namespace(cluster: &Cluster) -> String {
    if let Some(named) = &cluster.namespace {
        return named.clone();
    }
    let api = Api::<Deployment>::all(cluster.client.clone());
    let ours = ListParams::default().fields(&format!("metadata.name={}", parts::CONTROLLER));
    let found = api.list(&ours).await.ok().and_then(|list| list.items.into_iter().next());
    // Who may not list deployments everywhere still sees the usual namespace.
    found.and_then(|d| d.metadata.namespace).unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned())
}

/// What a request that failed says.
pub fn failed(cluster: &Cluster, what: &str, error: &kube::Error) -> FetchError {
    let (kind, message) = match error {
        kube::Error::Api(status) => (kind_of(status.code), status.message.clone()),
        other => (FetchErrorKind::Unreachable, causes::join(other)),
    };
    FetchError { what: what.to_owned(), server: cluster.server.clone(), kind, message }
}

fn kind_of(code: u16) -> FetchErrorKind {
    match code {
        401 => FetchErrorKind::Unauthorized,
        403 => FetchErrorKind::Forbidden,
        404 => FetchErrorKind::KindMissing,
        _ => FetchErrorKind::Other,
    }
}

#[cfg(test)]
mod tests;
