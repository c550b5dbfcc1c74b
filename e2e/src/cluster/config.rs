//! Configuration of the daemons, as data: what each file says, not where it goes.

use std::path::Path;

use serde_json::{Value, json};

use crate::address::{ClusterPlan, NodePlan};
use crate::image::PAUSE;

/// Where a node's configuration appears inside it.
pub(super) const NODE_CONFIG: &str = "/var/lib/lab/config";

/// Where the programs appear inside a node.
pub(super) const NODE_PARTS: &str = "/var/lib/lab/parts";

/// Seconds that a pod stays on a node that is not reachable, and other times
/// that make a node's death show in seconds. Lease and grace period belong
/// together: a short grace with long leases makes every node flap.
pub(super) const TOLERATION_SECONDS: u32 = 2;
const LEASE_SECONDS: u32 = 4;
pub(super) const MONITOR_GRACE: &str = "6s";
pub(super) const MONITOR_PERIOD: &str = "1s";

/// A client's configuration, with certificates as files in `folder`.
pub(super) fn kubeconfig(plan: &ClusterPlan, folder: &Path, user: &str) -> Value {
    let file = |name: String| folder.join(name).to_string_lossy().into_owned();
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": plan.name, "cluster": {
            "server": plan.api_url(),
            "certificate-authority": file("ca.crt".to_owned()),
        }}],
        "users": [{"name": user, "user": {
            "client-certificate": file(format!("{user}.crt")),
            "client-key": file(format!("{user}.key")),
        }}],
        "contexts": [{"name": plan.name, "context": {"cluster": plan.name, "user": user}}],
        "current-context": plan.name,
    })
}

/// The kubelet's configuration.
pub(super) fn kubelet(plan: &ClusterPlan, cgroup_root: &str) -> Value {
    let file = |name: &str| format!("{NODE_CONFIG}/{name}");
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": file("ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": file("kubelet.crt"),
        "tlsPrivateKeyFile": file("kubelet.key"),
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": cgroup_root,
        "enforceNodeAllocatable": ["none"],
        "failCgroupV1": false,
        "failSwapOn": false,
        "oomScoreAdj": 0,
        "clusterDNS": [plan.dns_service.to_string()],
        "clusterDomain": "cluster.local",
        "resolvConf": "",
        "nodeLeaseDurationSeconds": LEASE_SECONDS,
        "nodeStatusUpdateFrequency": "2s",
        "imageGCHighThresholdPercent": 100,
        "localStorageCapacityIsolation": false,
        // The host's disk and memory are not the node's to judge.
        "evictionHard": {
            "memory.available": "1Mi", "nodefs.available": "0%", "nodefs.inodesFree": "0%",
            "imagefs.available": "0%", "imagefs.inodesFree": "0%",
        },
    })
}

/// kube-proxy's configuration.
pub(super) fn kube_proxy(plan: &ClusterPlan, node: &NodePlan) -> Value {
    let networks = [plan.underlay.to_string(), plan.private.to_string()];
    let six = plan.six.as_ref().map(|six| six.underlay.to_string());
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clusterCIDR": plan.pod_ranges(),
        "hostnameOverride": node.name,
        "clientConnection": {"kubeconfig": format!("{NODE_CONFIG}/kube-proxy.conf")},
        // In this mode NodePorts answer at a node's first address only, unless others are named.
        "nodePortAddresses": networks.into_iter().chain(six).collect::<Vec<_>>(),
        // These sysctls are the host's and can't be written from a namespace.
        "conntrack": {
            "maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s",
        },
    })
}

/// containerd's configuration.
pub(super) fn containerd(runc: &Path) -> String {
    format!(
        r#"version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = [
  "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.blockfile",
  "io.containerd.snapshotter.v1.erofs", "io.containerd.nri.v1.nri",
  "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing",
]
[grpc]
address = "/run/containerd/containerd.sock"
[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = "docker.io/{PAUSE}"
[plugins.'io.containerd.cri.v1.runtime']
# Lowering a score needs CAP_SYS_RESOURCE, which not every host gives.
restrict_oom_score_adj = true
[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ["{NODE_PARTS}"]
conf_dir = "{NODE_CONFIG}/cni"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
BinaryName = "{}"
SystemdCgroup = false
"#,
        runc.display()
    )
}

/// The pod network: a bridge on each node. Its leases are in /run, because
/// after a power cut no pod is left that could give one back.
pub(super) fn pod_network(node: &NodePlan) -> Value {
    let ranges = node.pod_ranges().into_iter().map(|range| json!([{"subnet": range}]));
    let families = if node.six.is_some() { &["0.0.0.0/0", "::/0"][..] } else { &["0.0.0.0/0"] };
    json!({
        "cniVersion": "1.0.0",
        "name": "lab",
        "plugins": [
            {
                "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false,
                "hairpinMode": true,
                "ipam": {
                    "type": "host-local", "dataDir": "/run/cni",
                    "ranges": ranges.collect::<Value>(),
                    "routes": families.iter().map(|dst| json!({"dst": dst})).collect::<Value>(),
                },
            },
            {"type": "portmap", "backend": "nftables", "capabilities": {"portMappings": true}},
        ],
    })
}

/// The node's object, made before its kubelet registers: so it has the pod
/// range that the routes know.
pub(super) fn node_object(node: &NodePlan) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": node.name, "labels": {"kubernetes.io/hostname": node.name}},
        "spec": {"podCIDR": node.pods.to_string(), "podCIDRs": node.pod_ranges()},
    })
}

/// A node's packet filter: like common pod networks, it masquerades what pods
/// send out of the cluster.
pub(super) fn node_filter(plan: &ClusterPlan) -> String {
    let masquerade = |ip: &str, pods: String, multicast: &str| {
        format!(
            "table {ip} lab {{\n\
               chain postrouting {{\n\
                 type nat hook postrouting priority srcnat;\n\
                 {ip} saddr {pods} {ip} daddr != {{ {pods}, {multicast} }} masquerade\n\
               }}\n\
             }}\n"
        )
    };
    let four = masquerade("ip", plan.pods.to_string(), "224.0.0.0/4");
    let six = plan.six.as_ref().map(|six| masquerade("ip6", six.pods.to_string(), "ff00::/8"));
    four + &six.unwrap_or_default()
}

/// A router's packet filter: no pod or service address crosses, in or out; the
/// counter shows when one tried.
pub(super) fn router_filter() -> String {
    let (ranges, six) = (crate::address::CLUSTER_RANGES, crate::address::CLUSTER_RANGES_6);
    format!(
        "table inet lab {{\n\
           counter leaks {{ }}\n\
           chain prerouting {{\n\
             type filter hook prerouting priority raw;\n\
             ip saddr {ranges} counter name leaks drop\n\
             ip daddr {ranges} counter name leaks drop\n\
             ip6 saddr {six} counter name leaks drop\n\
             ip6 daddr {six} counter name leaks drop\n\
           }}\n\
         }}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lease_and_grace_belong_together() {
        let plan = ClusterPlan::new(1, 1);
        let lease = kubelet(&plan, "/x")["nodeLeaseDurationSeconds"].as_u64().expect("a number");
        let grace: u64 = MONITOR_GRACE.trim_end_matches('s').parse().expect("seconds");
        assert!(lease < grace, "a node would flap");
    }

    #[test]
    fn a_client_points_at_its_own_cluster_and_files() {
        let plan = ClusterPlan::new(2, 1);
        let config = kubeconfig(&plan, Path::new("/somewhere"), "admin");
        assert_eq!(config["clusters"][0]["cluster"]["server"], "https://172.31.2.10:6443");
        assert_eq!(config["users"][0]["user"]["client-key"], "/somewhere/admin.key");
    }

    #[test]
    fn pods_masquerade_outside_only_and_routers_carry_no_pods() {
        let plan = ClusterPlan::new(1, 1);
        assert!(node_filter(&plan).contains("ip saddr 10.1.0.0/16 ip daddr != { 10.1.0.0/16"));
        assert!(router_filter().contains("ip daddr 10.0.0.0/8 counter name leaks drop"));
        assert_eq!(
            pod_network(&plan.nodes[0])["plugins"][0]["ipam"]["ranges"][0][0]["subnet"],
            "10.1.1.0/24"
        );
    }

    #[test]
    fn with_both_families_all_of_it_has_both() {
        let plan = ClusterPlan::new(1, 1).with_six();
        assert!(
            node_filter(&plan).contains("ip6 saddr fd10:0:1::/48 ip6 daddr != { fd10:0:1::/48")
        );
        let network = pod_network(&plan.nodes[0]);
        assert_eq!(network["plugins"][0]["ipam"]["ranges"][1][0]["subnet"], "fd10:0:1:1::/64");
        assert_eq!(network["plugins"][0]["ipam"]["routes"][1]["dst"], "::/0");
        assert_eq!(node_object(&plan.nodes[0])["spec"]["podCIDRs"][1], "fd10:0:1:1::/64");
        let proxy = kube_proxy(&plan, &plan.nodes[0]);
        assert_eq!(proxy["clusterCIDR"], "10.1.0.0/16,fd10:0:1::/48");
        assert_eq!(proxy["nodePortAddresses"][2], "fd72:31:1::/64");
    }
}
