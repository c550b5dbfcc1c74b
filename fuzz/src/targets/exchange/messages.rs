//! Messages that are nearly right, from an input.

use std::time::Duration;

use carrick_exchange::message::peer::peer_message::Kind;
use carrick_exchange::message::peer::{
    Hello, LaneEntry, PeerMessage, Refusal, Report, TunnelEntry,
};
use carrick_exchange::message::snapshot::{
    ClusterSnapshot, GatewayEntry, NodeEntry, SignedSnapshot,
};
use carrick_exchange::message::{WireEndpoint, WirePrefix};
use carrick_model::{ClusterId, Prefix};

use super::super::input::Input;

/// The most entries of a list.
const MOST: u8 = 12;

fn list<T>(input: &mut Input<'_>, mut one: impl FnMut(&mut Input<'_>) -> T) -> Vec<T> {
    let count = input.byte() % (MOST + 1);
    (0..count).map(|_| one(input)).collect()
}

fn text(input: &mut Input<'_>) -> String {
    let length = usize::from(input.byte() % 24);
    String::from_utf8_lossy(input.bytes(length)).into_owned()
}

/// A prefix, most often without host bits.
fn wire_prefix(input: &mut Input<'_>) -> WirePrefix {
    if let (kind @ 0..=239, Some(prefix)) = (input.byte(), prefix(input)) {
        let mut wire = WirePrefix::from(prefix);
        wire.length += u32::from(kind == 7) * 200;
        return wire;
    }
    let length = usize::from(input.byte() % 18);
    WirePrefix { address: input.bytes(length).to_vec(), length: input.byte().into() }
}

/// A sound prefix.
pub fn prefix(input: &mut Input<'_>) -> Option<Prefix> {
    let kind = input.byte();
    let address = match kind & 1 {
        0 => std::net::IpAddr::from(<[u8; 4]>::try_from(input.bytes(4)).ok()?),
        _ => std::net::IpAddr::from(<[u8; 16]>::try_from(input.bytes(16)).ok()?),
    };
    let most = if kind & 1 == 0 { 32 } else { 128 };
    Some(Prefix::containing(address, input.byte() % (most + 1)))
}

fn endpoint(input: &mut Input<'_>) -> WireEndpoint {
    WireEndpoint { host: text(input), port: input.word() as u32 }
}

/// A snapshot of `peer` for `own`, unless the input wants otherwise.
pub fn snapshot(
    peer: &ClusterId,
    own: &ClusterId,
    now: Duration,
    input: &mut Input<'_>,
) -> ClusterSnapshot {
    let strange = input.byte();
    let name = |id: &ClusterId, input: &mut Input<'_>, bit: u8| match strange & bit {
        0 => id.to_string(),
        _ => text(input),
    };
    let time = |input: &mut Input<'_>, bit: u8, offset: i64| match strange & bit {
        0 => now.as_secs().saturating_add_signed(offset),
        _ => u64::from_be_bytes(input.bytes(8).try_into().unwrap_or([0xff; 8])),
    };
    let mesh = match strange & 16 {
        0 => Some(WirePrefix {
            address: vec![240, input.byte(), input.byte() & 0xf0, 0],
            length: 20,
        }),
        _ => (input.byte() & 1 == 0).then(|| wire_prefix(input)),
    };
    let base = mesh.as_ref().map(|mesh| mesh.address.clone()).unwrap_or_default();
    ClusterSnapshot {
        cluster: name(peer, input, 1),
        audience: name(own, input, 2),
        epoch: u64::from(input.byte() & 3),
        generation: u64::from(input.byte() & 15),
        issued_at: time(input, 4, 0),
        expires_at: time(input, 8, 600),
        gateways: list(input, |input| GatewayEntry {
            name: text(input),
            endpoints: list(input, endpoint),
        }),
        pod_prefixes: list(input, wire_prefix),
        mesh_prefix: mesh,
        nodes: list(input, |input| {
            let mut mesh_address = base.clone();
            if let Some(last) = mesh_address.last_mut() {
                *last = input.byte();
            }
            NodeEntry { name: text(input), mesh_address }
        }),
        consents: strange & 32 == 0,
        drills: strange & 64 == 0,
        drill: text(input),
    }
}

/// A message with a snapshot.
pub fn carrying(signed: SignedSnapshot) -> PeerMessage {
    PeerMessage { kind: Some(Kind::Snapshot(signed)) }
}

/// A first message.
pub fn hello(input: &mut Input<'_>) -> PeerMessage {
    let key = |input: &mut Input<'_>| {
        let kind = input.byte();
        if kind & 1 == 0 { vec![kind; 32] } else { input.bytes(usize::from(kind & 63)).to_vec() }
    };
    let hello = Hello {
        version: (input.byte() % 4).into(),
        oldest_version: (input.byte() % 3).into(),
        release: text(input),
        lanes: list(input, |input| LaneEntry {
            index: (input.byte() % 5).into(),
            public_key: key(input),
            port: input.word() as u32,
        }),
        tunnels: list(input, |input| TunnelEntry {
            lane: (input.byte() % 5).into(),
            incarnation: input.bytes(16).to_vec(),
        }),
    };
    PeerMessage { kind: Some(Kind::Hello(hello)) }
}

/// What a peer says that it does not take.
pub fn report(input: &mut Input<'_>) -> PeerMessage {
    let report = Report {
        epoch: input.byte().into(),
        generation: input.byte().into(),
        refused: list(input, |input| Refusal {
            prefix: (input.byte() & 7 != 0).then(|| wire_prefix(input)),
            reason: text(input),
        }),
        error: text(input),
        error_epoch: input.byte().into(),
        error_generation: input.byte().into(),
    };
    PeerMessage { kind: Some(Kind::Report(report)) }
}
