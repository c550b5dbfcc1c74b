//! Services in great number: what they cost on the wire, in writes and in memory. Not part of the usual tests, since it
//! takes long: `cargo drills scale`.

mod client;
mod count;
mod goal;
mod objects;
mod roll;

use std::time::{Duration, Instant};

use carrick_e2e::cluster::{Cluster, Process};
use carrick_e2e::wait::wait_until;
use carrick_e2e::{Lab, carrick};
use serde_json::{Value, json};

use self::client::Do;
use self::count::{KINDS, Side, since, sum, wan_bytes};
use self::goal::Goals;
use self::objects::{BARE, CROWD, ENDPOINTS};
use crate::common::{Fault, change_peering, check, cut_apart, figure, holds, join_again, text};
use crate::metrics::Counts;
use crate::quiet::{other_controllers, settled};
use crate::services::sharing;
use crate::world::{Case, Outcome};

/// All cases.
pub const CASES: &[(&str, Case)] = &[
    ("scale::ten_thousand_services", many_services),
    ("scale::a_hundred_pods_roll", roll::a_hundred_pods),
];

/// How many Services, if not [`COUNT`].
const COUNT_VARIABLE: &str = "CARRICK_SERVICES";
const COUNT: usize = 10_000;

/// More than that no peer may export.
const MOST: usize = 16_000;

/// How many requests of the case are under way at a time.
const AT_ONCE: usize = 16;

/// As many writes a controller has under way at a time, and what it is compared with as well.
const CONTROLLERS_WRITES: usize = 8;

/// How many imports are made for comparison.
const COMPARED: usize = 400;

/// How many writes an import takes: Service, EndpointSlice, ServiceImport and the status of that.
const WRITES: usize = 4;

/// How many endpoints are changed, one after the other.
const CHANGES: usize = 8;

/// What takes a moment, on a machine that does much else.
const SOON: Duration = Duration::from_secs(60);

/// A cluster that was lost again and again is trusted after a minute without a break.
const TRUSTED: Duration = Duration::from_secs(240);

/// The Service that shows whether osaka is reached.
const SCOUT: &str = "scout";

/// What takes longer the more Services there are may take so long for each.
const EACH: Duration = Duration::from_millis(200);

/// Between two words about how far it is.
const TELL: Duration = Duration::from_secs(5);

const SNAPSHOT_BYTES: f64 = 3_000_000.0;
const WRITE_RATE_PERCENT: f64 = 70.0;
const MEMORY_MIB: f64 = 200.0;
const CHANGE_BYTES: f64 = 1_000.0;
const CHANGE_WRITES: f64 = 2.0;
/// Answers that nothing is new, and heads without changes.
const RECONNECT_BYTES: f64 = 10_000.0;

const TOLD: &str = "carrick_controller_services_told_bytes_total";
const HEARD: &str = "carrick_controller_services_heard_bytes_total";
const WAITING: &str = "carrick_controller_services_waiting";
const WRITTEN: &str = "carrick_controller_writes_total";

fn wanted() -> Result<usize, String> {
    let Ok(said) = std::env::var(COUNT_VARIABLE) else { return Ok(COUNT) };
    let count = said.parse::<usize>().ok().filter(|count| (1..=MOST).contains(count));
    count.ok_or_else(|| format!("{COUNT_VARIABLE}={said}: it can be 1 to {MOST}"))
}

/// Both clusters with so many Services.
struct Crowd<'a> {
    lab: &'a Lab,
    paris: Side,
    osaka: Side,
    count: usize,
}

fn many_services(lab: &Lab) -> Outcome {
    let count = wanted()?;
    let (paris, osaka) = sharing(lab)?;
    let crowd = Crowd { lab, paris: Side::of(lab, &paris)?, osaka: Side::of(lab, &osaka)?, count };
    // What an earlier case had them hold is in their memory's peak.
    for cluster in [&paris, &osaka] {
        consent(cluster, "[]")?;
        other_controllers(cluster)?;
        settled(cluster)?;
    }
    // Each goes through all Services again and again, which took half of the machine with 10,000; nobody connects to any here.
    let start = || proxies(&[&paris, &osaka], Process::start);
    let _stopped = Fault(&start);
    proxies(&[&paris, &osaka], Process::stop)?;
    let mut goals = Goals::default();
    let measured = crowd.measure(&mut goals);
    let removed = crowd.remove();
    measured?;
    removed?;
    goals.outcome()
}

/// Does that with the kube-proxy of each node. What they made so far stays in the kernels while they are stopped.
fn proxies(
    clusters: &[&Cluster],
    act: impl Fn(&Process) -> Result<(), carrick_e2e::Error>,
) -> Outcome {
    let mut nodes = clusters.iter().flat_map(|cluster| cluster.nodes());
    nodes.try_for_each(|node| text(act(&node.process("kube-proxy"))))
}

/// Which namespaces a cluster shares with the other one: those that are exported are imported there.
fn consent(cluster: &Cluster, namespaces: &str) -> Outcome {
    let (peer, word) = match cluster.plan().name.as_str() {
        "paris" => ("osaka", "import"),
        _ => ("paris", "export"),
    };
    let change = format!(r#"{{"spec":{{"services":{{"{word}":{namespaces}}}}}}}"#);
    change_peering(cluster, peer, &change)
}

impl Crowd<'_> {
    fn measure(&self, goals: &mut Goals) -> Outcome {
        self.make()?;
        self.scout()?;
        let before = self.bare()?;
        let rate = self.import(goals)?;
        let after = self.bare()?;
        // A write takes longer the more Services there are, and the import goes all the way from the one to the other: what counts
        // is the mean of the times.
        let bare = 2.0 / (1.0 / before + 1.0 / after);
        figure(&format!(
            "writes a second: {rate:.0} of the import, {before:.0} of a bare loop before, {after:.0} after"
        ));
        let what = "the import's writes a second, of those of a bare loop, in percent";
        goals.at_least(what, 100.0 * rate / bare, WRITE_RATE_PERCENT);
        self.changes(goals)?;
        self.reconnects(goals)?;
        for side in self.sides() {
            let what = format!("memory of a controller of {}, the most, MiB", name(side));
            goals.at_most(&what, side.memory()?, MEMORY_MIB);
        }
        Ok(())
    }

    fn sides(&self) -> [&Side; 2] {
        [&self.paris, &self.osaka]
    }

    /// For what takes longer the more there are.
    fn limit(&self) -> Duration {
        SOON + EACH * u32::try_from(self.count).unwrap_or(u32::MAX)
    }

    /// Has osaka export all of them, and waits until its own imports are done.
    fn make(&self) -> Outcome {
        let namespace =
            |name| format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n");
        for side in self.sides() {
            text(side.cluster.apply(&format!("{}---\n{}", namespace(CROWD), namespace(BARE))))?;
        }
        let plan = self.osaka.cluster.plan().clone();
        let took = self.osaka.client.all("Services made", self.count, AT_ONCE, move |number| {
            let name = objects::name(number);
            let addresses = objects::addresses(&plan, number);
            objects::exported(CROWD, &name, &addresses).map(Do::Create).into()
        })?;
        figure(&format!(
            "{} Services with {ENDPOINTS} endpoints each made in {:.0} s",
            self.count,
            took.as_secs_f64()
        ));
        // A Service, its own and the derived one; so it is with slices.
        self.imported(&self.osaka, [2 * self.count, 2 * self.count, self.count]).map(drop)
    }

    /// Waits until another import from osaka has its slice in paris: a cluster that a busy machine kept from being heard for
    /// a moment is trusted again only after a while, which is not what is measured.
    fn scout(&self) -> Outcome {
        let addresses = objects::addresses(self.osaka.cluster.plan(), self.count);
        for object in objects::exported(BARE, SCOUT, &addresses) {
            self.osaka.client.act(Do::Create(object))?;
        }
        for side in self.sides() {
            consent(&side.cluster, &format!("[{BARE:?}]"))?;
        }
        self.is_trusted()
    }

    /// Waits until osaka counts as reached.
    fn is_trusted(&self) -> Outcome {
        text(wait_until(TRUSTED, "a slice of osaka in paris", || {
            let slices = self.paris.slices(BARE, SCOUT)?;
            check(!slices.is_empty(), || "none".to_owned())
        }))
    }

    /// Waits until a cluster has so many Services, EndpointSlices and ServiceImports, and nothing is left to do.
    fn imported(&self, side: &Side, wanted: [usize; 3]) -> Result<Instant, String> {
        let mut told = Instant::now();
        let what = format!("{wanted:?} Services, EndpointSlices, ServiceImports in {}", name(side));
        text(wait_until(self.limit(), &what, || {
            let waiting = side.metrics()?.total(WAITING);
            let at = Instant::now();
            let due = at - told >= TELL;
            if waiting > 0 && !due {
                return Err(format!("{waiting} services and objects wait"));
            }
            let found = KINDS.map(|kind| side.objects(kind, CROWD));
            let [services, slices, imports] = found;
            let found = [services?, slices?, imports?];
            if due {
                told = at;
                figure(&format!("{}: {found:?} of {wanted:?}, {waiting} wait", name(side)));
            }
            check(found == wanted && waiting == 0, || format!("{found:?}, {waiting} wait"))?;
            Ok(at)
        }))
    }

    /// What a bare loop writes a second in paris: what an import consists of, without what it follows from.
    fn bare(&self) -> Result<f64, String> {
        let client = &self.paris.client;
        let plan = self.osaka.cluster.plan().clone();
        let count = COMPARED.min(self.count);
        let took = client.all("a bare loop", count, CONTROLLERS_WRITES, move |number| {
            let name = objects::name(number);
            let addresses = objects::addresses(&plan, number);
            vec![
                Do::Create(objects::service(BARE, &name)),
                Do::Create(objects::slice(BARE, &name, &addresses, &[true; ENDPOINTS])),
                Do::Create(objects::import(BARE, &name)),
                Do::Status(objects::import_status(BARE, &name)),
            ]
        })?;
        client.all("a bare loop's end", count, AT_ONCE, |number| {
            let name = objects::name(number);
            let none: [String; 0] = [];
            vec![
                Do::Delete(objects::import(BARE, &name)),
                Do::Delete(objects::slice(BARE, &name, &none, &[])),
                Do::Delete(objects::service(BARE, &name)),
            ]
        })?;
        Ok((WRITES * count) as f64 / took.as_secs_f64())
    }

    /// Has paris import all, and gives how many writes a second that was.
    fn import(&self, goals: &mut Goals) -> Result<f64, String> {
        let both = format!("[{BARE:?},{CROWD:?}]");
        // Peers are told what they may import, whether they do or not.
        let before = self.counted()?;
        consent(&self.osaka.cluster, &both)?;
        let (writes, mark) = (self.paris.metrics()?.total(WRITTEN), self.mark()?);
        let began = Instant::now();
        consent(&self.paris.cluster, &both)?;
        text(wait_until(SOON, "the first write", || {
            let now = self.paris.metrics()?.total(WRITTEN);
            check(now > writes + 1, || format!("{now} writes"))
        }))?;
        let first = Instant::now();
        let ended = self.imported(&self.paris, [self.count; 3])?;
        let written = self.paris.metrics()?.total(WRITTEN) - writes;
        figure(&format!(
            "{} imported {:.1} s after consent, the first after {:.1} s; {written} writes",
            self.count,
            (ended - began).as_secs_f64(),
            (first - began).as_secs_f64(),
        ));
        if self.mark()? != mark {
            figure("osaka was lost by itself meanwhile: the machine does too much else");
        }
        self.are_right()?;
        let told = self.counted()?.since(&before);
        figure(&format!("for that: {told}"));
        goals.at_most("the first snapshot, bytes", told.told() as f64, SNAPSHOT_BYTES);
        Ok(written as f64 / (ended - first).as_secs_f64())
    }

    /// All imports are ready, and all endpoints are there.
    fn are_right(&self) -> Outcome {
        let list = |at: usize| self.paris.client.json(&KINDS[at].replace("{}", CROWD));
        let imports = list(2)?;
        let is_ready = |import: &&Value| holds(import, "Ready", "True");
        let ready = imports["items"].as_array().into_iter().flatten().filter(is_ready).count();
        let slices = list(1)?;
        let slices = slices["items"].as_array().into_iter().flatten();
        let endpoints: usize =
            slices.filter_map(|slice| slice["endpoints"].as_array()).map(Vec::len).sum();
        check(ready == self.count && endpoints == ENDPOINTS * self.count, || {
            format!("{ready} imports are ready, with {endpoints} endpoints")
        })
    }

    fn counted(&self) -> Result<Counted, String> {
        Ok(Counted {
            told: self.osaka.metrics()?.by(TOLD, "answer"),
            heard: self.paris.metrics()?.by(HEARD, "answer"),
            wan: wan_bytes(self.lab)?,
            writes: [self.paris.api_writes()?, self.osaka.api_writes()?],
        })
    }

    /// Nothing is left to do in any cluster.
    fn settled(&self) -> Outcome {
        for side in self.sides() {
            text(wait_until(SOON, &format!("quiet in {}", name(side)), || {
                let waiting = side.metrics()?.total(WAITING);
                check(waiting == 0, || format!("{waiting} services and objects wait"))
            }))?;
        }
        Ok(())
    }

    /// Changes one endpoint after the other, and looks at the dearest.
    fn changes(&self, goals: &mut Goals) -> Outcome {
        let (mut bytes, mut writes) = (Vec::new(), Vec::new());
        let (mut number, mut disturbed) = (0, 0);
        while bytes.len() < CHANGES {
            let (before, mark) = (self.counted()?, self.mark()?);
            // Every second one is back as it was.
            self.change(number / 2, number % 2 == 1)?;
            self.settled()?;
            let cost = self.counted()?.since(&before);
            number += 1;
            if self.mark()? != mark {
                disturbed += 1;
                check(disturbed <= CHANGES, || "osaka is lost again and again".to_owned())?;
                continue;
            }
            bytes.push(cost.told());
            // One of them was ours.
            let all = cost.writes.iter().map(sum).sum::<u64>().saturating_sub(1);
            if all as f64 > CHANGE_WRITES {
                figure(&format!("a dear change: {cost}"));
            }
            writes.push(all);
        }
        figure(&format!(
            "changes of an endpoint: {bytes:?} bytes, {writes:?} writes; {disturbed} more while osaka was lost by itself"
        ));
        let most = |of: &[u64]| of.iter().max().copied().unwrap_or_default() as f64;
        goals.at_most("a change of an endpoint, the most bytes", most(&bytes), CHANGE_BYTES);
        let what = "a change of an endpoint, the most writes of both clusters' API";
        goals.at_most(what, most(&writes), CHANGE_WRITES);
        Ok(())
    }

    /// Another one than before where osaka was lost for a moment, as on a machine that does much else: then all its slices
    /// are written anew.
    fn mark(&self) -> Result<Value, String> {
        let slices = self.paris.slices(BARE, SCOUT)?;
        Ok(slices.first().map(|slice| slice["metadata"]["uid"].clone()).unwrap_or_default())
    }

    /// Has one endpoint of a Service ready or not, and waits until paris knows.
    fn change(&self, number: usize, ready: bool) -> Outcome {
        let name = objects::name(number);
        let addresses = objects::addresses(self.osaka.cluster.plan(), number);
        let all = [true, true, ready];
        let slice = objects::slice(CROWD, &name, &addresses, &all);
        let patch = json!({
            "apiVersion": slice["apiVersion"], "kind": slice["kind"],
            "metadata": slice["metadata"], "endpoints": slice["endpoints"],
        });
        self.osaka.client.act(Do::Merge(patch))?;
        for side in [&self.osaka, &self.paris] {
            let what =
                format!("the endpoint of {name} in {}, ready: {ready}", crate::scale::name(side));
            text(wait_until(SOON, &what, || {
                let slices = side.slices(CROWD, &name)?;
                let endpoints = slices.iter().filter_map(|slice| slice["endpoints"].as_array());
                let is_ready = |one: &&Value| one["conditions"]["ready"] == true;
                let found = endpoints.flatten().filter(is_ready).count();
                check(found == ENDPOINTS - usize::from(!ready), || format!("{slices:?}"))
            }))?;
        }
        Ok(())
    }

    /// Cuts the clusters apart, and looks at what is told when they meet again.
    fn reconnects(&self, goals: &mut Goals) -> Outcome {
        let before = self.counted()?;
        let restore = || join_again(self.lab);
        cut_apart(self.lab)?;
        let fault = Fault(&restore);
        text(carrick::wait_condition(&self.paris.cluster, "osaka", "Ready", "False", SOON))?;
        let cut = Instant::now();
        let gone = self.imported(&self.paris, [self.count, 0, self.count])?;
        figure(&format!(
            "all slices of the lost cluster gone {:.1} s later",
            (gone - cut).as_secs_f64()
        ));
        drop(fault);
        let back = Instant::now();
        self.is_trusted()?;
        let there = self.imported(&self.paris, [self.count; 3])?;
        let told = self.counted()?.since(&before);
        figure(&format!(
            "all there {:.1} s after the reconnection: {told}",
            (there - back).as_secs_f64()
        ));
        let pieces = told.told.get("pieces").copied().unwrap_or_default();
        goals.at_most("pieces of a snapshot after a reconnection, bytes", pieces as f64, 0.0);
        goals.at_most("all that was told meanwhile, bytes", told.told() as f64, RECONNECT_BYTES);
        Ok(())
    }

    /// Takes all of it away.
    fn remove(&self) -> Outcome {
        for side in self.sides() {
            let delete = ["delete", "namespace", "--ignore-not-found", "--wait=false", CROWD, BARE];
            text(side.cluster.kubectl(&delete))?;
        }
        for side in self.sides() {
            let what = format!("the end of the namespaces in {}", name(side));
            let mut told = Instant::now();
            text(wait_until(2 * self.limit(), &what, || {
                let get = ["get", "namespaces", "--ignore-not-found", "--output=name", CROWD, BARE];
                let left = text(side.cluster.kubectl(&get))?;
                if told.elapsed() >= TELL {
                    told = Instant::now();
                    let left = KINDS.map(|kind| side.objects(kind, CROWD).unwrap_or_default());
                    figure(&format!("{}: {left:?} are left", name(side)));
                }
                check(left.trim().is_empty(), || left)
            }))?;
            consent(&side.cluster, "null")?;
        }
        self.settled()
    }
}

fn name(side: &Side) -> &str {
    &side.cluster.plan().name
}

/// What was counted of both clusters.
struct Counted {
    told: Counts,
    heard: Counts,
    wan: u64,
    writes: [Counts; 2],
}

impl Counted {
    fn since(&self, before: &Self) -> Self {
        let [paris, osaka] = &self.writes;
        Self {
            told: since(&self.told, &before.told),
            heard: since(&self.heard, &before.heard),
            wan: self.wan.saturating_sub(before.wan),
            writes: [since(paris, &before.writes[0]), since(osaka, &before.writes[1])],
        }
    }

    /// Bytes of answers, in the direction in which the services go.
    fn told(&self) -> u64 {
        sum(&self.told).max(sum(&self.heard))
    }
}

impl std::fmt::Display for Counted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} bytes told {:?}, {} heard {:?}; the network between the clusters carried {} bytes in all; writes in paris {:?}, in osaka {:?}",
            sum(&self.told),
            self.told,
            sum(&self.heard),
            self.heard,
            self.wan,
            self.writes[0],
            self.writes[1]
        )
    }
}
