//! The right of CoreDNS to read ServiceImports: a role and a binding of our own.

use std::collections::BTreeMap;

use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, RoleRef, Subject};
use kube::ResourceExt as _;
use kube::api::ObjectMeta;

use super::found::Dns;

/// The name of both.
pub const NAME: &str = "carrick-dns";
/// The label by which they are known as ours, and its value.
const OURS: (&str, &str) = ("app.kubernetes.io/managed-by", "carrick-dns");

fn metadata() -> ObjectMeta {
    let labels =
        [("app.kubernetes.io/name", "carrick"), ("app.kubernetes.io/component", "dns"), OURS];
    let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
    ObjectMeta {
        name: Some(NAME.to_owned()),
        labels: Some(BTreeMap::from(labels)),
        ..ObjectMeta::default()
    }
}

/// The role: reading ServiceImports, and nothing else.
pub fn role() -> ClusterRole {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    ClusterRole {
        metadata: metadata(),
        rules: Some(vec![PolicyRule {
            api_groups: Some(words(&[carrick_crds::service::GROUP])),
            resources: Some(words(&["serviceimports"])),
            verbs: words(&["get", "list", "watch"]),
            ..PolicyRule::default()
        }]),
        ..ClusterRole::default()
    }
}

/// The binding to the service accounts that CoreDNS runs as.
pub fn binding(dns: &Dns) -> ClusterRoleBinding {
    let workloads = dns.workloads.as_deref().unwrap_or_default();
    let mut accounts: Vec<&str> = workloads.iter().map(|w| w.service_account.as_str()).collect();
    accounts.sort_unstable();
    accounts.dedup();
    let subject = |account: &str| Subject {
        kind: "ServiceAccount".to_owned(),
        name: account.to_owned(),
        namespace: Some(dns.namespace.clone()),
        ..Subject::default()
    };
    ClusterRoleBinding {
        metadata: metadata(),
        role_ref: RoleRef {
            api_group: Some("rbac.authorization.k8s.io".to_owned()),
            kind: "ClusterRole".to_owned(),
            name: NAME.to_owned(),
        },
        subjects: Some(accounts.into_iter().map(subject).collect()),
    }
}

/// Whether an object of our name is ours.
pub fn is_ours(object: &impl kube::Resource) -> bool {
    object.labels().get(OURS.0).is_some_and(|value| value == OURS.1)
}
