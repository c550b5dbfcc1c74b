//! A cluster's control plane: etcd and three of Kubernetes' daemons, each a
//! process of its own that can be stopped and started alone.

use std::path::Path;
use std::time::Duration;

use crate::address::ClusterPlan;
use crate::cluster::{Cluster, config};
use crate::lab::Book;
use crate::machine::Program;
use crate::parts::Parts;
use crate::pki::{Authority, Subject};
use crate::wait::wait_until;
use crate::{Error, Result};

/// The control plane's processes, in the order of their start.
pub const PROCESSES: [&str; 4] =
    ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"];

/// An API server on a busy machine.
const READY: Duration = Duration::from_secs(120);

/// Makes the authority, the certificates and the clients' configurations.
pub(super) fn write_files(cluster: &Cluster) -> Result<Authority> {
    let (plan, folder) = (cluster.plan(), cluster.control_plane_folder());
    let authority = Authority::new(&folder, &plan.name)?;
    authority.token_keys()?;
    authority.issue("apiserver", &server(plan))?;
    let clients = [
        ("admin", "admin", Some("system:masters")),
        ("apiserver-kubelet", "kube-apiserver", Some("system:masters")),
        ("front-proxy", "front-proxy", None),
        ("kube-controller-manager", "system:kube-controller-manager", None),
        ("kube-scheduler", "system:kube-scheduler", None),
    ];
    for (file, common_name, organization) in clients {
        authority.issue(file, &Subject { common_name, organization, ..Subject::default() })?;
    }
    for user in ["admin", "kube-controller-manager", "kube-scheduler"] {
        let text = config::kubeconfig(plan, &folder, user).to_string();
        let path = folder.join(format!("{user}.conf"));
        std::fs::write(&path, text).map_err(Error::file("writing", path))?;
    }
    Ok(authority)
}

/// Starts etcd and the API server. The others must wait until it is ready.
pub(super) fn start_storage(book: &Book, cluster: &Cluster) -> Result<()> {
    start(book, cluster, "etcd")?;
    start(book, cluster, "kube-apiserver")
}

/// Starts what needs the API server: the controller manager ends for good
/// when it comes before the built-in roles.
pub(super) fn start_clients(book: &Book, cluster: &Cluster) -> Result<()> {
    start(book, cluster, "kube-controller-manager")?;
    start(book, cluster, "kube-scheduler")
}

/// Waits until the API server serves.
pub(super) fn wait_ready(cluster: &Cluster) -> Result<()> {
    let what = format!("the API server of {}", cluster.plan().name);
    wait_until(READY, &what, || {
        cluster.kubectl(&["get", "--raw", "/readyz"]).map_err(|error| error.to_string())
    })
    .map(|_| ())
}

fn start(book: &Book, cluster: &Cluster, name: &str) -> Result<()> {
    let program = program(cluster.plan(), &cluster.control_plane_folder(), &book.parts(), name);
    cluster.spawn(book, &cluster.plan().control_plane_name(), name, program)
}

fn server(plan: &ClusterPlan) -> Subject<'static> {
    let service = ["kubernetes", "kubernetes.default", "kubernetes.default.svc"].map(str::to_owned);
    let mut names = Vec::from(service);
    names.push("kubernetes.default.svc.cluster.local".to_owned());
    // Clients in pods reach the server by the first service address.
    let addresses = vec![plan.control_plane.into(), plan.api_service.into()];
    Subject { common_name: "kube-apiserver", organization: None, names, addresses }
}

fn program(plan: &ClusterPlan, folder: &Path, parts: &Parts, name: &str) -> Program {
    let file = |name: &str| folder.join(name).to_string_lossy().into_owned();
    let arguments = match name {
        "etcd" => etcd(&folder.join("etcd")),
        "kube-apiserver" => api_server(plan, file),
        "kube-controller-manager" => controller_manager(file),
        _ => vec![
            format!("--kubeconfig={}", file("kube-scheduler.conf")),
            "--leader-elect=false".to_owned(),
            "--bind-address=127.0.0.1".to_owned(),
        ],
    };
    let mut argv = vec![parts.program(name).to_string_lossy().into_owned()];
    argv.extend(arguments);
    Program { argv, env: [("PATH".to_owned(), parts.search_path())].into() }
}

fn etcd(data: &Path) -> Vec<String> {
    let (client, peer) = ("http://127.0.0.1:2379", "http://127.0.0.1:2380");
    vec![
        format!("--data-dir={}", data.display()),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=default={peer}"),
        // A lab's data does not outlive the lab.
        "--unsafe-no-fsync".to_owned(),
        "--log-level=warn".to_owned(),
    ]
}

fn api_server(plan: &ClusterPlan, file: impl Fn(&str) -> String) -> Vec<String> {
    let tolerate = config::TOLERATION_SECONDS;
    vec![
        "--etcd-servers=http://127.0.0.1:2379".to_owned(),
        format!("--advertise-address={}", plan.control_plane),
        format!("--service-cluster-ip-range={}", plan.service_ranges()),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--enable-admission-plugins=NodeRestriction".to_owned(),
        "--allow-privileged=true".to_owned(),
        format!("--default-not-ready-toleration-seconds={tolerate}"),
        format!("--default-unreachable-toleration-seconds={tolerate}"),
        format!("--client-ca-file={}", file("ca.crt")),
        format!("--tls-cert-file={}", file("apiserver.crt")),
        format!("--tls-private-key-file={}", file("apiserver.key")),
        format!("--kubelet-certificate-authority={}", file("ca.crt")),
        format!("--kubelet-client-certificate={}", file("apiserver-kubelet.crt")),
        format!("--kubelet-client-key={}", file("apiserver-kubelet.key")),
        "--kubelet-preferred-address-types=InternalIP".to_owned(),
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local".to_owned(),
        format!("--service-account-key-file={}", file("sa.pub")),
        format!("--service-account-signing-key-file={}", file("sa.key")),
        format!("--requestheader-client-ca-file={}", file("ca.crt")),
        "--requestheader-allowed-names=front-proxy".to_owned(),
        "--requestheader-username-headers=X-Remote-User".to_owned(),
        "--requestheader-group-headers=X-Remote-Group".to_owned(),
        "--requestheader-extra-headers-prefix=X-Remote-Extra-".to_owned(),
        format!("--proxy-client-cert-file={}", file("front-proxy.crt")),
        format!("--proxy-client-key-file={}", file("front-proxy.key")),
    ]
}

fn controller_manager(file: impl Fn(&str) -> String) -> Vec<String> {
    vec![
        format!("--kubeconfig={}", file("kube-controller-manager.conf")),
        "--leader-elect=false".to_owned(),
        "--bind-address=127.0.0.1".to_owned(),
        "--use-service-account-credentials=true".to_owned(),
        format!("--service-account-private-key-file={}", file("sa.key")),
        format!("--root-ca-file={}", file("ca.crt")),
        "--allocate-node-cidrs=false".to_owned(),
        format!("--node-monitor-grace-period={}", config::MONITOR_GRACE),
        format!("--node-monitor-period={}", config::MONITOR_PERIOD),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_is_valid_where_pods_look_for_it() {
        let subject = server(&ClusterPlan::new(3, 1));
        assert!(subject.addresses.contains(&"10.103.0.1".parse().expect("an address")));
        assert!(subject.names.iter().any(|name| name == "kubernetes.default.svc"));
    }

    #[test]
    fn every_process_has_a_program() {
        let (plan, parts) = (ClusterPlan::new(1, 1), Parts::at(Path::new("/parts")));
        for name in PROCESSES {
            let program = program(&plan, Path::new("/files"), &parts, name);
            assert_eq!(program.argv[0], format!("/parts/{name}"));
            assert!(program.argv.len() > 2, "{name}");
        }
    }
}
