//! A cluster's part of a service: its endpoints, and the way to them.

use std::net::IpAddr;

use carrick_crds::{ClusterPeering, ServiceImport};
use carrick_model::Prefix;

use super::{Scene, unknown, wrong};
use crate::check::{Finding, Outcome, Step, peering};
use crate::service::found::{self, Endpoint, endpoints, names_cluster};
use crate::state::Listed;

/// A step for each cluster that exports the service.
pub fn steps(scene: &Scene, import: &ServiceImport) -> Vec<Step> {
    let clusters: Vec<&str> = found::clusters(import).collect();
    if clusters.is_empty() {
        let outcome = wrong(
            format!("status.clusters of ServiceImport {} names none", scene.service()),
            "wait some seconds; if it stays so: carrick check",
        );
        return vec![Step { name: "Clusters".to_owned(), outcome }];
    }
    let step = |id: &str| Step { name: format!("Cluster {id}"), outcome: look(scene, id) };
    clusters.into_iter().map(step).collect()
}

fn look(scene: &Scene, id: &str) -> Outcome {
    let slices = match &scene.services.slices {
        Ok(slices) => slices,
        Err(error) => return Outcome::Wrong(error.into()),
    };
    let all = endpoints(slices, &scene.namespace, &scene.name);
    let own: Vec<Endpoint> = all
        .into_iter()
        .filter(|(label, _)| names_cluster(label, id))
        .flat_map(|(_, endpoints)| endpoints)
        .collect();
    let identity = match &scene.state.identity {
        Ok(identity) => identity.as_ref().and_then(|identity| identity.status.as_ref()),
        Err(error) => return unknown("the way to it", error),
    };
    if identity.is_some_and(|status| status.cluster_id == id) {
        return some_ready(scene, &own, "this cluster");
    }
    match &scene.state.peerings {
        Ok(peerings) => remote(scene, id, &own, peerings),
        Err(error) => unknown("the way to it", error),
    }
}

fn remote(scene: &Scene, id: &str, own: &[Endpoint], peerings: &[Listed]) -> Outcome {
    let of = |listed: &&Listed| listed.object.as_ref().is_ok_and(|o| o.spec.cluster_id == id);
    let Some(listed) = peerings.iter().find(of) else {
        return wrong(
            format!("no ClusterPeering has spec.clusterID {id}: nothing new is heard of it"),
            format!(
                "carrick --context {id} invite prints one; without it what is imported from there goes"
            ),
        );
    };
    let Ok(object) = &listed.object else { return Outcome::Skipped };
    let outcome = peering::look(&scene.state, object);
    let (mut warning, flows) = match outcome {
        Outcome::Wrong(found) => {
            let what = format!("ClusterPeering {}: {}", listed.name, found.what);
            return wrong(what, found.remedy);
        }
        Outcome::Warning(found) => (Some(found), false),
        Outcome::Good(_) | Outcome::Skipped => (None, true),
    };
    if let Some(outside) = outside(object, own) {
        return outside;
    }
    let way = format!("cluster {id} by {}", tunnels(object));
    match (some_ready(scene, own, &way), warning.take()) {
        (Outcome::Good(good), Some(found)) if !flows => {
            Outcome::Warning(Finding::new(format!("{good}; {}", found.what), found.remedy))
        }
        (outcome, _) => outcome,
    }
}

/// An endpoint that is not where the peer's pods may be.
fn outside(peering: &ClusterPeering, own: &[Endpoint]) -> Option<Outcome> {
    let prefixes = peering.status.as_ref()?.prefixes.as_ref()?;
    let routed: Vec<Prefix> = prefixes.imported.iter().filter_map(|p| p.parse().ok()).collect();
    let is_routed = |endpoint: &&Endpoint| {
        let address = endpoint.address.parse::<IpAddr>();
        address.is_ok_and(|address| routed.iter().any(|prefix| prefix.contains(address)))
    };
    let outside = own.iter().find(|endpoint| !is_routed(endpoint))?;
    Some(wrong(
        format!(
            "endpoint {} is in none of the prefixes that are routed there ({})",
            outside.address,
            prefixes.imported.join(", ")
        ),
        format!(
            "carrick status shows which prefixes are refused; spec.accept.podRanges of the ClusterPeering for {} says \
             which are taken",
            peering.spec.cluster_id
        ),
    ))
}

/// The tunnels that carry traffic, for people.
fn tunnels(peering: &ClusterPeering) -> String {
    let tunnels =
        peering.status.as_ref().map(|status| status.tunnels.as_slice()).unwrap_or_default();
    let up: Vec<_> = tunnels.iter().filter(|tunnel| tunnel.state == "Up").collect();
    let mut gateways: Vec<&str> = up.iter().map(|tunnel| tunnel.gateway.as_str()).collect();
    gateways.sort_unstable();
    gateways.dedup();
    let fastest = up.iter().filter_map(|tunnel| tunnel.rtt_milliseconds).min();
    let rtt = fastest.map(|rtt| format!(", {rtt} ms")).unwrap_or_default();
    format!("{} of {} tunnels of {}{rtt}", up.len(), tunnels.len(), gateways.join(" "))
}

fn some_ready(scene: &Scene, own: &[Endpoint], place: &str) -> Outcome {
    let ready: Vec<&str> = own.iter().filter(|e| e.ready).map(|e| e.address.as_str()).collect();
    if let Some(first) = ready.first() {
        let more = if ready.len() > 1 { ", …" } else { "" };
        return Outcome::Good(format!(
            "{} of {} endpoints ready in {place}: {first}{more}",
            ready.len(),
            own.len()
        ));
    }
    let policy = scene.import().and_then(found::policy);
    if let (true, Some(policy)) = (own.is_empty(), policy) {
        let why = format!("by the policy {policy}, or for lack of a ready pod");
        return Outcome::Good(format!("no endpoint of {place} is used, {why}"));
    }
    let what = match own.len() {
        0 => format!(
            "no endpoint of {place} is used: no pod is ready, or it is not reached for long enough yet"
        ),
        all => format!("none of {all} endpoints is ready in {place}"),
    };
    let pods = format!("in that cluster: kubectl -n {} get endpointslices,pods", scene.namespace);
    Outcome::Warning(Finding::new(what, pods))
}
