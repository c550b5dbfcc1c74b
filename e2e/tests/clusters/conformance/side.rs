//! One cluster of the suite's two, and a behaviour's own namespace there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use carrick_e2e::cluster::Cluster;
use carrick_e2e::probes;
use carrick_e2e::wait::wait_until;
use serde_json::{Value, json};

use super::objects::{self, NAME};
use crate::common::{check, holds, node_names, pod_network, text};
use crate::flow::Network;
use crate::services::knock::page;
use crate::services::policy::{SOURCE, sources_of};
use crate::services::{self, SOON};
use crate::world::Outcome;

/// Slices, and with them names and connections, have to.
pub const ROUTED: Duration = Duration::from_secs(60);

/// Pods that start, on a machine that does much else.
const PODS: Duration = Duration::from_secs(120);

/// What is routed is right so often in a row.
const IN_A_ROW: usize = 10;

/// So many refusals in a row the kernel tells of at once.
const REFUSALS: usize = 4;

/// New connections for each pod that serves: one of four is left out by chance in one of 25 million looks.
const A_POD: usize = 16;

/// New connections of one client to one address, within the time for which its affinity lasts: without it, each of two
/// pods or more has some.
const WITHIN_AFFINITY: usize = 40;

/// One address of each family.
pub struct Addresses {
    /// Of IPv4.
    pub four: String,
    /// Of IPv6.
    pub six: String,
}

impl Addresses {
    /// Sorts the addresses of a list: just one of each family, in whatever order.
    fn of<'a>(all: impl Iterator<Item = &'a Value>) -> Result<Self, String> {
        let mut all: Vec<_> = all.filter_map(|one| one.as_str()?.parse::<IpAddr>().ok()).collect();
        all.sort_unstable();
        match all[..] {
            [four @ IpAddr::V4(_), six @ IpAddr::V6(_)] => {
                Ok(Self { four: four.to_string(), six: six.to_string() })
            }
            _ => Err(format!("{all:?} is not one address of each family")),
        }
    }

    fn of_pod(pod: &Value) -> Result<Self, String> {
        Self::of(pod["status"]["podIPs"].as_array().into_iter().flatten().map(|one| &one["ip"]))
    }

    /// Both, IPv4 first.
    pub fn both(&self) -> [&str; 2] {
        [&self.four, &self.six]
    }

    /// Both, as the host of a target such as `HOST:PORT`.
    pub fn hosts(&self) -> [String; 2] {
        [self.four.clone(), format!("[{}]", self.six)]
    }
}

/// A test pod from which connections are made.
pub struct Client {
    name: String,
    addresses: Addresses,
    network: Network,
}

impl Client {
    /// Who serves a new connection to an address's port. That has to see this pod's own address.
    pub fn served(&self, address: &str, port: u16) -> Result<String, String> {
        let address: IpAddr = text(address.parse())?;
        let own = if address.is_ipv4() { &self.addresses.four } else { &self.addresses.six };
        let page = page(&self.network, (address, port).into())?;
        let client: IpAddr = text(page.client.parse())?;
        let seen = client.to_canonical().to_string();
        check(seen == *own, || format!("{} saw {seen} instead of {own}", page.server))?;
        Ok(page.server)
    }

    /// Waits until new connections to an address's port all end in one and the same of these pods.
    pub fn stays(&self, address: &str, port: u16, among: &[String]) -> Outcome {
        let what = format!("{address}:{port} to lead {} to one of {among:?}", self.name);
        text(wait_until(ROUTED, &what, || {
            let first = self.served(address, port)?;
            check(among.contains(&first), || format!("{first} serves"))?;
            for number in 1..WITHIN_AFFINITY {
                let next = self.served(address, port)?;
                check(next == first, || format!("{first}, and {next} after {number}"))?;
            }
            Ok(())
        }))
    }

    /// Waits until new connections to an address's port end in all of these pods and in no other.
    pub fn served_by(&self, address: &str, port: u16, servers: &[String]) -> Outcome {
        let wanted: BTreeSet<&str> = servers.iter().map(String::as_str).collect();
        let what = format!("{address}:{port} to lead {} to {wanted:?}", self.name);
        text(wait_until(ROUTED, &what, || {
            let served = (0..A_POD * servers.len()).map(|_| self.served(address, port));
            let served: BTreeSet<String> = served.collect::<Result<_, _>>()?;
            let right = served.iter().map(String::as_str).eq(wanted.iter().copied());
            check(right, || format!("{served:?}"))
        }))
    }
}

/// A cluster and a namespace.
pub struct Side {
    cluster: Cluster,
    /// The namespace, of the same name in both clusters.
    pub namespace: String,
    tag: String,
}

impl Side {
    /// Makes the namespace, anew if an earlier run has left it.
    pub fn begin(cluster: &Cluster, namespace: &str, tag: &str) -> Result<Self, String> {
        let side =
            Self { cluster: cluster.clone(), namespace: namespace.to_owned(), tag: tag.to_owned() };
        side.namespace_goes()?;
        side.namespace_comes()?;
        Ok(side)
    }

    /// Removes the namespace, and waits until it is gone.
    pub fn namespace_goes(&self) -> Outcome {
        let delete =
            ["delete", "namespace", &self.namespace, "--ignore-not-found", "--timeout=60s"];
        text(self.cluster.kubectl(&delete)).map(drop)
    }

    /// Makes the namespace.
    pub fn namespace_comes(&self) -> Outcome {
        text(self.cluster.kubectl(&["create", "namespace", &self.namespace])).map(drop)
    }

    /// Removes all of it.
    pub fn end(&self) -> Outcome {
        let delete = ["delete", "namespace", &self.namespace, "--ignore-not-found", "--wait=false"];
        text(self.cluster.kubectl(&delete)).map(drop)
    }

    /// The cluster's id.
    pub fn id(&self) -> &str {
        &self.cluster.plan().name
    }

    fn kubectl(&self, words: &[&str]) -> Result<String, String> {
        let namespace = format!("--namespace={}", self.namespace);
        text(self.cluster.kubectl(&[words, &[namespace.as_str()]].concat()))
    }

    /// An object of the namespace; null when it is not there.
    pub fn object(&self, kind: &str, name: &str) -> Result<Value, String> {
        services::object_in(&self.cluster, &self.namespace, kind, name)
    }

    /// Applies an object. The account of pods comes a moment after its namespace.
    pub fn apply(&self, object: &Value) -> Outcome {
        let what = format!("{} of {}", object["kind"], self.namespace);
        text(wait_until(SOON, &what, || text(self.cluster.apply(&object.to_string())).map(drop)))
    }

    /// Makes the Service.
    pub fn service(&self, spec: Value) -> Outcome {
        self.apply(&objects::object("v1", "Service", [&self.namespace, NAME], spec))
    }

    /// Exports it.
    pub fn export(&self, spec: Value) -> Outcome {
        self.apply(&self.its_export(spec))
    }

    fn its_export(&self, spec: Value) -> Value {
        const API: &str = "multicluster.x-k8s.io/v1beta1";
        objects::object(API, "ServiceExport", [&self.namespace, NAME], spec)
    }

    /// Makes the Service and exports it, with nothing more.
    pub fn exports(&self, spec: Value) -> Outcome {
        self.service(spec)?;
        self.export(json!({}))
    }

    /// Takes the export back.
    pub fn unexport(&self) -> Outcome {
        self.kubectl(&["delete", "serviceexport", NAME]).map(drop)
    }

    /// Waits until what is exported next is younger than this side's export: the API knows seconds.
    pub fn is_older(&self) -> Outcome {
        services::is_older(&self.object("serviceexport", NAME)?)
    }

    /// A pod's spec with the lab's images.
    pub fn pod_spec(&self) -> Value {
        objects::pod_spec(&self.tag)
    }

    /// Starts a pod of the Service.
    pub fn pod(&self, name: &str, spec: Value) -> Outcome {
        self.apply(&objects::pod([&self.namespace, name], spec))
    }

    /// Exports it by a policy of which cluster serves.
    pub fn export_by(&self, policy: &str) -> Outcome {
        let mut export = self.its_export(json!({}));
        export["metadata"]["annotations"] = json!({ "carrick.dev/service-policy": policy });
        self.apply(&export)
    }

    /// Starts a pod on each node, waits until they are Ready, and gives their names.
    pub fn serve_on_each_node(&self) -> Result<Vec<String>, String> {
        let nodes = node_names(&self.cluster);
        for node in &nodes {
            let mut spec = self.pod_spec();
            spec["nodeSelector"] = json!({ "kubernetes.io/hostname": node });
            self.pod(&format!("{NAME}-{node}"), spec)?;
        }
        let names = nodes.iter().map(|node| format!("{NAME}-{node}"));
        names.map(|name| self.pod_address(&name, true).map(|_| name)).collect()
    }

    /// The test pod on each node.
    pub fn clients(&self) -> Result<Vec<Client>, String> {
        let of = |node: &String| {
            let name = format!("probe-{node}");
            let pod = services::object_in(&self.cluster, "default", "pod", &name)?;
            let network = pod_network(&self.cluster, node)?;
            Ok(Client { name, addresses: Addresses::of_pod(&pod)?, network })
        };
        node_names(&self.cluster).iter().map(of).collect()
    }

    /// Starts the cluster's usual pod, and waits until it is Ready.
    pub fn serve(&self) -> Outcome {
        self.pod(&self.server(), self.pod_spec())?;
        self.pod_address(&self.server(), true).map(drop)
    }

    /// The name of the cluster's usual pod, which its pages say.
    pub fn server(&self) -> String {
        format!("{NAME}-{}", self.id())
    }

    /// Makes a headless Service over a pod with a stable name, and gives the pod's address once it is Ready.
    pub fn stateful_set_of_service(&self) -> Result<String, String> {
        self.service(objects::headless())?;
        self.apply(&objects::stateful_set(&self.namespace, &self.tag))?;
        self.pod_address(&format!("{NAME}-0"), true)
    }

    /// The address of a pod, once it is Ready, or runs and is not.
    pub fn pod_address(&self, name: &str, ready: bool) -> Result<String, String> {
        let what = format!("pod {name} of {} to be ready: {ready}", self.id());
        text(wait_until(PODS, &what, || {
            let pod = self.object("pod", name)?;
            let (status, is) = (&pod["status"], holds(&pod, "Ready", "True"));
            let address = status["podIP"].as_str().unwrap_or_default().to_owned();
            let running = status["phase"] == "Running" && !address.is_empty();
            check(running && is == ready, || status.to_string()).map(|()| address)
        }))
    }

    /// The addresses of a pod that is Ready, or becomes it.
    pub fn pod_addresses(&self, name: &str) -> Result<Addresses, String> {
        self.pod_address(name, true)?;
        Addresses::of_pod(&self.object("pod", name)?)
    }

    /// Waits for an import of which that holds.
    pub fn import(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Result<Value, String> {
        let what = format!("an import in {} with {what}", self.id());
        text(wait_until(SOON, &what, || {
            let import = self.object("serviceimport", NAME)?;
            check(!import.is_null() && holds(&import), || import.to_string()).map(|()| import)
        }))
    }

    /// Waits for an import with an address, and gives that, the first if it has two.
    pub fn address(&self) -> Result<String, String> {
        let import = self.import("an address", |import| import["spec"]["ips"][0].is_string())?;
        Ok(import["spec"]["ips"][0].as_str().unwrap_or_default().to_owned())
    }

    /// Waits for an import with an address of each family, and gives those.
    pub fn addresses(&self) -> Result<Addresses, String> {
        let import = self.import("two addresses", |import| import["spec"]["ips"][1].is_string())?;
        Addresses::of(import["spec"]["ips"].as_array().into_iter().flatten())
    }

    /// There is no import, and none comes while one looks.
    pub fn imports_nothing(&self) -> Outcome {
        for _ in 0..IN_A_ROW {
            let import = self.object("serviceimport", NAME)?;
            check(import.is_null(), || format!("{} has {import}", self.id()))?;
        }
        Ok(())
    }

    /// Waits until nothing of the import is left.
    pub fn gone(&self) -> Outcome {
        services::gone_in(&self.cluster, &self.namespace, NAME)
    }

    /// Waits for a condition of the export with a status, of whose reasons this is one.
    pub fn condition(&self, type_: &str, status: &str, reason: &str) -> Outcome {
        let export = [&self.namespace, "serviceexport", NAME];
        services::wait_condition_in(&self.cluster, export, [type_, status, reason])
    }

    fn all_slices(&self) -> Result<Vec<Value>, String> {
        services::of_import(&self.cluster, &self.namespace, "endpointslices", NAME)
    }

    /// Waits until the slices are of these clusters, which are in the order of their names.
    pub fn has_slices_of(&self, sources: &[&str]) -> Outcome {
        let what = format!("slices of {sources:?} in {}", self.id());
        text(wait_until(ROUTED, &what, || {
            let found = sources_of(&self.all_slices()?);
            let right = found.iter().map(String::as_str).eq(sources.iter().copied());
            check(right, || format!("{found:?}"))
        }))
    }

    /// Waits for slices with as many endpoints of each family that they have, all of them another cluster's or this one's
    /// own, and gives them.
    pub fn slices(&self, source: &str, endpoints: usize) -> Result<Vec<Value>, String> {
        let what = format!("slices of {source} in {} with {endpoints} endpoints", self.id());
        text(wait_until(ROUTED, &what, || {
            let slices = self.all_slices()?;
            let from = |slice: &Value| slice["metadata"]["labels"][SOURCE] == source;
            let mut families = BTreeMap::<_, usize>::new();
            for slice in &slices {
                let count = slice["endpoints"].as_array().map_or(0, Vec::len);
                *families.entry(slice["addressType"].to_string()).or_default() += count;
            }
            let right = !slices.is_empty()
                && slices.iter().all(from)
                && families.values().all(|count| *count == endpoints);
            check(right, || format!("{slices:?}")).map(|()| slices)
        }))
    }

    /// Runs a task of the test pod on the cluster's first node.
    fn client(&self, words: &[&str]) -> Result<String, String> {
        let node = node_names(&self.cluster).first().cloned().unwrap_or_default();
        text(probes::run(&self.cluster, &node, words))
    }

    /// The Service's name in a zone, such as `clusterset.local`.
    pub fn name_in(&self, zone: &str) -> String {
        format!("{NAME}.{}.svc.{zone}", self.namespace)
    }

    /// The Service's name in the cluster set.
    pub fn name(&self) -> String {
        self.name_in("clusterset.local")
    }

    /// Waits until DNS answers a question (type and name) with these records, or this code, again and again.
    pub fn says(&self, kind: &str, name: &str, code: &str, records: &[&str]) -> Outcome {
        let target = format!("{kind}/{name}");
        let mut wanted = records.to_vec();
        wanted.sort_unstable();
        wanted.insert(0, code);
        let what = format!("{target} in {} to be {wanted:?}", self.id());
        self.again(&what, || {
            let said = self.client(&["lookup", &target])?;
            check(said.lines().eq(wanted.iter().copied()), || format!("{said:?}"))
        })
    }

    /// Waits until connections to a host's port end in this pod, again and again.
    pub fn reaches(&self, host: &str, port: u16, server: &str) -> Outcome {
        let target = format!("{host}:{port}");
        let what = format!("{target} in {} to lead to {server}", self.id());
        self.again(&what, || {
            let page = text(probes::page(&self.client(&["fetch", &target])?))?;
            check(page.server == server, || page.server)
        })
    }

    /// Waits until datagrams to a host's port come back.
    pub fn echoes(&self, host: &str, port: u16) -> Outcome {
        let target = format!("{host}:{port}");
        text(wait_until(ROUTED, &format!("an echo of {target} in {}", self.id()), || {
            let said = self.client(&["stream", &target, "--seconds", "1", "--per-second", "10"])?;
            let counted: Value = text(serde_json::from_str(&said))?;
            check(counted["received"].as_u64() > Some(0), || said)
        }))
    }

    /// Connections to a host's port fail, and it is the connecting that fails, not the looking.
    pub fn cannot_reach(&self, host: &str, port: u16) -> Outcome {
        let what = format!("the end of connections to {host}:{port} in {}", self.id());
        self.again(&what, || self.fails(host, port, "500").map(drop))
    }

    /// Connections to a host's port are refused. The kernel tells one client so some times in a row and then once a second,
    /// and takes it in from IPv6 with its second SYN only, a second later.
    pub fn is_refused(&self, host: &str, port: u16) -> Outcome {
        let what = format!("{host}:{port} in {} to refuse connections", self.id());
        text(wait_until(ROUTED, &what, || {
            (0..REFUSALS).try_for_each(|_| {
                let error = self.fails(host, port, "2500")?;
                check(error.contains("refused"), || error)
            })
        }))
    }

    /// How connecting fails.
    fn fails(&self, host: &str, port: u16, timeout_ms: &str) -> Result<String, String> {
        let target = format!("{host}:{port}");
        let fetch = ["fetch", &target, "--timeout-ms", timeout_ms];
        let error = self.client(&fetch).err().ok_or(format!("{target} answers"))?;
        let real = error.contains(&format!("fetching from {target}"));
        check(real, || format!("not a failed connection: {error}")).map(|()| error)
    }

    fn again<T>(&self, what: &str, look: impl Fn() -> Result<T, String>) -> Result<T, String> {
        text(wait_until(ROUTED, what, || {
            (1..IN_A_ROW).try_for_each(|_| look().map(drop))?;
            look()
        }))
    }
}
