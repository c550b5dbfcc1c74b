//! For which nodes the agents' DaemonSet is: by the very values that the chart gives it, and by the
//! rules of the scheduler. A node on which no agent is wanted is not waited for.

use std::collections::BTreeMap;
use std::str::FromStr;

use k8s_openapi::api::core::v1::{Node, Taint, Toleration};
use serde::Deserialize;

/// Conditions of nodes that the pods of every DaemonSet tolerate.
const ALWAYS: [&str; 7] = [
    "node.kubernetes.io/not-ready",
    "node.kubernetes.io/unreachable",
    "node.kubernetes.io/disk-pressure",
    "node.kubernetes.io/memory-pressure",
    "node.kubernetes.io/pid-pressure",
    "node.kubernetes.io/unschedulable",
    "node.kubernetes.io/network-unavailable",
];

/// Where agents are wanted: on Linux, and as this says.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AgentScheduling {
    /// The labels that a node must have.
    #[serde(default)]
    node_selector: BTreeMap<String, String>,
    /// The taints that keep no agent away; `None` for all.
    #[serde(default)]
    tolerations: Option<Vec<Toleration>>,
}

impl FromStr for AgentScheduling {
    type Err = serde_json::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        serde_json::from_str(text)
    }
}

impl AgentScheduling {
    /// Whether an agent is wanted on this node.
    pub fn wants(&self, node: &Node) -> bool {
        let none = BTreeMap::new();
        let labels = node.metadata.labels.as_ref().unwrap_or(&none);
        // A node that does not say what it runs is taken for one that can.
        let linux = labels.get("kubernetes.io/os").is_none_or(|os| os == "linux");
        let selected = self.node_selector.iter().all(|(key, value)| labels.get(key) == Some(value));
        let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
        linux && selected && taints.iter().all(|taint| self.tolerates(taint))
    }

    fn tolerates(&self, taint: &Taint) -> bool {
        let repels = matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute");
        let Some(tolerations) = &self.tolerations else { return true };
        !repels
            || ALWAYS.contains(&taint.key.as_str())
            || tolerations.iter().any(|toleration| covers(toleration, taint))
    }
}

fn covers(toleration: &Toleration, taint: &Taint) -> bool {
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let effect = given(&toleration.effect).is_none_or(|effect| effect == taint.effect);
    let key = given(&toleration.key);
    let same_key = key.as_ref().is_none_or(|key| *key == taint.key);
    let value = match toleration.operator.as_deref() {
        Some("Exists") => true,
        None | Some("" | "Equal") => {
            let wanted = toleration.value.as_deref().unwrap_or_default();
            key.is_some() && wanted == taint.value.as_deref().unwrap_or_default()
        }
        Some(_) => false,
    };
    effect && same_key && value
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn wants(scheduling: Value, labels: Value, taints: Value) -> bool {
        let scheduling: AgentScheduling = scheduling.to_string().parse().expect("scheduling");
        let node = json!({"metadata": {"labels": labels}, "spec": {"taints": taints}});
        scheduling.wants(&serde_json::from_value(node).expect("node"))
    }

    #[test]
    fn labels_decide_as_the_node_selector_says() {
        let pool = json!({"nodeSelector": {"pool": "mesh"}});
        assert!(wants(pool.clone(), json!({"pool": "mesh", "other": "x"}), json!([])));
        assert!(!wants(pool.clone(), json!({"pool": "batch"}), json!([])));
        assert!(!wants(pool, json!({}), json!([])));
        assert!(wants(json!({}), json!({}), json!([])));
        assert!(!wants(json!({}), json!({"kubernetes.io/os": "windows"}), json!([])));
    }

    #[test]
    fn taints_decide_as_the_tolerations_say() {
        let taint = |key: &str, effect: &str| json!([{"key": key, "value": "v", "effect": effect}]);
        let tolerating = |toleration: Value| json!({"tolerations": [toleration]});
        let gpu = || taint("gpu", "NoSchedule");
        for (scheduling, taints, wanted) in [
            (json!({}), gpu(), true),
            (tolerating(json!({"operator": "Exists"})), gpu(), true),
            (json!({"tolerations": []}), gpu(), false),
            (json!({"tolerations": []}), taint("gpu", "PreferNoSchedule"), true),
            (json!({"tolerations": []}), taint(ALWAYS[5], "NoSchedule"), true),
            (tolerating(json!({"key": "gpu", "value": "v"})), gpu(), true),
            (tolerating(json!({"key": "gpu", "value": "w"})), gpu(), false),
            (tolerating(json!({"key": "gpu", "operator": "Exists"})), gpu(), true),
            (
                tolerating(json!({"key": "gpu", "operator": "Exists"})),
                taint("x", "NoExecute"),
                false,
            ),
            (tolerating(json!({"operator": "Exists", "effect": "NoExecute"})), gpu(), false),
            (tolerating(json!({"value": "v"})), gpu(), false),
        ] {
            let said = format!("{scheduling} {taints}");
            assert_eq!(wants(scheduling, json!({}), taints), wanted, "{said}");
        }
    }

    #[test]
    fn what_is_misspelt_is_refused() {
        assert!(r#"{"nodeSelectr": {}}"#.parse::<AgentScheduling>().is_err());
    }
}
