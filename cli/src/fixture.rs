//! A cluster for tests: Carrick is well in paris, and traffic flows to and from osaka.

pub mod api;

use carrick_crds::condition::{self, IdentityCondition, PeeringCondition, Verdict};
use carrick_crds::{ClusterIdentity, ClusterPeering, Reason};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::state::{FetchError, FetchErrorKind, Listed, State};

pub const KEY: &str = "ed25519:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
pub const SERVER: &str = "https://192.0.2.9:6443/";

fn object<T: DeserializeOwned>(json: serde_json::Value) -> T {
    serde_json::from_value(json).expect("fixture")
}

/// 2026-01-01 00:01:40 UTC, 100 s after everything in the fixture came true.
pub fn now() -> Timestamp {
    "2026-01-01T00:01:40Z".parse().expect("time")
}

fn then() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().expect("time")
}

pub fn set(conditions: &mut Vec<Condition>, type_: &str, verdict: Verdict) {
    condition::set(conditions, type_, &verdict, Some(1), then());
}

pub fn well() -> State {
    State {
        server: SERVER.to_owned(),
        version: Ok("v1.36.3".to_owned()),
        namespace: "carrick-system".to_owned(),
        missing_kinds: Ok(Vec::new()),
        controller: Ok(Some(object(json!({
            "metadata": { "name": "carrick-controller" },
            "spec": { "replicas": 2, "selector": {}, "template": { "spec": { "containers": [
                { "name": "controller", "image": "reg.example/carrick/controller:0.1.0" },
            ] } } },
            "status": { "readyReplicas": 2 },
        })))),
        lease: Ok(Some(object(json!({
            "metadata": { "name": "carrick-controller" },
            "spec": { "holderIdentity": "carrick-controller-7f6d-x2x4k" },
        })))),
        gateways: Ok(Some(object(json!({
            "metadata": { "name": "carrick-gateway" },
            "spec": { "replicas": 1, "serviceName": "carrick-gateway", "selector": {}, "template": {} },
            "status": { "replicas": 1, "readyReplicas": 1 },
        })))),
        agents: Ok(Some(object(json!({
            "metadata": { "name": "carrick-agent" },
            "status": {
                "currentNumberScheduled": 2, "desiredNumberScheduled": 2,
                "numberMisscheduled": 0, "numberReady": 2,
            },
        })))),
        pods: Ok(Vec::new()),
        identity: Ok(Some(identity())),
        peerings: Ok(vec![Listed { name: "osaka".to_owned(), object: Ok(Box::new(peering())) }]),
    }
}

pub fn identity() -> ClusterIdentity {
    let mut identity: ClusterIdentity = object(json!({
        "apiVersion": "carrick.dev/v1alpha1",
        "kind": "ClusterIdentity",
        "metadata": { "name": "self" },
        "spec": {},
        "status": {
            "clusterID": "paris",
            "identities": [KEY],
            "podRanges": ["10.1.0.0/16"],
            "meshPrefix": "240.1.16.0/20",
            "endpoints": [{ "gateway": "carrick-gateway-0", "address": "192.0.2.1", "port": 31820 }],
            "gateways": [{
                "name": "carrick-gateway-0", "offloads": ["device_tcp", "socket_send"],
                "offloadsOff": ["device_udp"], "shortcut": true,
            }],
            "clusterPeering": {
                "apiVersion": "carrick.dev/v1alpha1",
                "kind": "ClusterPeering",
                "metadata": { "name": "paris" },
                "spec": {
                    "clusterID": "paris",
                    "identities": [KEY],
                    "endpoints": [{ "address": "192.0.2.1", "port": 31820 }],
                    "accept": { "podRanges": ["10.1.0.0/16"] },
                },
            },
        },
    }));
    let conditions = &mut identity.status.as_mut().expect("status").conditions;
    set(
        conditions,
        IdentityCondition::Ready.as_str(),
        Verdict::yes(Reason::InService, "in service"),
    );
    let covered = Verdict::yes(Reason::PodsCovered, "12 pods");
    set(conditions, IdentityCondition::PrefixesCoverPods.as_str(), covered);
    identity
}

pub fn peering() -> ClusterPeering {
    let mut peering: ClusterPeering = object(json!({
        "apiVersion": "carrick.dev/v1alpha1",
        "kind": "ClusterPeering",
        "metadata": {
            "name": "osaka", "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z",
        },
        "spec": {
            "clusterID": "osaka",
            "identities": [KEY],
            "accept": { "podRanges": ["10.2.0.0/16"] },
        },
        "status": {
            "observedGeneration": 1,
            "peer": {
                "release": "0.1.0", "gateways": 1, "connectedGateways": 1, "nodes": 2,
                "meshPrefix": "240.2.16.0/20",
            },
            "tunnels": [{
                "gateway": "carrick-gateway-0", "remoteGateway": "3f2a", "lane": 0, "state": "Up",
                "remoteEndpoint": "198.51.100.7:31821", "rttMilliseconds": 20,
                "lastHandshake": "2026-01-01T00:01:00Z", "pathMTU": 1480,
                "pathMTUState": "verified",
            }],
            "mtu": 1420,
            "prefixes": {
                "imported": ["10.2.0.0/16"],
                "refused": [{ "prefix": "10.9.0.0/16", "reason": "OutsideAccept" }],
                "refusedByPeer": [],
            },
        },
    }));
    let conditions = &mut peering.status.as_mut().expect("status").conditions;
    for (type_, reason, message) in [
        (PeeringCondition::Ready, Reason::Ready, "traffic flows"),
        (PeeringCondition::Accepted, Reason::Accepted, "the spec is good"),
        (PeeringCondition::Connected, Reason::Connected, "1 of 1 gateways"),
        (PeeringCondition::RoutesReady, Reason::RoutesProgrammed, "on 2 of 2 nodes"),
        (PeeringCondition::DataPathReady, Reason::ProbesPass, "from 2 of 2 nodes"),
    ] {
        set(conditions, type_.as_str(), Verdict::yes(reason, message));
    }
    let healthy = Verdict::no(Reason::NodesHealthy, "2 nodes");
    set(conditions, PeeringCondition::NodesDegraded.as_str(), healthy);
    peering
}

/// The only peering of a state.
pub fn peering_of(state: &mut State) -> &mut ClusterPeering {
    let listed = state.peerings.as_mut().expect("peerings").first_mut().expect("a peering");
    listed.object.as_mut().expect("readable")
}

pub fn failure(kind: FetchErrorKind, what: &str, message: &str) -> FetchError {
    FetchError {
        what: what.to_owned(),
        server: SERVER.to_owned(),
        kind,
        message: message.to_owned(),
    }
}
