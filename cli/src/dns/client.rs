//! Requests about a cluster's DNS.

use futures::join;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use k8s_openapi::api::core::v1::{ConfigMap, PodTemplateSpec};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, CustomResourceExt as _, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::found::{COREFILE, Dns, Workload};
use super::plan::{Act, DnsError, Plan};
use super::rights::{self, NAME};
use crate::connect::Cluster;
use crate::fetch::failed;
use crate::parts::Count;
use crate::state::Fetched;

/// The HTTP status of a write that was meant for another state of the object.
const CONFLICT: u16 = 409;

/// Looks at everything that `carrick dns` is about.
pub async fn find(cluster: &Cluster, namespace: &str, configmap: &str) -> Dns {
    let (map, workloads, kind_served, role, binding) = join!(
        get_configmap(cluster, namespace, configmap),
        workloads(cluster, namespace, configmap),
        kind_served(cluster),
        get::<ClusterRole>(cluster),
        get::<ClusterRoleBinding>(cluster),
    );
    let may_read = may_read(cluster, namespace, workloads.as_deref().unwrap_or_default()).await;
    Dns {
        namespace: namespace.to_owned(),
        configmap_name: configmap.to_owned(),
        configmap: map,
        workloads,
        kind_served,
        may_read,
        role,
        binding,
    }
}

async fn get_configmap(
    cluster: &Cluster,
    namespace: &str,
    name: &str,
) -> Fetched<Option<ConfigMap>> {
    let api = Api::<ConfigMap>::namespaced(cluster.client.clone(), namespace);
    let what = format!("get configmaps in the namespace {namespace}");
    api.get_opt(name).await.map_err(|error| failed(cluster, &what, &error))
}

async fn get<K>(cluster: &Cluster) -> Fetched<Option<K>>
where
    K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
{
    let what = format!("get {}.rbac.authorization.k8s.io {NAME}", K::plural(&()));
    let found = Api::<K>::all(cluster.client.clone()).get_opt(NAME).await;
    found.map_err(|error| failed(cluster, &what, &error))
}

async fn workloads(cluster: &Cluster, namespace: &str, configmap: &str) -> Fetched<Vec<Workload>> {
    let all = ListParams::default();
    let deployments = Api::<Deployment>::namespaced(cluster.client.clone(), namespace);
    let daemonsets = Api::<DaemonSet>::namespaced(cluster.client.clone(), namespace);
    let (deployments, daemonsets) = join!(deployments.list(&all), daemonsets.list(&all));
    let what = |plural: &str| format!("list {plural} in the namespace {namespace}");
    let deployments = deployments.map_err(|e| failed(cluster, &what("deployments"), &e))?;
    let daemonsets = daemonsets.map_err(|e| failed(cluster, &what("daemonsets"), &e))?;
    let of_deployment = |object: &Deployment| {
        let spec = object.spec.as_ref()?;
        let ready = object.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0);
        let count = Count { ready, wanted: spec.replicas.unwrap_or(1) };
        workload("Deployment", object.name_any(), &spec.template, configmap, count)
    };
    let of_daemonset = |object: &DaemonSet| {
        let status = object.status.as_ref();
        let wanted = status.map_or(0, |status| status.desired_number_scheduled);
        let count = Count { ready: status.map_or(0, |status| status.number_ready), wanted };
        let template = &object.spec.as_ref()?.template;
        workload("DaemonSet", object.name_any(), template, configmap, count)
    };
    let found = deployments.items.iter().filter_map(of_deployment);
    Ok(found.chain(daemonsets.items.iter().filter_map(of_daemonset)).collect())
}

/// A workload, if its pods mount the ConfigMap.
fn workload(
    kind: &'static str,
    name: String,
    template: &PodTemplateSpec,
    configmap: &str,
    ready: Count,
) -> Option<Workload> {
    let spec = template.spec.as_ref()?;
    let mounts = |volume: &k8s_openapi::api::core::v1::Volume| {
        let direct = volume.config_map.as_ref().is_some_and(|map| map.name == configmap);
        let sources = volume.projected.as_ref().and_then(|p| p.sources.as_ref());
        let projected = sources.into_iter().flatten().filter_map(|s| s.config_map.as_ref());
        direct || projected.into_iter().any(|map| map.name == configmap)
    };
    if !spec.volumes.iter().flatten().any(mounts) {
        return None;
    }
    let images = || spec.containers.iter().filter_map(|container| container.image.clone());
    let image = images().find(|image| image.contains("coredns")).or_else(|| images().next());
    let account = spec.service_account_name.clone().filter(|name| !name.is_empty());
    Some(Workload {
        kind,
        name,
        service_account: account.unwrap_or_else(|| "default".to_owned()),
        image: image.unwrap_or_default(),
        ready,
    })
}

async fn kind_served(cluster: &Cluster) -> Fetched<bool> {
    let api = Api::<CustomResourceDefinition>::all(cluster.client.clone());
    let found = api
        .get_opt(carrick_crds::ServiceImport::crd_name())
        .await
        .map_err(|e| failed(cluster, "get customresourcedefinitions.apiextensions.k8s.io", &e))?;
    let serves = |crd: &CustomResourceDefinition| {
        let versions = crd.spec.versions.iter();
        versions.into_iter().any(|v| v.name == carrick_crds::service::SERVED && v.served)
    };
    Ok(found.is_some_and(|crd| serves(&crd)))
}

async fn may_read(
    cluster: &Cluster,
    namespace: &str,
    workloads: &[Workload],
) -> Fetched<Vec<bool>> {
    let api = Api::<SubjectAccessReview>::all(cluster.client.clone());
    let mut answers = Vec::new();
    for workload in workloads {
        let review = review(namespace, &workload.service_account);
        let answer = api.create(&PostParams::default(), &review).await.map_err(|error| {
            failed(cluster, "create subjectaccessreviews.authorization.k8s.io", &error)
        })?;
        answers.push(answer.status.is_some_and(|status| status.allowed));
    }
    Ok(answers)
}

/// May the account watch ServiceImports everywhere?
fn review(namespace: &str, account: &str) -> SubjectAccessReview {
    let groups = [
        "system:authenticated".to_owned(),
        "system:serviceaccounts".to_owned(),
        format!("system:serviceaccounts:{namespace}"),
    ];
    SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(format!("system:serviceaccount:{namespace}:{account}")),
            groups: Some(groups.into()),
            resource_attributes: Some(ResourceAttributes {
                group: Some(carrick_crds::service::GROUP.to_owned()),
                resource: Some("serviceimports".to_owned()),
                verb: Some("watch".to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    }
}

/// Carries out a plan. Rights come before the Corefile that needs them, and go after it: a CoreDNS that starts with the
/// zone and without the rights does not become ready.
pub async fn apply(cluster: &Cluster, dns: &Dns, plan: &Plan) -> Result<(), DnsError> {
    let before = [plan.role, plan.binding].map(|act| act != Act::Delete);
    rights(cluster, dns, plan, before).await?;
    if let Some((_, new)) = &plan.corefile {
        write_corefile(cluster, dns, new).await?;
    }
    rights(cluster, dns, plan, before.map(|before| !before)).await
}

async fn rights(cluster: &Cluster, dns: &Dns, plan: &Plan, now: [bool; 2]) -> Result<(), DnsError> {
    if now[0] {
        write(cluster, plan.role, rights::role(), version(&dns.role)).await?;
    }
    if now[1] {
        write(cluster, plan.binding, rights::binding(dns), version(&dns.binding)).await?;
    }
    Ok(())
}

fn version<K: kube::Resource>(found: &Fetched<Option<K>>) -> Option<String> {
    found.as_ref().ok()?.as_ref()?.resource_version()
}

async fn write<K>(
    cluster: &Cluster,
    act: Act,
    mut wanted: K,
    version: Option<String>,
) -> Fetched<()>
where
    K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + Serialize,
{
    let api = Api::<K>::all(cluster.client.clone());
    let (verb, done) = match act {
        Act::Keep => return Ok(()),
        Act::Make => ("create", api.create(&PostParams::default(), &wanted).await.map(drop)),
        Act::Rewrite => {
            wanted.meta_mut().resource_version = version;
            ("update", api.replace(NAME, &PostParams::default(), &wanted).await.map(drop))
        }
        Act::Delete => ("delete", api.delete(NAME, &DeleteParams::default()).await.map(drop)),
    };
    let what = format!("{verb} {}.rbac.authorization.k8s.io {NAME}", K::plural(&()));
    done.map_err(|error| failed(cluster, &what, &error))
}

/// Writes the Corefile, unless the ConfigMap is another one by now.
async fn write_corefile(cluster: &Cluster, dns: &Dns, new: &str) -> Result<(), DnsError> {
    let api = Api::<ConfigMap>::namespaced(cluster.client.clone(), &dns.namespace);
    let change = json!({
        "metadata": { "resourceVersion": version(&dns.configmap) },
        "data": { COREFILE: new },
    });
    let params = PatchParams::default();
    match api.patch(&dns.configmap_name, &params, &Patch::Merge(&change)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == CONFLICT => {
            Err(DnsError::Conflict { place: dns.place() })
        }
        Err(error) => {
            let what = format!("patch the {}", dns.place());
            Err(failed(cluster, &what, &error).into())
        }
    }
}

/// Restarts a workload as `kubectl rollout restart` does.
pub async fn restart(cluster: &Cluster, dns: &Dns, workload: &Workload) -> Fetched<()> {
    let now = jiff::Timestamp::now().to_string();
    let annotation = json!({ "kubectl.kubernetes.io/restartedAt": now });
    let change = json!({ "spec": { "template": { "metadata": { "annotations": annotation } } } });
    let (change, params) = (Patch::Merge(&change), PatchParams::default());
    let client = cluster.client.clone();
    let name = &workload.name;
    let done = match workload.kind {
        "DaemonSet" => {
            let api = Api::<DaemonSet>::namespaced(client, &dns.namespace);
            api.patch(name, &params, &change).await.map(drop)
        }
        _ => {
            let api = Api::<Deployment>::namespaced(client, &dns.namespace);
            api.patch(name, &params, &change).await.map(drop)
        }
    };
    let what = format!("restart {} {}/{name}", workload.kind, dns.namespace);
    done.map_err(|error| failed(cluster, &what, &error))
}

#[cfg(test)]
mod tests;
