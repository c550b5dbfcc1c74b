//! What is to be written for one service: what is wanted, against what is there. Pure.

use std::collections::{BTreeMap, BTreeSet};

use carrick_crds::service::GROUP;
use carrick_model::service::ServiceKind;
use carrick_model::{ClusterId, ExportedService, Family, ServiceName, ServicePolicy};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::choice::choose;
use super::conditions::{Outcome, Said, changed, of_export, of_import, of_policy};
use super::discover::{Discovered, Unexportable};
use super::facts::ExportFacts;
use super::merge::{Merged, merge};
use super::names::{SOURCE_CLUSTER, cluster_label, derived};
use super::render::{Addresses, Scene, What, render, seal};
use super::wish::granted;
use super::{Access, RemoteServices};

mod held;

pub use held::{Content, Held, Kind, Objects, shows};

/// A change of an object, which is in it as a value or, while it waits, as text.
#[derive(Debug, Clone, PartialEq)]
pub enum Write<T = Value> {
    /// It is to be so. The UID is that of the object that is there, and ours.
    Apply(T, Option<String>),
    /// Its status is to be so.
    Status(T),
    /// The one of this UID is to go.
    Delete(String),
}

impl<T> Write<T> {
    /// The same, with its object in another form.
    pub fn map<U>(self, form: impl FnOnce(T) -> U) -> Write<U> {
        match self {
            Self::Apply(object, uid) => Write::Apply(form(object), uid),
            Self::Status(object) => Write::Status(form(object)),
            Self::Delete(uid) => Write::Delete(uid),
        }
    }
}

/// What is known of a service.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// Its name.
    pub name: &'a ServiceName,
    /// This cluster.
    pub own: &'a ClusterId,
    /// Our ServiceExport.
    pub export: Option<&'a ExportFacts>,
    /// What it exports.
    pub discovered: Option<&'a Result<Discovered, Unexportable>>,
    /// The families that Services can have here; none where that is not known.
    pub families: &'a [Family],
    /// All other clusters.
    pub remotes: &'a BTreeMap<ClusterId, RemoteServices>,
    /// Its namespace exists, and is not about to go.
    pub namespace: bool,
    /// The objects that are there.
    pub held: &'a Objects,
    /// Writes that failed, with what was said.
    pub troubles: &'a BTreeMap<What, String>,
    /// Now.
    pub now: Timestamp,
}

/// What is to be done about a service.
#[derive(Debug, Default, PartialEq)]
pub struct Planned {
    /// What is to be written.
    pub writes: BTreeMap<What, Write>,
    /// Objects that are as they should be, with the digests of that.
    pub settled: Vec<(What, String)>,
}

/// Makes the plan.
pub fn plan(view: View<'_>) -> Planned {
    let waiting = waiting(view);
    let stand_in = view.held.import.as_ref().map(|import| stand_in(view.name, import));
    let silent = stand_in.as_ref().filter(|_| !waiting.is_empty());
    let silent = silent.and_then(|stand_in| Some((waiting.values().next()?.0, stand_in)));
    let merged = if view.namespace { merge(exports(view).chain(silent)) } else { None };
    let blocked = view.held.import.as_ref().is_some_and(|import| !import.ours);
    let mut out = Planned::default();
    let mut wanted = match &merged {
        Some(merged) if !blocked => objects(view, merged),
        _ => BTreeMap::new(),
    };
    // What was imported from a cluster that has not spoken yet stays as it is, but for endpoints out of reach.
    let kept = |what: &What| match what {
        What::Slice(name) => {
            let source = view.held.slices.get(name).map(|held| held.source.as_str());
            source.is_some_and(|source| waiting.get(source).is_some_and(|(_, reached)| *reached))
        }
        _ => !waiting.is_empty(),
    };
    wanted.retain(|what, _| !kept(what));
    let taken = view.held.derived.as_ref().is_some_and(|service| !service.ours);
    if taken && merged.as_ref().is_some_and(|merged| merged.kind == ServiceKind::ClusterSetIp) {
        wanted.retain(|what, _| *what == What::Import);
    }
    differ(view, &wanted, &mut out);
    if awaits_address(view, &out) {
        out.writes.remove(&What::Import);
    }
    let there = |cluster: &&&ClusterId| access(view, cluster) == Access::Full;
    let reached = merged.iter().flat_map(|merged| merged.clusters.keys()).filter(there);
    let reached: BTreeSet<String> = reached.map(|cluster| cluster_label(cluster)).collect();
    surplus(view, &wanted, kept, &reached, &mut out);
    if waiting.is_empty() {
        let obstacle = obstacle(view, merged.as_ref(), taken);
        if let (Some(merged), false) = (&merged, blocked) {
            import_status(view, merged, obstacle.as_deref(), &mut out);
        }
        export_status(view, merged.as_ref(), blocked, &mut out);
    }
    out
}

/// What all clusters export under this name, as far as is known.
fn exports<'a>(view: View<'a>) -> impl Iterator<Item = (&'a ClusterId, &'a ExportedService)> {
    let own = view.discovered.and_then(|found| found.as_ref().ok());
    let remote = view.remotes.iter().filter(move |(cluster, _)| *cluster != view.own);
    let remote = remote.filter_map(move |(cluster, remote)| {
        Some((cluster, remote.services.as_ref()?.get(view.name)?.as_ref()))
    });
    own.map(|own| (view.own, &own.service)).into_iter().chain(remote)
}

/// Clusters, by label, from which it was imported and that have not spoken since we began; and whether packets reach them.
fn waiting(view: View<'_>) -> BTreeMap<String, (&ClusterId, bool)> {
    let before = view.held.import.iter().filter(|import| import.ours);
    let before: BTreeSet<&str> =
        before.flat_map(|import| &import.clusters).map(String::as_str).collect();
    let silent = view
        .remotes
        .iter()
        .filter(|(cluster, remote)| remote.services.is_none() && before.contains(cluster.as_str()));
    let reached = |remote: &RemoteServices| remote.access != Access::Lost;
    silent.map(|(cluster, remote)| (cluster_label(cluster), (cluster, reached(remote)))).collect()
}

/// What decides while some cluster has not spoken: what was decided before, so that those who have spoken keep within it.
fn stand_in(name: &ServiceName, import: &Held) -> ExportedService {
    let kind = if import.headless { ServiceKind::Headless } else { ServiceKind::ClusterSetIp };
    ExportedService {
        ports: import.ports.clone(),
        policy: import.exported_policy.clone(),
        ..ExportedService::bare(name.clone(), 0, kind)
    }
}

fn objects(view: View<'_>, merged: &Merged<'_>) -> BTreeMap<What, Value> {
    let none = (Addresses::default(), BTreeMap::new());
    let places = view.discovered.and_then(|found| found.as_ref().ok()).map(|found| &found.places);
    let derived = view.held.derived.as_ref().filter(|derived| derived.ours);
    let families = families(merged, view.families);
    let scene = Scene {
        name: view.name,
        merged,
        families: &families,
        addresses: derived.map_or(&none.0, |derived| &derived.addresses),
        own: view.own,
        places: places.unwrap_or(&none.1),
    };
    let chosen = choose(merged, &policy(view, merged), view.own, |cluster| access(view, cluster));
    render(scene, &chosen)
}

/// Those of a service's families that Services can have here; where that is none of them all, which the API server refuses
/// with the reason.
fn families(merged: &Merged<'_>, here: &[Family]) -> Vec<Family> {
    let possible = |family: &&Family| here.is_empty() || here.contains(family);
    let families: Vec<Family> = merged.families.iter().filter(possible).copied().collect();
    if families.is_empty() { merged.families.to_vec() } else { families }
}

/// Which clusters serve here: this cluster's own wish counts more than the exports'.
fn policy(view: View<'_>, merged: &Merged<'_>) -> ServicePolicy {
    match view.held.import.as_ref().map(|import| &import.policy) {
        Some(wish @ Some(_)) => granted(wish),
        _ => merged.policy.clone(),
    }
}

/// Whether packets get to a cluster.
fn access(view: View<'_>, cluster: &ClusterId) -> Access {
    if cluster == view.own {
        return Access::Full;
    }
    view.remotes.get(cluster).map_or(Access::Lost, |remote| remote.access)
}

/// What is wanted and not so.
fn differ(view: View<'_>, wanted: &BTreeMap<What, Value>, out: &mut Planned) {
    for (what, object) in wanted {
        match view.held.get(what) {
            Some(held) if held.ours && held.content.is(object) => {
                out.settled.push((what.clone(), seal(object).to_owned()));
            }
            Some(held) if held.ours => {
                let write = Write::Apply(object.clone(), Some(held.uid.clone()));
                out.writes.insert(what.clone(), write);
            }
            // Somebody else's: it stays.
            Some(_) => {}
            None => {
                out.writes.insert(what.clone(), Write::Apply(object.clone(), None));
            }
        }
    }
}

/// Whether the import is new and its address is on the way: it is then written once, with it, and so is its status. Where
/// the address does not come, the import is to say so.
fn awaits_address(view: View<'_>, out: &Planned) -> bool {
    view.held.import.is_none()
        && matches!(out.writes.get(&What::Derived), Some(Write::Apply(_, None)))
        && !view.troubles.contains_key(&What::Derived)
}

/// What is ours and no longer wanted. An EndpointSlice goes after those that take its place have come: those of its cluster;
/// and of all, where its cluster could serve on and merely is not to.
fn surplus(
    view: View<'_>,
    wanted: &BTreeMap<What, Value>,
    kept: impl Fn(&What) -> bool,
    reached: &BTreeSet<String>,
    out: &mut Planned,
) {
    let coming: BTreeSet<String> = out
        .writes
        .iter()
        .filter(|(what, _)| matches!(what, What::Slice(_)) && !view.troubles.contains_key(*what))
        .filter_map(|(_, write)| match write {
            Write::Apply(slice, _) => {
                slice["metadata"]["labels"][SOURCE_CLUSTER].as_str().map(str::to_owned)
            }
            _ => None,
        })
        .collect();
    let waits = |held: &Held| {
        coming.contains(&held.source) || !coming.is_empty() && reached.contains(&held.source)
    };
    let extra = view.held.all().filter(|(what, held)| {
        held.ours && !wanted.contains_key(what) && !kept(what) && !waits(held)
    });
    for (what, held) in extra {
        out.writes.insert(what, Write::Delete(held.uid.clone()));
    }
}

/// What keeps the import from being ready.
fn obstacle(view: View<'_>, merged: Option<&Merged<'_>>, taken: bool) -> Option<String> {
    let merged = merged?;
    let failed =
        view.troubles.iter().find(|(what, _)| matches!(what, What::Derived | What::Slice(_)));
    if let Some((what, trouble)) = failed {
        let what = match what {
            What::Slice(name) => format!("EndpointSlice {name}"),
            _ => format!("Service {}", derived(view.name)),
        };
        return Some(format!("{what}: {trouble}"));
    }
    if merged.kind == ServiceKind::Headless {
        return None;
    }
    if taken {
        let name = derived(view.name);
        return Some(format!("Service {name} is in the way: Carrick did not make it"));
    }
    if merged.ports.is_empty() {
        return Some("the service has no ports".to_owned());
    }
    let has = view.held.derived.as_ref().is_some_and(|derived| !derived.addresses.ips.is_empty());
    (!has).then(|| "it has no address yet".to_owned())
}

fn import_status(view: View<'_>, merged: &Merged<'_>, obstacle: Option<&str>, out: &mut Planned) {
    let Some(import) = &view.held.import else { return };
    let clusters: Vec<&str> = merged.clusters.keys().map(|cluster| cluster.as_str()).collect();
    let said: Vec<Said> =
        std::iter::once(of_import(obstacle)).chain(of_policy(&import.policy)).collect();
    let conditions = changed(&said, &import.conditions, import.generation, view.now);
    if conditions.is_none() && import.clusters == clusters {
        return;
    }
    let conditions = match conditions {
        Some(conditions) => conditions,
        None => {
            let ours = |type_: &str| said.iter().any(|said| said.type_ == type_);
            import.conditions.iter().filter(|held| ours(&held.type_)).cloned().collect()
        }
    };
    let clusters: Vec<Value> =
        clusters.iter().map(|cluster| json!({ "cluster": cluster })).collect();
    let status = json!({
        "clusters": clusters, "conditions": conditions, "endpointSliceObjects": "Present",
    });
    let object = status_of("ServiceImport", view.name, &import.uid, &status);
    out.writes.insert(What::ImportStatus, Write::Status(object));
}

fn export_status(view: View<'_>, merged: Option<&Merged<'_>>, blocked: bool, out: &mut Planned) {
    let (Some(export), Some(found)) = (view.export, view.discovered) else { return };
    let obstacle = match view.troubles.get(&What::Import) {
        _ if blocked => {
            Some("the ServiceImport of this name is in the way: Carrick did not make it".to_owned())
        }
        Some(trouble) => Some(format!("ServiceImport: {trouble}")),
        None if !view.namespace => {
            Some("its namespace is about to go: nothing is imported into it".to_owned())
        }
        None => None,
    };
    let said = of_export(Outcome {
        refused: found.as_ref().err().copied(),
        surplus: found.as_ref().map_or(0, |found| found.surplus),
        obstacle: obstacle.as_deref(),
        merged: merged.filter(|_| found.is_ok()),
    });
    let said: Vec<Said> = said.into_iter().chain(of_policy(&export.policy)).collect();
    if let Some(conditions) = changed(&said, &export.conditions, export.generation, view.now) {
        let status = json!({ "conditions": conditions });
        let object = status_of("ServiceExport", view.name, &export.uid, &status);
        out.writes.insert(What::ExportStatus, Write::Status(object));
    }
}

fn status_of(kind: &str, name: &ServiceName, uid: &str, status: &Value) -> Value {
    json!({
        "apiVersion": format!("{GROUP}/v1beta1"),
        "kind": kind,
        "metadata": { "name": name.name(), "namespace": name.namespace(), "uid": uid },
        "status": status,
    })
}

#[cfg(test)]
mod tests;
