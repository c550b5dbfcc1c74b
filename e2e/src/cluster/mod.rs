//! One cluster of a lab: its machines, its control plane, and ways to use it.

mod capture;
mod config;
mod control_plane;
mod dns;
mod network;
mod node;
mod process;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

pub use capture::Capture;
pub use control_plane::PROCESSES as CONTROL_PLANE_PROCESSES;
pub(crate) use dns::resolve_inside;
pub(crate) use network::ip;
pub use node::{Node, PROCESSES as NODE_PROCESSES};
pub use process::Process;

use crate::address::ClusterPlan;
use crate::lab::Book;
use crate::machine::{self, Blueprint, Cgroups, Kind, ProcessRecord, Program};
use crate::parts::Parts;
use crate::run::{run, run_with_input};
use crate::state::{State, Store};
use crate::wait::wait_until;
use crate::{Error, Result};

/// Nodes and DNS of a fresh cluster on a busy machine.
const READY: Duration = Duration::from_secs(180);

const COREDNS: &str = include_str!("../../manifests/coredns.yaml");

/// A cluster of a lab. A handle: it holds no process alive.
#[derive(Clone, Debug)]
pub struct Cluster {
    store: Store,
    plan: ClusterPlan,
}

impl Cluster {
    pub(crate) fn new(store: Store, plan: ClusterPlan) -> Self {
        Self { store, plan }
    }

    /// Its name and addresses.
    #[must_use]
    pub fn plan(&self) -> &ClusterPlan {
        &self.plan
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// All nodes.
    #[must_use]
    pub fn nodes(&self) -> Vec<Node> {
        self.plan.nodes.iter().map(|plan| Node::new(self.clone(), plan.clone())).collect()
    }

    /// The node with this name.
    ///
    /// # Errors
    /// [`Error::Unknown`], which lists the nodes.
    pub fn node(&self, name: &str) -> Result<Node> {
        let nodes = self.nodes();
        let known = nodes.iter().map(|node| node.plan().name.clone()).collect::<Vec<_>>();
        let found = nodes.into_iter().find(|node| node.plan().name == name);
        found.ok_or_else(|| self.unknown("node", name, known.join(", ")))
    }

    /// A process of the control plane: one of [`CONTROL_PLANE_PROCESSES`].
    #[must_use]
    pub fn control_plane_process(&self, name: &str) -> Process {
        Process::new(self.clone(), self.plan.control_plane_name(), name.to_owned())
    }

    /// The administrator's client configuration, for programs that run in the
    /// cluster's network ([`Cluster::command`]).
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.control_plane_folder().join("admin.conf")
    }

    /// A command on the control plane's network, as the administrator, with
    /// the lab's programs on PATH. It takes its turns after machines and who measures.
    ///
    /// # Errors
    /// When the cluster isn't up.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Result<Command> {
        let state = self.state()?;
        let holder = self.holder_in(&state, &self.plan.control_plane_name())?;
        let mut command = machine::enter_network_nicely(&holder, program);
        let path = Parts::at(&state.parts).search_path();
        command.env("KUBECONFIG", self.kubeconfig()).env("PATH", path);
        // Helm and kubectl keep caches; the lab's own, so that nothing stays behind.
        command.env("HOME", self.store.folder());
        Ok(command)
    }

    /// Runs kubectl as the administrator.
    ///
    /// # Errors
    /// When it fails, with what it said.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        run(self.command("kubectl")?.args(arguments))
    }

    /// As [`Cluster::kubectl`] with `-o json`, parsed.
    ///
    /// # Errors
    /// When it fails.
    pub fn kubectl_json(&self, arguments: &[&str]) -> Result<Value> {
        let text = self.kubectl(&[arguments, &["-o", "json"]].concat())?;
        serde_json::from_str(&text).map_err(|e| Error::Format {
            what: format!("kubectl {}", arguments.join(" ")),
            reason: e.to_string(),
        })
    }

    /// Applies YAML or JSON.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub fn apply(&self, yaml: &str) -> Result<String> {
        let mut command = self.command("kubectl")?;
        command.args(["apply", "--server-side", "--field-manager=carrick-lab", "-f", "-"]);
        run_with_input(&mut command, yaml.as_bytes())
    }

    /// Runs helm as the administrator.
    ///
    /// # Errors
    /// When it fails, with what it said.
    pub fn helm(&self, arguments: &[&str]) -> Result<String> {
        run(self.command("helm")?.args(arguments))
    }

    /// Packets of pods or services that tried to leave by the cluster's router, ever.
    ///
    /// # Errors
    /// When the router is gone.
    pub fn leaked_packets(&self) -> Result<u64> {
        let mut command = machine::enter_network(&self.holder(&self.plan.router_name())?, "nft");
        let text = run(command.args(["-j", "list", "counter", "inet", "lab", "leaks"]))?;
        let parsed: Option<u64> = serde_json::from_str::<Value>(&text).ok().and_then(|value| {
            let items = value["nftables"].as_array()?.clone();
            items.iter().find_map(|item| item["counter"]["packets"].as_u64())
        });
        parsed.ok_or_else(|| Error::Format {
            what: "the router's counter".to_owned(),
            reason: format!("{text:?} holds none"),
        })
    }

    /// Gives Carrick's installed workloads another image tag, which restarts
    /// them, and says how many there are.
    ///
    /// # Errors
    /// When the API server refuses.
    pub fn restart_carrick(&self, tag: &str) -> Result<usize> {
        let kinds = "deployments,statefulsets,daemonsets";
        let selector = "--selector=app.kubernetes.io/name=carrick";
        let list = self.kubectl_json(&["get", kinds, "--all-namespaces", selector])?;
        let items = list["items"].as_array().cloned().unwrap_or_default();
        for item in &items {
            let images = retagged(item, tag);
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let (kind, metadata) = (text(&item["kind"]), &item["metadata"]);
            let target = format!("{kind}/{}", text(&metadata["name"]));
            let namespace = format!("--namespace={}", text(&metadata["namespace"]));
            let mut arguments = vec!["set", "image", target.as_str(), namespace.as_str()];
            arguments.extend(images.iter().map(String::as_str));
            self.kubectl(&arguments)?;
        }
        Ok(items.len())
    }

    pub(crate) fn control_plane_folder(&self) -> PathBuf {
        self.store.machine(&self.plan.control_plane_name()).join("config")
    }

    fn state(&self) -> Result<State> {
        let missing = || {
            let name = self.store.name();
            Error::Invalid(format!(
                "lab {name} is not up; start it with `cargo lab --lab {name} up`"
            ))
        };
        self.store.load()?.ok_or_else(missing)
    }

    fn holder(&self, machine: &str) -> Result<ProcessRecord> {
        self.holder_in(&self.state()?, machine)
    }

    fn holder_in(&self, state: &State, machine: &str) -> Result<ProcessRecord> {
        let holder = state.machines.get(machine).and_then(|machine| machine.holder.clone());
        holder.filter(ProcessRecord::alive).ok_or_else(|| {
            Error::Invalid(format!(
                "{machine} has no power; `cargo lab power-on {machine}` or `up` gives it some"
            ))
        })
    }

    fn router(&self, book: &Book) -> Result<ProcessRecord> {
        book.read(|state| self.holder_in(state, &self.plan.router_name()))
    }

    /// Starts a machine and puts it on record.
    fn start_machine(&self, book: &Book, name: &str, kind: Kind) -> Result<ProcessRecord> {
        let blueprint = Blueprint {
            name: name.to_owned(),
            kind,
            folder: self.store.machine(name),
            parts: book.parts().folder().to_owned(),
            cgroups: Cgroups::of(self.store.name(), name)?,
        };
        book.change(|state| {
            state.machines.entry(name.to_owned()).or_default();
        })?;
        machine::start(&blueprint, |holder| {
            book.change(|state| {
                state.machines.entry(name.to_owned()).or_default().holder = Some(holder.clone());
            })
        })
    }

    /// Starts a program in a machine and puts it on record.
    fn spawn(&self, book: &Book, machine: &str, name: &str, program: Program) -> Result<()> {
        let holder = book.read(|state| self.holder_in(state, machine))?;
        let cgroups = Cgroups::of(self.store.name(), machine)?;
        let log = self.log(machine, name);
        let process = machine::spawn(&holder, &cgroups, program, &log)?;
        book.change(|state| {
            let record = state.machines.entry(machine.to_owned()).or_default();
            record.processes.insert(name.to_owned(), process);
        })
    }

    fn log(&self, machine: &str, process: &str) -> PathBuf {
        self.store.machine(machine).join("log").join(format!("{process}.log"))
    }

    fn unknown(&self, kind: &'static str, name: &str, known: String) -> Error {
        Error::Unknown { lab: self.store.name().to_owned(), kind, name: name.to_owned(), known }
    }

    /// Makes router and machines, cabled.
    pub(crate) fn start_machines(&self, book: &Book) -> Result<()> {
        let router = self.start_machine(book, &self.plan.router_name(), Kind::Router)?;
        network::set_up_router(&self.plan, &router)?;
        let name = self.plan.control_plane_name();
        let machine = self.start_machine(book, &name, Kind::ControlPlane)?;
        network::set_up_control_plane(&self.plan, &router, &machine)
    }

    /// Starts everything of the cluster, as parallel as it can be, until the
    /// nodes have registered. `images` are imported meanwhile.
    pub(crate) fn start(&self, book: &Book, images: &[PathBuf]) -> Result<()> {
        let authority = control_plane::write_files(self)?;
        let nodes = self.nodes();
        nodes.iter().try_for_each(|node| node.write_files(&authority))?;
        control_plane::start_storage(book, self)?;
        std::thread::scope(|scope| {
            let started: Vec<_> = nodes
                .iter()
                .map(|node| {
                    scope.spawn(|| {
                        node.start_machine(book)?;
                        node.start_containerd(book)?;
                        node.import(images)
                    })
                })
                .collect();
            control_plane::wait_ready(self)?;
            self.apply_objects()?;
            control_plane::start_clients(book, self)?;
            started.into_iter().try_for_each(crate::lab::join)
        })?;
        nodes.iter().try_for_each(|node| node.start_agents(book))
    }

    fn apply_objects(&self) -> Result<()> {
        let nodes = self.plan.nodes.iter().map(|node| config::node_object(node).to_string());
        let replicas = self.plan.nodes.len().min(2).to_string();
        let dns = COREDNS
            .replace("@DNS@", &self.plan.dns_service.to_string())
            .replace("@REPLICAS@", &replicas);
        let all: Vec<String> = nodes.chain([dns]).collect();
        self.apply(&all.join("\n---\n")).map(|_| ())
    }

    /// Waits until all nodes are Ready.
    ///
    /// # Errors
    /// [`Error::Timeout`], which says what every node lacks.
    pub fn wait_nodes(&self) -> Result<()> {
        wait_until(READY, &format!("the nodes of {}", self.plan.name), || {
            let list = self.kubectl_json(&["get", "nodes"]).map_err(|e| e.to_string())?;
            let items = list["items"].as_array().cloned().unwrap_or_default();
            let waiting: Vec<String> = items.iter().filter_map(not_ready).collect();
            match waiting.is_empty() && items.len() == self.plan.nodes.len() {
                true => Ok(()),
                false => Err(format!(
                    "{} of {} registered; {}",
                    items.len(),
                    self.plan.nodes.len(),
                    waiting.join("; ")
                )),
            }
        })
    }

    /// Waits until the cluster's DNS answers on every node.
    ///
    /// # Errors
    /// [`Error::Timeout`].
    pub fn wait_dns(&self) -> Result<()> {
        let name = "kubernetes.default.svc.cluster.local";
        self.nodes().iter().try_for_each(|node| {
            wait_until(READY, &format!("DNS on {}", node.plan().name), || {
                match node.resolve(name).map_err(|error| error.to_string())? {
                    found if found.contains(&self.plan.api_service) => Ok(()),
                    found => Err(format!("{name} is {found:?}")),
                }
            })
        })
    }
}

/// CONTAINER=IMAGE for each container, with another tag.
fn retagged(workload: &Value, tag: &str) -> Vec<String> {
    let containers = workload["spec"]["template"]["spec"]["containers"].as_array();
    let one = |container: &Value| {
        let (name, image) = (container["name"].as_str()?, container["image"].as_str()?);
        let (repository, _) = image.rsplit_once(':')?;
        Some(format!("{name}={repository}:{tag}"))
    };
    containers.into_iter().flatten().filter_map(one).collect()
}

fn not_ready(node: &Value) -> Option<String> {
    let conditions = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let ready = conditions.iter().find(|condition| condition["type"] == "Ready");
    if ready.is_some_and(|condition| condition["status"] == "True") {
        return None;
    }
    let why =
        ready.map_or("it has not reported yet", |c| c["message"].as_str().unwrap_or("unknown"));
    Some(format!("{}: {why}", node["metadata"]["name"].as_str().unwrap_or("a node")))
}

/// The end of a process's log, for a person.
#[must_use]
pub fn log_tail(log: &Path, lines: usize) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_node_that_is_not_ready_says_why() {
        let node = |status: &str| {
            json!({"metadata": {"name": "n"}, "status": {"conditions": [
                {"type": "Ready", "status": status, "message": "no network"}]}})
        };
        assert_eq!(not_ready(&node("True")), None);
        assert_eq!(not_ready(&node("Unknown")).as_deref(), Some("n: no network"));
        assert_eq!(not_ready(&json!({})).as_deref(), Some("a node: it has not reported yet"));
    }

    #[test]
    fn a_new_tag_keeps_the_repository() {
        let workload = json!({"spec": {"template": {"spec": {"containers": [
            {"name": "agent", "image": "registry:5000/carrick/agent:1"}]}}}});
        assert_eq!(retagged(&workload, "2"), ["agent=registry:5000/carrick/agent:2"]);
    }

    #[test]
    fn an_unknown_node_lists_the_known() {
        let root = tempfile::tempdir().expect("a folder");
        let cluster = Cluster::new(Store::at(root.path(), "x"), ClusterPlan::new(1, 2));
        let error = cluster.node("osaka-1").expect_err("unknown").to_string();
        assert!(error.contains("osaka-1") && error.contains("paris-1, paris-2"), "{error}");
        let error = cluster.kubectl(&["get"]).expect_err("not up").to_string();
        assert!(error.contains("cargo lab --lab x up"), "{error}");
    }
}
