//! A pod, cut down to what the plan needs.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::Pod;

/// What is known of a pod that has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodFacts {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Its service account.
    pub account: String,
    /// The node that it runs on; empty while it is not scheduled.
    pub node: String,
    /// Its address.
    pub address: Option<IpAddr>,
    /// It shares the node's address.
    pub host_network: bool,
    /// Its condition `Ready`.
    pub ready: bool,
    /// It is being deleted.
    pub terminating: bool,
}

impl PodFacts {
    /// `None` for a pod that has ended: its address may belong to another by now.
    pub fn read(pod: &Pod) -> Option<Self> {
        let (spec, status) = (pod.spec.as_ref(), pod.status.as_ref());
        let phase = status.and_then(|s| s.phase.as_deref()).unwrap_or_default();
        if matches!(phase, "Succeeded" | "Failed") {
            return None;
        }
        let mut conditions = status.and_then(|s| s.conditions.as_ref()).into_iter().flatten();
        Some(Self {
            namespace: pod.metadata.namespace.clone().unwrap_or_default(),
            name: pod.metadata.name.clone().unwrap_or_default(),
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            account: spec.and_then(|s| s.service_account_name.clone()).unwrap_or_default(),
            node: spec.and_then(|s| s.node_name.clone()).unwrap_or_default(),
            address: status.and_then(|s| s.pod_ip.as_deref()).and_then(|ip| ip.parse().ok()),
            host_network: spec.and_then(|s| s.host_network).unwrap_or_default(),
            ready: conditions.any(|c| c.type_ == "Ready" && c.status == "True"),
            terminating: pod.metadata.deletion_timestamp.is_some(),
        })
    }

    /// The number at the end of a StatefulSet pod's name.
    pub fn ordinal(&self) -> Option<u16> {
        self.name.rsplit_once('-')?.1.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_that_has_ended_is_none() {
        for (phase, there) in [("Running", true), ("Succeeded", false), ("Failed", false)] {
            let pod: Pod = serde_json::from_value(serde_json::json!({
                "metadata": {"name": "carrick-gateway-3", "namespace": "c", "uid": "u"},
                "status": {"phase": phase, "podIP": "10.1.0.7"},
            }))
            .expect("pod");
            let facts = PodFacts::read(&pod);
            assert_eq!(facts.is_some(), there, "{phase}");
            if let Some(facts) = facts {
                assert_eq!(facts.ordinal(), Some(3));
                assert_eq!(facts.address, "10.1.0.7".parse().ok());
            }
        }
    }
}
