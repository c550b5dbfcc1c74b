//! Carrick's workloads: how many run, and what keeps the others from it.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::ResourceExt as _;

use crate::state::State;

/// Name of the controller's Deployment, Lease and container's pod prefix.
pub const CONTROLLER: &str = "carrick-controller";
/// Name of the gateways' StatefulSet.
pub const GATEWAY: &str = "carrick-gateway";
/// Name of the agents' DaemonSet.
pub const AGENT: &str = "carrick-agent";

/// How many of a part are ready, of how many wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Count {
    /// Ready ones.
    pub ready: i32,
    /// Wanted ones.
    pub wanted: i32,
}

impl std::fmt::Display for Count {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.ready, self.wanted)
    }
}

/// The controller's count; `None` when it is not installed or cannot be read.
pub fn controllers(state: &State) -> Option<Count> {
    let deployment = state.controller.as_ref().ok()?.as_ref()?;
    let wanted = deployment.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1);
    let ready = deployment.status.as_ref().and_then(|s| s.ready_replicas).unwrap_or(0);
    Some(Count { ready, wanted })
}

/// The gateways' count.
pub fn gateways(state: &State) -> Option<Count> {
    let set = state.gateways.as_ref().ok()?.as_ref()?;
    let wanted = set.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1);
    let ready = set.status.as_ref().and_then(|s| s.ready_replicas).unwrap_or(0);
    Some(Count { ready, wanted })
}

/// The agents' count: wanted is the number of nodes that should have one.
pub fn agents(state: &State) -> Option<Count> {
    let status = state.agents.as_ref().ok()?.as_ref()?.status.as_ref();
    let wanted = status.map_or(0, |s| s.desired_number_scheduled);
    Some(Count { ready: status.map_or(0, |s| s.number_ready), wanted })
}

/// What keeps pods of one component from being ready, one text a pod.
pub fn troubles(state: &State, component: &str) -> Vec<String> {
    let pods = state.pods.as_deref().unwrap_or_default();
    pods.iter()
        .filter(|pod| {
            let label = pod.labels().get("app.kubernetes.io/component");
            label.is_some_and(|value| value == component)
        })
        .filter_map(trouble)
        .collect()
}

fn trouble(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref();
    let conditions = || status.and_then(|s| s.conditions.as_deref()).unwrap_or_default().iter();
    if conditions().any(|c| c.type_ == "Ready" && c.status == "True") {
        return None;
    }
    let containers = status.and_then(|s| s.container_statuses.as_deref()).unwrap_or_default();
    let why = containers.iter().find_map(container_trouble).or_else(|| {
        let open = conditions().find(|c| c.status == "False" && c.message.is_some())?;
        Some(format!(
            "{}: {}",
            open.reason.as_deref().unwrap_or(&open.type_),
            open.message.as_deref()?
        ))
    });
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    let place = node.map(|node| format!(" on {node}")).unwrap_or_default();
    let why = why.unwrap_or_else(|| "is not ready".to_owned());
    Some(format!("{}{place}: {why}", pod.name_any()))
}

fn container_trouble(container: &ContainerStatus) -> Option<String> {
    let state = container.state.as_ref()?;
    let waiting = state.waiting.as_ref().filter(|w| {
        // Being started is no trouble by itself; the pod's events and conditions say more.
        w.reason.as_deref() != Some("ContainerCreating")
    });
    let last_exit = container.last_state.as_ref().and_then(|last| last.terminated.as_ref());
    let ended = state.terminated.as_ref().or(last_exit);
    let exit = ended.map(|e| format!("its last run ended with {}", e.exit_code));
    match (waiting, exit) {
        (Some(waiting), exit) => {
            let reason = waiting.reason.as_deref().unwrap_or("Waiting");
            let detail = waiting.message.clone().or(exit);
            Some(detail.map_or(reason.to_owned(), |detail| format!("{reason}: {detail}")))
        }
        (None, Some(exit)) => Some(exit),
        (None, None) => None,
    }
}
