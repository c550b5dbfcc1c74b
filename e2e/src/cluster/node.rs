//! A node: a machine with containerd, kubelet and kube-proxy.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::address::NodePlan;
use crate::cluster::{Capture, Cluster, config, dns, network};
use crate::lab::Book;
use crate::machine::{self, Cgroups, Kind, ProcessRecord, Program};
use crate::pki::{Authority, Subject};
use crate::run::{find_program, run};
use crate::wait::wait_until;
use crate::{Error, Result};

/// A node's processes, in the order of their start.
pub const PROCESSES: [&str; 3] = ["containerd", "kubelet", "kube-proxy"];

/// containerd opens its database in a second or two; a busy machine takes longer.
const CONTAINERD: Duration = Duration::from_secs(60);

/// How an image is told from what the kubelet may throw away.
const MANAGED: &str = "io.cri-containerd.image=managed";

/// A node of a cluster.
#[derive(Clone, Debug)]
pub struct Node {
    cluster: Cluster,
    plan: NodePlan,
}

impl Node {
    pub(super) fn new(cluster: Cluster, plan: NodePlan) -> Self {
        Self { cluster, plan }
    }

    /// Its name and addresses.
    #[must_use]
    pub fn plan(&self) -> &NodePlan {
        &self.plan
    }

    /// A command inside the node: its files, processes and network.
    ///
    /// # Errors
    /// When the node has no power.
    pub fn command(&self, argv: &[impl AsRef<std::ffi::OsStr>]) -> Result<Command> {
        Ok(machine::enter(&self.holder()?, argv))
    }

    /// Runs a program inside the node and returns what it printed.
    ///
    /// # Errors
    /// When the node has no power or the program fails.
    pub fn exec(&self, argv: &[&str]) -> Result<String> {
        run(&mut self.command(argv)?)
    }

    /// A command in the node's network with the host's files, such as tcpdump.
    ///
    /// # Errors
    /// When the node has no power.
    pub fn network_command(&self, program: &str) -> Result<Command> {
        Ok(machine::enter_network(&self.holder()?, program))
    }

    /// Captures what passes the node's cable from now on; `filter` is tcpdump's ("net 10.2.0.0/16").
    ///
    /// # Errors
    /// When the node has no power or the filter is wrong.
    pub fn capture(&self, filter: &str) -> Result<Capture> {
        Capture::start(self.network_command("tcpdump")?, filter)
    }

    /// The IPv4 addresses of a name, as the cluster's DNS tells them to this node.
    ///
    /// # Errors
    /// When the node has no power or nobody answers.
    pub fn resolve(&self, name: &str) -> Result<Vec<std::net::Ipv4Addr>> {
        dns::resolve(&self.holder()?, self.cluster.plan().dns_service, name)
    }

    /// Cuts the node's power: the cable first, then everything that runs, at once.
    ///
    /// # Errors
    /// When another command is changing the lab, or the node has no power.
    pub fn power_cut(&self) -> Result<()> {
        let book = Book::open(self.cluster.store())?;
        let holder = self.holder()?;
        network::disconnect(&self.cluster.router(&book)?, &self.plan.name)?;
        holder.kill()?;
        book.change(|state| {
            let machine = state.machines.entry(self.plan.name.clone()).or_default();
            machine.holder = None;
            machine.processes.clear();
        })
    }

    /// Gives the node power again: its disk is what it was.
    ///
    /// # Errors
    /// When another command is changing the lab, the node has power, or it does not start.
    pub fn power_on(&self) -> Result<()> {
        let book = Book::open(self.cluster.store())?;
        if self.holder().is_ok() {
            return Err(Error::Invalid(format!("{} has power already", self.plan.name)));
        }
        self.cgroups()?.remove_pods()?;
        self.start_machine(&book)?;
        self.start_containerd(&book)?;
        self.start_agents(&book)
    }

    /// Whether the node has power.
    #[must_use]
    pub fn has_power(&self) -> bool {
        self.holder().is_ok()
    }

    /// One of [`PROCESSES`].
    #[must_use]
    pub fn process(&self, name: &str) -> super::Process {
        super::Process::new(self.cluster.clone(), self.plan.name.clone(), name.to_owned())
    }

    /// The host's process numbers of a container of a pod, main process first.
    ///
    /// # Errors
    /// When there is no such container or the node has no power.
    pub fn pids_of_container(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
    ) -> Result<Vec<i32>> {
        let object = self.cluster.kubectl_json(&["get", "pod", pod, "--namespace", namespace])?;
        let id = container_id(&object, container).ok_or_else(|| {
            Error::Invalid(format!("pod {namespace}/{pod} has no running container {container}"))
        })?;
        let listed = self.exec(&[&ctr(), "--namespace", "k8s.io", "task", "ps", &id])?;
        // ctr sees the node's process namespace; signals are sent from the host's.
        let inside: Vec<i32> =
            listed.lines().filter_map(|l| l.split_whitespace().next()?.parse().ok()).collect();
        host_pids(&self.holder()?, &inside)
    }

    /// Imports images, as archives on the host.
    ///
    /// # Errors
    /// When containerd refuses one.
    pub fn import(&self, archives: &[PathBuf]) -> Result<()> {
        for archive in archives {
            // The archive is the host's file, which the node's mounts may hide: passed as input.
            let file = std::fs::File::open(archive).map_err(Error::file("opening", archive))?;
            let arguments = ["--namespace", "k8s.io", "images", "import", "--label", MANAGED, "-"];
            let mut command = self.command(&[&[ctr().as_str()], &arguments[..]].concat())?;
            let output = command
                .stdin(file)
                .output()
                .map_err(|source| Error::Start { program: "ctr".to_owned(), source })?;
            if !output.status.success() {
                return Err(Error::Command {
                    command: format!("ctr images import {}", archive.display()),
                    status: output.status.to_string(),
                    output: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
                });
            }
        }
        Ok(())
    }

    /// Writes the node's certificates and configuration.
    pub(super) fn write_files(&self, authority: &Authority) -> Result<()> {
        let folder = self.folder().join("config");
        let own = Authority::certificate(authority);
        std::fs::create_dir_all(folder.join("cni")).map_err(Error::file("making", &folder))?;
        let copy = |from: &Path, to: &str| {
            std::fs::copy(from, folder.join(to)).map_err(Error::file("copying", from)).map(|_| ())
        };
        copy(&own, "ca.crt")?;
        let user = format!("system:node:{}", self.plan.name);
        let kubelet = Subject {
            common_name: &user,
            organization: Some("system:nodes"),
            names: vec![self.plan.name.clone()],
            addresses: self.plan.addresses(),
        };
        let proxy = Subject { common_name: "system:kube-proxy", ..Subject::default() };
        for (name, subject) in [("kubelet", kubelet), ("kube-proxy", proxy)] {
            let files = authority.issue(&format!("{}-{name}", self.plan.name), &subject)?;
            copy(&files.certificate, &format!("{name}.crt"))?;
            copy(&files.key, &format!("{name}.key"))?;
        }
        let plan = self.cluster.plan();
        let client =
            |user| config::kubeconfig(plan, Path::new(config::NODE_CONFIG), user).to_string();
        let runc = find_program("runc").ok_or_else(|| {
            Error::Invalid("runc is missing; install the Debian package runc".to_owned())
        })?;
        let files = [
            ("kubelet.conf", client("kubelet")),
            ("kube-proxy.conf", client("kube-proxy")),
            ("kubelet.json", config::kubelet(plan, &self.cgroups()?.kubelet_root()).to_string()),
            ("kube-proxy.json", config::kube_proxy(plan, &self.plan).to_string()),
            ("containerd.toml", config::containerd(&runc)),
            ("cni/10-lab.conflist", config::pod_network(&self.plan).to_string()),
        ];
        for (name, text) in files {
            let path = folder.join(name);
            std::fs::write(&path, text).map_err(Error::file("writing", path))?;
        }
        Ok(())
    }

    /// Starts the machine and plugs its cable in.
    pub(super) fn start_machine(&self, book: &Book) -> Result<()> {
        let holder = self.cluster.start_machine(book, &self.plan.name, Kind::Node)?;
        network::set_up_node(self.cluster.plan(), &self.plan, &self.cluster.router(book)?, &holder)
    }

    /// Starts containerd and waits until it serves.
    pub(super) fn start_containerd(&self, book: &Book) -> Result<()> {
        self.spawn(
            book,
            "containerd",
            &[format!("--config={}/containerd.toml", config::NODE_CONFIG)],
        )?;
        let what = format!("containerd of {}", self.plan.name);
        wait_until(CONTAINERD, &what, || {
            let plugins = self.exec(&[&ctr(), "plugins", "list"]).map_err(|e| e.to_string())?;
            let serves =
                |line: &str| line.contains("io.containerd.grpc.v1") && line.contains("cri");
            match plugins.lines().find(|line| serves(line)) {
                Some(line) if line.trim_end().ends_with("ok") => Ok(()),
                other => Err(format!("its CRI plugin: {}", other.unwrap_or("not listed"))),
            }
        })
    }

    /// Starts kubelet and kube-proxy.
    pub(super) fn start_agents(&self, book: &Book) -> Result<()> {
        let file = |name: &str| format!("{}/{name}", config::NODE_CONFIG);
        let addresses = self.plan.addresses().iter().map(ToString::to_string).collect::<Vec<_>>();
        let kubelet = [
            format!("--config={}", file("kubelet.json")),
            format!("--kubeconfig={}", file("kubelet.conf")),
            format!("--hostname-override={}", self.plan.name),
            format!("--node-ip={}", addresses.join(",")),
        ];
        self.spawn(book, "kubelet", &kubelet)?;
        self.spawn(book, "kube-proxy", &[format!("--config={}", file("kube-proxy.json"))])
    }

    fn spawn(&self, book: &Book, name: &str, arguments: &[String]) -> Result<()> {
        let inside = config::NODE_PARTS;
        let mut argv = vec![format!("{inside}/{name}")];
        argv.extend_from_slice(arguments);
        let path = format!("{inside}:/usr/sbin:/usr/bin:/sbin:/bin");
        let env = [("PATH".to_owned(), path), ("HOME".to_owned(), "/root".to_owned())].into();
        self.cluster.spawn(book, &self.plan.name, name, Program { argv, env })
    }

    fn holder(&self) -> Result<ProcessRecord> {
        self.cluster.holder(&self.plan.name)
    }

    fn folder(&self) -> PathBuf {
        self.cluster.store().machine(&self.plan.name)
    }

    fn cgroups(&self) -> Result<Cgroups> {
        Cgroups::of(self.cluster.store().name(), &self.plan.name)
    }
}

fn ctr() -> String {
    format!("{}/ctr", config::NODE_PARTS)
}

fn container_id(pod: &Value, container: &str) -> Option<String> {
    let statuses = pod["status"]["containerStatuses"].as_array()?;
    let status = statuses.iter().find(|status| status["name"] == container)?;
    status["state"]["running"].as_object()?;
    let id = status["containerID"].as_str()?.strip_prefix("containerd://")?;
    Some(id.to_owned())
}

/// Finds the host's numbers of processes of a machine: the last number on a
/// process's NSpid line is the one in its own namespace; containers have one
/// more level below the machine's.
fn host_pids(holder: &ProcessRecord, inside: &[i32]) -> Result<Vec<i32>> {
    let level = levels(holder.pid).map_or(0, |numbers| numbers.len());
    let proc = std::fs::read_dir("/proc").map_err(Error::file("reading", "/proc"))?;
    let numbers = proc.flatten().filter_map(|e| e.file_name().to_string_lossy().parse().ok());
    let mut found: Vec<(usize, i32)> = Vec::new();
    let namespace = namespace(holder.pid);
    for pid in numbers {
        let Some(numbers) = levels(pid) else { continue };
        let position = inside.iter().position(|p| level > 0 && numbers.get(level - 1) == Some(p));
        if let Some(position) = position.filter(|_| belongs(pid, &namespace)) {
            found.push((position, pid));
        }
    }
    found.sort_unstable();
    Ok(found.into_iter().map(|(_, pid)| pid).collect())
}

fn levels(pid: i32) -> Option<Vec<i32>> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    Some(line.split_whitespace().filter_map(|n| n.parse().ok()).collect())
}

fn namespace(pid: i32) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok()
}

/// Whether a process or an ancestor of it is in this process namespace.
fn belongs(pid: i32, wanted: &Option<PathBuf>) -> bool {
    let mut pid = pid;
    while pid > 1 {
        if namespace(pid) == *wanted {
            return true;
        }
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
        pid = parent.and_then(|p| p.trim().parse().ok()).unwrap_or(0);
    }
    false
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_a_running_container_has_an_id() {
        let pod = |state: &str| {
            json!({"status": {"containerStatuses": [
                {"name": "other", "containerID": "containerd://1", "state": {"running": {}}},
                {"name": "gateway", "containerID": "containerd://2", "state": {state: {}}},
            ]}})
        };
        assert_eq!(container_id(&pod("running"), "gateway").as_deref(), Some("2"));
        assert_eq!(container_id(&pod("terminated"), "gateway"), None);
        assert_eq!(container_id(&json!({}), "gateway"), None);
    }
}
