//! What was found of a cluster's DNS: plain data.

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::ResourceExt as _;

use crate::parts::Count;
use crate::state::Fetched;

/// The field of the ConfigMap that is the Corefile.
pub const COREFILE: &str = "Corefile";

/// A cluster's DNS.
#[derive(Debug, Clone)]
pub struct Dns {
    /// The namespace of CoreDNS.
    pub namespace: String,
    /// The name of its ConfigMap.
    pub configmap_name: String,
    /// Its ConfigMap.
    pub configmap: Fetched<Option<ConfigMap>>,
    /// What mounts the ConfigMap.
    pub workloads: Fetched<Vec<Workload>>,
    /// Whether ServiceImports are served in the version that CoreDNS reads.
    pub kind_served: Fetched<bool>,
    /// Whether each of the workloads may read ServiceImports, in their order.
    pub may_read: Fetched<Vec<bool>>,
    /// Our role.
    pub role: Fetched<Option<ClusterRole>>,
    /// Our binding.
    pub binding: Fetched<Option<ClusterRoleBinding>>,
}

impl Dns {
    /// The Corefile's text.
    pub fn corefile(&self) -> Option<&str> {
        let map = self.configmap.as_ref().ok()?.as_ref()?;
        map.data.as_ref()?.get(COREFILE).map(String::as_str)
    }

    /// The ConfigMap, for people.
    pub fn place(&self) -> String {
        format!("ConfigMap {}/{}", self.namespace, self.configmap_name)
    }

    /// Who else writes the ConfigMap, and may put back what was there.
    pub fn keeper(&self) -> Option<&'static str> {
        let map = self.configmap.as_ref().ok()?.as_ref()?;
        let labels = map.labels();
        let annotations = map.annotations();
        let reconciled =
            labels.get("addonmanager.kubernetes.io/mode").is_some_and(|m| m == "Reconcile");
        let helm = labels.get("app.kubernetes.io/managed-by").is_some_and(|by| by == "Helm");
        [
            (annotations.contains_key("objectset.rio.cattle.io/owner-name"), "k3s or RKE2"),
            (labels.keys().any(|key| key.starts_with("kubernetes.azure.com/")), "AKS"),
            (annotations.contains_key("argocd.argoproj.io/tracking-id"), "Argo CD"),
            (labels.contains_key("kustomize.toolkit.fluxcd.io/name"), "Flux"),
            (helm, "a Helm release"),
            (reconciled, "the addon manager"),
            (
                labels.contains_key("eks.amazonaws.com/component"),
                "the EKS add-on, when it is updated,",
            ),
        ]
        .into_iter()
        .find_map(|(is, who)| is.then_some(who))
    }
}

/// A Deployment or DaemonSet of CoreDNS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// `Deployment` or `DaemonSet`.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// The service account of its pods.
    pub service_account: String,
    /// The image of its container.
    pub image: String,
    /// How many pods are ready.
    pub ready: Count,
}
