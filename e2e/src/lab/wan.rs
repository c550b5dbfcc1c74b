//! The network between the clusters' routers: emulated, by a process that lives as long as the lab, or
//! plain cables.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;

use carrick_wan::config::LinkConfig;
use carrick_wan::control::Server;
use carrick_wan::{Conditions, Config, Control, Emulator, SiteConfig, Stats};
use nix::sys::signal::{SigSet, Signal};
use serde::{Deserialize, Serialize};

use crate::address::ClusterPlan;
use crate::cluster::ip;
use crate::helper;
use crate::lab::Book;
use crate::machine::ProcessRecord;
use crate::spec::LabSpec;
use crate::state::Store;
use crate::{Error, Result};

/// Packets of one site under way: half a second at 30,000 packets a second.
const BUFFERS: usize = 16_384;

/// The second network between the clusters.
const PRIVATE: &str = "private0";

/// The network between a lab's clusters, changed at run time.
#[derive(Clone, Debug)]
pub struct Wan {
    store: Store,
    spec: LabSpec,
}

#[derive(Serialize, Deserialize)]
struct Request {
    config: Config,
    control: PathBuf,
}

impl Wan {
    pub(super) fn new(store: Store, spec: LabSpec) -> Self {
        Self { store, spec }
    }

    /// Connects to the emulator, for all that it can do.
    ///
    /// # Errors
    /// When it doesn't run: a lab of one cluster has none, nor has one with cables.
    pub fn control(&self) -> Result<Control> {
        Control::connect(self.socket()).map_err(|error| Error::Wan(error.to_string()))
    }

    /// Sets the conditions of one direction.
    ///
    /// # Errors
    /// When a name is unknown or a value is out of range.
    pub fn set(&self, from: &str, to: &str, conditions: &Conditions) -> Result<()> {
        self.control()?.set(from, to, conditions).map_err(|error| Error::Wan(error.to_string()))
    }

    /// The conditions of one direction.
    ///
    /// # Errors
    /// When a name is unknown.
    pub fn get(&self, from: &str, to: &str) -> Result<Conditions> {
        self.control()?.get(from, to).map_err(|error| Error::Wan(error.to_string()))
    }

    /// Lets nothing pass in one direction.
    ///
    /// # Errors
    /// When a name is unknown.
    pub fn cut(&self, from: &str, to: &str) -> Result<()> {
        self.control()?.cut(from, to).map_err(|error| Error::Wan(error.to_string()))
    }

    /// Undoes a cut.
    ///
    /// # Errors
    /// When a name is unknown.
    pub fn restore(&self, from: &str, to: &str) -> Result<()> {
        self.control()?.restore(from, to).map_err(|error| Error::Wan(error.to_string()))
    }

    /// Gives every direction its conditions of the start.
    ///
    /// # Errors
    /// When the emulator doesn't run.
    pub fn reset(&self) -> Result<()> {
        self.control()?.reset().map_err(|error| Error::Wan(error.to_string()))
    }

    /// All counters.
    ///
    /// # Errors
    /// When the emulator doesn't run.
    pub fn stats(&self) -> Result<Stats> {
        self.control()?.stats().map_err(|error| Error::Wan(error.to_string()))
    }

    /// Starts the emulator between the routers, on record before it stays.
    pub(super) fn start(&self, book: &Book) -> Result<()> {
        if self.spec.clusters < 2 {
            return Ok(());
        }
        let router = |router: &str| {
            let holder = book.read(|state| state.machines.get(router)?.holder.clone());
            holder.ok_or_else(|| Error::Invalid(format!("{router} has no power")))
        };
        if self.spec.cables {
            return lay_cables(&ClusterPlan::all(&self.spec), router);
        }
        let config = self.config(router)?;
        let request = Request { config, control: self.socket() };
        let log = self.store.folder().join("wan.log");
        let log = std::fs::File::create(&log).map_err(Error::file("making", log))?;
        let mut command = helper::command("wan", &request)?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let mut child = command
            .spawn()
            .map_err(|source| Error::Start { program: "the WAN emulator".into(), source })?;
        let pid = child.id().try_into().unwrap_or_default();
        let process = ProcessRecord::of(pid)?;
        book.change(|state| state.wan = Some(process))?;
        if let Some(mut input) = child.stdin.take() {
            input.write_all(b"stay\n").map_err(Error::file("writing to", "the WAN emulator"))?;
        }
        let mut said = String::new();
        if let Some(output) = child.stdout.take() {
            BufReader::new(output)
                .read_line(&mut said)
                .map_err(Error::file("reading from", "the WAN emulator"))?;
        }
        if said == "ready\n" {
            return Ok(());
        }
        let log = self.store.folder().join("wan.log");
        Err(Error::Wan(format!("it did not start: {}", crate::cluster::log_tail(&log, 5))))
    }

    fn config(&self, router: impl Fn(&str) -> Result<ProcessRecord>) -> Result<Config> {
        let plans = ClusterPlan::all(&self.spec);
        let mut sites = Vec::new();
        for plan in &plans {
            let netns = PathBuf::from(format!("/proc/{}/ns/net", router(&plan.router_name())?.pid));
            sites.push(SiteConfig::new(
                plan.name.clone(),
                netns.clone(),
                vec![plan.underlay.into()],
            ));
            let private = SiteConfig::new(plan.private_site(), netns, vec![plan.private.into()]);
            sites.push(SiteConfig { network: PRIVATE.to_owned(), ..private });
        }
        let mut config = Config::new(sites);
        config.buffers_per_site = BUFFERS;
        let conditions = Conditions::delay_us(u64::from(self.spec.rtt_ms) * 1000 / 2);
        for from in &plans {
            for to in plans.iter().filter(|to| to.name != from.name) {
                let public = (from.name.clone(), to.name.clone());
                for (from, to) in [public, (from.private_site(), to.private_site())] {
                    let conditions = Some(conditions.clone());
                    config.links.push(LinkConfig { from, to, named: None, conditions });
                }
            }
        }
        Ok(config)
    }

    fn socket(&self) -> PathBuf {
        self.store.folder().join("wan.sock")
    }
}

/// Joins all routers with each other.
fn lay_cables(plans: &[ClusterPlan], router: impl Fn(&str) -> Result<ProcessRecord>) -> Result<()> {
    for (index, one) in plans.iter().enumerate() {
        for other in &plans[index + 1..] {
            let (near, far) = (router(&one.router_name())?, router(&other.router_name())?);
            ip(&near, &cable(one, other, far.pid))?;
            ip(&far, &cable_end(other, one))?;
        }
    }
    Ok(())
}

/// A cable from one router to another's, whose process is given, for `ip -batch`.
fn cable(one: &ClusterPlan, other: &ClusterPlan, far: i32) -> String {
    let (near_end, far_end) = (cable_name(other), cable_name(one));
    format!("link add {near_end} type veth peer name {far_end} netns {far}\n")
        + &cable_end(one, other)
}

/// One end of it: the other's nodes are behind the other's router, which answers for its address on any
/// device.
fn cable_end(own: &ClusterPlan, other: &ClusterPlan) -> String {
    let (device, nodes, via, source) =
        (cable_name(other), other.underlay, other.router, own.router);
    format!("link set {device} up\nroute add {nodes} via {via} dev {device} src {source} onlink\n")
}

fn cable_name(to: &ClusterPlan) -> String {
    format!("to-{}", to.name)
}

/// Helper side: the emulator, once it is on record.
pub(crate) fn emulate(request: &str) -> Result<()> {
    let request: Request = helper::parse(request)?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).map_err(Error::file("reading", "standard input"))?;
    if answer != "stay\n" {
        return Ok(());
    }
    nix::unistd::setsid().map_err(Error::system("starting a session"))?;
    let stop: SigSet = [Signal::SIGTERM, Signal::SIGINT].into_iter().collect();
    stop.thread_block().map_err(Error::system("blocking signals"))?;
    let emulator = Emulator::start(request.config).map_err(|e| Error::Wan(e.to_string()))?;
    let _server = Server::start(&request.control, Arc::new(emulator))
        .map_err(|error| Error::Wan(error.to_string()))?;
    println!("ready");
    stop.wait().map_err(Error::system("waiting for a signal"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cable_has_two_ends_with_routes() {
        let (paris, osaka) = (ClusterPlan::new(1, 1), ClusterPlan::new(2, 1));
        assert_eq!(
            cable(&paris, &osaka, 7),
            "link add to-osaka type veth peer name to-paris netns 7\nlink set to-osaka up\n\
             route add 172.31.2.0/24 via 172.31.2.1 dev to-osaka src 172.31.1.1 onlink\n"
        );
        assert!(cable_end(&osaka, &paris).contains("via 172.31.1.1 dev to-paris"));
    }

    #[test]
    fn half_the_round_trip_each_way_between_all_pairs() {
        let spec = LabSpec { clusters: 3, rtt_ms: 30, ..LabSpec::default() };
        let wan = Wan::new(Store::new("x"), spec);
        let config = wan
            .config(|_| Ok(ProcessRecord { pid: 7, ..ProcessRecord::default() }))
            .expect("a configuration");
        let conditions = config.validate().expect("valid");
        assert_eq!(config.links.len(), 2 * 6, "on both networks");
        let site = |name: &str| config.sites.iter().position(|site| site.name == name);
        let delay = |from: &str, to: &str| {
            conditions[site(from).expect("a site")][site(to).expect("a site")].delay_us
        };
        assert_eq!(delay("paris", "lima"), 15_000);
        assert_eq!(delay("osaka-private", "paris-private"), 15_000);
        assert_eq!(delay("paris", "osaka-private"), 0, "no link");
        let prefix = |name: &str| config.sites[site(name).expect("a site")].prefixes[0].to_string();
        assert_eq!(prefix("osaka"), "172.31.2.0/24");
        assert_eq!(prefix("osaka-private"), "172.30.2.0/24");
    }
}
