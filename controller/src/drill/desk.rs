//! All drills: whose turn it is, what became of them, and what is to be written of it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use carrick_crds::drill::{Drill, FailoverDrillStatus, Phase, Verdict};
use jiff::Timestamp;

use super::door::Door;
use super::guard::{self, Sight};
use super::run::{Run, Seen};
use super::{DrillObject, orders, paths, status};
use crate::gate::Gate;
use crate::plan::Plan;
use crate::world::{Now, World};
use crate::writer::News;

/// Between two writes while only figures change.
const FIGURES: Duration = Duration::from_secs(1);
/// Between two looks while a drill runs.
const LOOK: Duration = Duration::from_millis(500);

/// All drills.
#[derive(Debug, Default)]
pub struct Drills {
    run: Option<Run>,
    /// The gate to the API server, for the fault that hits this controller itself.
    door: Door,
    /// What was left for writing, by name.
    told: BTreeMap<String, Told>,
    /// When a fault of ours last ended. The object that says so may be gone.
    over: Option<Instant>,
    /// How many were deleted while they ran, since somebody asked.
    deleted: usize,
}

#[derive(Debug)]
struct Told {
    uid: String,
    status: FailoverDrillStatus,
    at: Instant,
}

/// A status to be written.
#[derive(Debug)]
pub struct Leave {
    /// The object's name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Its status.
    pub status: Box<FailoverDrillStatus>,
    /// What to tell.
    pub news: Vec<News>,
}

impl Drills {
    /// None yet. A drill whose fault is that may shut `gate`.
    pub fn new(gate: Gate) -> Self {
        Self { door: Door::new(gate), ..Self::default() }
    }

    /// Brings all drills in line with what is seen. Returns what is to be written, and when to look again.
    pub fn step(&mut self, sight: Sight<'_>, now: Now) -> (Vec<Leave>, Option<Instant>) {
        let objects = &sight.world.drills;
        self.told.retain(|name, told| objects.get(name).is_some_and(|o| o.uid == told.uid));
        let stays = |run: &Run| {
            objects.get(&run.name).is_some_and(|object| object.uid == run.uid && !object.deleting)
        };
        if let Some(gone) = self.run.take_if(|run| !stays(run)) {
            tracing::warn!(drill = gone.name, "the drill was deleted; its fault ends");
            self.door.open(&gone.uid);
            self.note_end(&gone, now);
            self.deleted += 1;
        }
        let mut leave = Vec::new();
        let mut wake = None;
        if let Some(run) = &mut self.run {
            let mut seen = seen(sight, run);
            let written = objects.get(&run.name).map(|object| object.status.phase);
            let own = self.door.state(run, written, now);
            seen.faults.extend(own.map(|state| (guard::CONTROLLER.to_owned(), state)));
            run.step(seen, now);
            wake = Some((now.instant + LOOK).min(run.deadline().max(now.instant + LOOK / 10)));
        }
        let (begun, waiting) = self.next(sight, now, &mut wake);
        self.run = self.run.take().or(begun);
        for (name, status) in waiting {
            leave.extend(self.tell(objects, &name, status, now));
        }
        if let Some(run) = self.run.clone() {
            let before = self.told.get(&run.name).map(|told| &told.status);
            let before = before.or(objects.get(&run.name).map(|object| &object.status));
            let status = status::of(&run, before.unwrap_or(&FailoverDrillStatus::default()));
            if run.end.is_some() {
                self.door.open(&run.uid);
                self.note_end(&run, now);
                self.run = None;
                wake = Some(now.instant + LOOK);
            }
            leave.extend(self.tell(objects, &run.name, status, now));
        }
        (leave, wake)
    }

    /// Adds what the drill that runs needs to what everybody is told.
    pub fn add_orders(&self, plan: &mut Plan) {
        if let Some(run) = &self.run {
            orders::add(plan, run);
        }
    }

    /// The cool-down begins, if there is something to cool down from.
    fn note_end(&mut self, run: &Run, now: Now) {
        if run.began(Phase::Injecting).is_some() {
            self.over = Some(now.instant);
        }
    }

    /// How many drills were deleted while they ran, since this was asked last.
    pub fn take_deleted(&mut self) -> usize {
        std::mem::take(&mut self.deleted)
    }

    /// Whether one runs.
    pub fn is_running(&self) -> bool {
        self.run.is_some()
    }

    /// What is known of a drill, which may not have been written yet.
    fn known<'a>(&'a self, object: &'a DrillObject) -> &'a FailoverDrillStatus {
        let told = self.told.get(&object.name).filter(|told| told.uid == object.uid);
        told.map_or(&object.status, |told| &told.status)
    }

    /// The drill whose turn it is, if none runs, and the statuses of those that wait or end without one.
    fn next(
        &self,
        sight: Sight<'_>,
        now: Now,
        wake: &mut Option<Instant>,
    ) -> (Option<Run>, Vec<(String, FailoverDrillStatus)>) {
        let mut objects: Vec<&DrillObject> =
            sight.world.drills.values().filter(|object| !object.deleting).collect();
        objects.sort_by_key(|object| (object.created, object.name.clone()));
        let (mut begun, mut statuses): (Option<Run>, Vec<_>) = (None, Vec::new());
        let mut open: Vec<&DrillObject> = Vec::new();
        let runs = |uid: &str| self.run.as_ref().is_some_and(|run| run.uid == uid);
        for object in objects {
            let known = self.known(object);
            if known.verdict.is_some() || runs(&object.uid) {
                continue;
            }
            if known.phase != Phase::Pending && begun.is_none() && self.run.is_none() {
                match resume(sight, object, known, now) {
                    Ok(run) => begun = Some(run),
                    Err(why) => {
                        let status = status::ended(known, Verdict::Aborted, why, now.wall);
                        statuses.push((object.name.clone(), status));
                    }
                }
                continue;
            }
            open.push(object);
        }
        let cool = self.cool_at(sight.world, now);
        // Whose turn is first, by peering.
        let mut first: BTreeMap<String, String> = BTreeMap::new();
        for object in open {
            let known = self.known(object);
            let busy = begun.as_ref().or(self.run.as_ref());
            first.extend(busy.map(|run| (run.drill.peering.clone(), run.name.clone())));
            let why = match (busy, read(sight.world, object)) {
                (_, Err(why)) => Err(why),
                (_, Ok(drill)) if first.contains_key(&drill.peering) => Err(format!(
                    "drill {} of ClusterPeering {:?} is not over, and there is one at a time; make \
                     another afterwards",
                    first[&drill.peering], drill.peering
                )),
                (Some(run), Ok(drill)) => {
                    first.insert(drill.peering, object.name.clone());
                    Ok(format!("waits for the end of drill {}", run.name))
                }
                (None, Ok(drill)) if cool > now.instant => {
                    first.insert(drill.peering, object.name.clone());
                    *wake = Some(wake.map_or(cool, |at| at.min(cool)));
                    Ok("waits until the cool-down after the drill before is over".to_owned())
                }
                (None, Ok(drill)) => match guard::choose(sight, &drill) {
                    Ok(choice) => {
                        begun = Some(Run::begin(&object.name, &object.uid, drill, choice, now));
                        continue;
                    }
                    Err(why) => Err(why),
                },
            };
            let status = match why {
                Ok(why) => status::waiting(known, why, now.wall),
                Err(why) => status::ended(known, Verdict::Refused, why, now.wall),
            };
            statuses.push((object.name.clone(), status));
        }
        (begun, statuses)
    }

    /// When the next drill may begin.
    fn cool_at(&self, world: &World, now: Now) -> Instant {
        let ends = world.drills.values().filter_map(|object| {
            let known = self.known(object);
            let refused = known.verdict == Some(Verdict::Refused);
            let last = known.phases.last().filter(|last| last.phase == Phase::Done && !refused)?;
            last.at.parse::<Timestamp>().ok()
        });
        let cool = Duration::from_secs(world.settings.drills.cool_down_seconds.into());
        let written = ends.max().map_or(now.instant, |end| {
            // A time to come is a clock that was set back.
            let passed = Duration::try_from(now.wall.duration_since(end)).unwrap_or(cool);
            now.instant + cool.saturating_sub(passed)
        });
        self.over.map_or(written, |end| written.max(end + cool))
    }

    /// Leaves a status for writing, if it is worth it.
    fn tell(
        &mut self,
        objects: &BTreeMap<String, DrillObject>,
        name: &str,
        status: FailoverDrillStatus,
        now: Now,
    ) -> Option<Leave> {
        let object = objects.get(name)?;
        let told = self.told.get(name);
        let before = told.map_or(&object.status, |told| &told.status);
        let substance = (before.phase, before.verdict) != (status.phase, status.verdict);
        let soon = told.is_some_and(|told| now.instant < told.at + FIGURES);
        if *before == status || (!substance && soon) {
            return None;
        }
        let news = news(before, &status);
        let (uid, at) = (object.uid.clone(), now.instant);
        self.told.insert(name.to_owned(), Told { uid: uid.clone(), status: status.clone(), at });
        Some(Leave { name: name.to_owned(), uid, status: Box::new(status), news })
    }
}

/// The spec, known to be good and within the operator's limits.
fn read(world: &World, object: &DrillObject) -> Result<Drill, String> {
    let spec = object.spec.as_ref().map_err(Clone::clone)?;
    let drill = Drill::parse(spec).map_err(|error| error.to_string())?;
    guard::within(&world.settings.drills, &spec.fault.kind, &drill)?;
    Ok(drill)
}

/// Goes on with what another controller began.
fn resume(
    sight: Sight<'_>,
    object: &DrillObject,
    known: &FailoverDrillStatus,
    now: Now,
) -> Result<Run, String> {
    let lost = |why: String| format!("the controller began anew and cannot go on: {why}");
    let mut drill = read(sight.world, object).map_err(lost)?;
    // The same gateway as before, and no longer asked whether the peering is well: the fault may act.
    let held = known.injected.clone().unwrap_or_default();
    let wanted = drill.gateway.clone();
    if !held.gateway.is_empty() {
        drill.gateway = Some(held.gateway.clone());
    }
    if !held.node.is_empty() {
        drill.node = Some(held.node.clone());
    }
    let asked = Drill { allow_outage: true, ..drill.clone() };
    let calm = Sight { ready: &|_| true, ..sight };
    let mut choice = guard::choose(calm, &asked).or_else(|why| match held.gateway_uid.as_str() {
        "" => Err(why),
        // A gateway that is hit may have no tunnel just now.
        uid => guard::held(calm, &asked, &held.gateway, uid),
    });
    if let Ok(choice) = &mut choice
        && choice.gateway.as_ref().is_some_and(|gateway| gateway.uid != held.gateway_uid)
    {
        return Err(lost(format!("gateway {} is another one by now", held.gateway)));
    }
    drill.gateway = wanted;
    let run = Run::resume(&object.name, &object.uid, drill, choice.map_err(lost)?, known, now);
    run.ok_or_else(|| lost("its status cannot be read".to_owned()))
}

/// What members say of the drill, and whether it may go on.
fn seen(sight: Sight<'_>, run: &Run) -> Seen {
    let world = sight.world;
    let streams = world.agents.iter().filter_map(|(name, member)| {
        let state = member.state.as_ref()?.drill.as_deref()?;
        (state.id == run.uid).then(|| (name.to_string(), state.clone()))
    });
    let gateways = world.gateways.iter().filter_map(|(name, member)| {
        let state = member.state.as_ref()?.drill.as_deref()?;
        (state.id == run.uid).then(|| (name.to_string(), state.clone()))
    });
    let agents = world.agents.iter().filter_map(|(name, member)| {
        let state = member.state.as_ref()?.fault.as_deref()?;
        (state.id == run.uid).then(|| (name.to_string(), state.clone()))
    });
    Seen {
        streams: streams.collect(),
        faults: gateways.chain(agents).collect(),
        paths: paths::samples(sight, &run.choice.cluster, &run.choice),
        hindrance: guard::goes_on(sight, &run.drill).err(),
        failed: guard::failed(sight, &run.drill, &run.choice),
    }
}

/// Where a fault acts, where that is one gateway or node.
fn at(status: &FailoverDrillStatus) -> String {
    let injected = status.injected.clone().unwrap_or_default();
    match (injected.gateway.as_str(), injected.node.as_str()) {
        ("", "") => String::new(),
        ("", node) => format!(" at the agent of node {node}"),
        (gateway, _) => format!(" at {gateway}"),
    }
}

/// What is worth an Event.
fn news(before: &FailoverDrillStatus, now: &FailoverDrillStatus) -> Vec<News> {
    if (before.phase, before.verdict) == (now.phase, now.verdict) {
        return Vec::new();
    }
    let reasons = now.reasons.join("; ");
    let (reason, message) = match now.verdict {
        Some(verdict) => (verdict.as_str(), reasons),
        None => (
            now.phase.as_str(),
            match now.phase {
                Phase::Pending => reasons,
                Phase::Baseline => "streams run without a fault".to_owned(),
                Phase::Arming => "streams count anew".to_owned(),
                Phase::Injecting => format!("the fault acts{}", at(now)),
                Phase::Recovering => "the fault is over".to_owned(),
                Phase::Done => "done".to_owned(),
            },
        ),
    };
    let good = matches!(now.verdict, None | Some(Verdict::Passed));
    vec![News { good, condition: "Drill", reason: reason.to_owned(), message }]
}
