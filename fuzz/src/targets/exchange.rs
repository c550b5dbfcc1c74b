//! What the exchange reads from the other side: frames of every type, snapshots under a right signature
//! (a peer's controller can sign anything), what the filter then believes, whole conversations,
//! certificates and requests for them, and exported services.

mod books;
mod messages;

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::BytesMut;
use carrick_exchange::filter::{Policy, filter};
use carrick_exchange::message::join::{JoinRequest, JoinResponse};
use carrick_exchange::message::member::{FromController, FromMember};
use carrick_exchange::message::peer::PeerMessage;
use carrick_exchange::message::snapshot::SignedSnapshot;
use carrick_exchange::peer::{Event, Held, Lane, Session};
use carrick_exchange::snapshot::{VerifiedSnapshot, Version, verify};
use carrick_exchange::transport::frame::take_frame;
use carrick_exchange::{ClusterIdentity, Credentials, Pin, Protocol, certificate};
use carrick_model::{ClusterId, Prefix, Role, TunnelKey};
use prost::Message;

use super::input::Input;

/// When all of this happens.
const NOW: Duration = Duration::from_secs(1_800_000_000);
/// The most messages of one conversation.
const MOST: usize = 16;
/// The most prefixes that the receiver takes.
const MAX_PREFIXES: usize = 8;
/// A queue of what is to be said holds one message of each kind.
const KINDS: usize = 3;

/// Whoever speaks, and what the receiver knows of it.
struct Speaker {
    identity: ClusterIdentity,
    pin: Pin,
    own: ClusterId,
}

thread_local! {
    static SPEAKER: Speaker = Speaker::new();
}

impl Speaker {
    fn new() -> Self {
        let identity = ClusterIdentity::generate().expect("an identity");
        let peer = "peer".parse().expect("a name");
        let pin = Pin::new(peer, vec![identity.public()], Role::Gateway);
        Self { identity, pin, own: "own".parse().expect("a name") }
    }
}

/// Runs one input.
pub fn run(input: &[u8]) {
    let mut input = Input(input);
    let kind = input.byte();
    SPEAKER.with(|speaker| match kind % 8 {
        // A range of its own, so that inputs that were kept before still mean the same.
        _ if (224..240).contains(&kind) => books::run(kind, speaker, &mut input),
        0 => frames::<FromController>(input.0, Protocol::Member),
        1 => frames::<FromMember>(input.0, Protocol::Member),
        2 => frames::<PeerMessage>(input.0, Protocol::Peer),
        3 => {
            frames::<JoinRequest>(input.0, Protocol::Join);
            frames::<JoinResponse>(input.0, Protocol::Join);
        }
        4 => snapshot(speaker, &mut input, |_, input| input.0.to_vec()),
        5 => snapshot(speaker, &mut input, |speaker, input| {
            messages::snapshot(&speaker.pin.cluster, &speaker.own, NOW, input).encode_to_vec()
        }),
        6 => conversation(speaker, &mut input),
        _ => certificates(speaker, input.0),
    });
}

/// Frames of one type; what was read is written and read again the same.
fn frames<T: Message + Default + PartialEq + Debug>(input: &[u8], protocol: Protocol) {
    let mut buffer = BytesMut::from(input);
    while let Ok(Some(message)) = take_frame::<T>(&mut buffer, protocol.max_frame()) {
        let again = T::decode(message.encode_to_vec().as_slice()).expect("our own bytes");
        assert_eq!(again, message);
    }
    assert!(buffer.len() <= input.len());
}

/// A payload under a right signature, then what is believed of it.
fn snapshot(
    speaker: &Speaker,
    input: &mut Input<'_>,
    payload: impl FnOnce(&Speaker, &mut Input<'_>) -> Vec<u8>,
) {
    let policy = policy(input);
    let held = (input.byte() & 1 == 1).then_some(Version { epoch: 2, generation: 7 });
    let payload = payload(speaker, input);
    let signed = sign(speaker, payload);
    let wall = UNIX_EPOCH + NOW;
    if let Ok(verified) = verify(&signed, &speaker.pin, &speaker.own, wall, held) {
        assert!(held.is_none_or(|held| verified.version >= held));
        sound(speaker, &verified, &policy, wall);
    }
}

fn sign(speaker: &Speaker, payload: Vec<u8>) -> SignedSnapshot {
    speaker.identity.sign_payload(payload).expect("a signature")
}

fn policy(input: &mut Input<'_>) -> Policy {
    let mut some = |most: u8| -> Vec<Prefix> {
        let count = input.byte() % (most + 1);
        (0..count).filter_map(|_| messages::prefix(input)).collect()
    };
    let (accept, own_ranges, held) = (some(4), some(4), some(2));
    let other: ClusterId = "other".parse().expect("a name");
    let own_mesh = "240.0.16.0/20".parse::<Prefix>().expect("a prefix");
    Policy {
        accept,
        max_prefixes: MAX_PREFIXES,
        own_ranges,
        own_mesh: own_mesh.try_into().expect("a mesh prefix"),
        others: held.into_iter().map(|prefix| (other.clone(), prefix)).collect(),
    }
}

/// What must hold of what is believed, whatever was said.
fn sound(speaker: &Speaker, verified: &VerifiedSnapshot, policy: &Policy, wall: SystemTime) {
    assert_eq!(verified.cluster, speaker.pin.cluster);
    assert!(wall < verified.expires_at);
    assert!(verified.nodes.iter().all(|n| verified.mesh.prefix().contains(n.mesh_address.into())));
    let filtered = filter(verified, policy);
    assert!(filtered.accepted.len() <= MAX_PREFIXES);
    let distinct: BTreeSet<Prefix> = filtered.accepted.iter().copied().collect();
    assert_eq!(distinct.len(), filtered.accepted.len());
    for prefix in filtered.accepted.iter().copied().chain(filtered.mesh.map(|mesh| mesh.prefix())) {
        let forbidden = policy.own_ranges.iter().chain(policy.others.iter().map(|(_, held)| held));
        assert!(!forbidden.chain([&policy.own_mesh.prefix()]).any(|held| held.overlaps(&prefix)));
        assert!(!prefix.is_default_route() && !prefix.is_special_use());
    }
    assert!(
        filtered
            .accepted
            .iter()
            .all(|prefix| policy.accept.iter().any(|range| range.covers(prefix)))
    );
}

/// A peer that says one thing after the other.
fn conversation(speaker: &Speaker, input: &mut Input<'_>) {
    let began = Instant::now();
    let key = TunnelKey::from_bytes;
    let lanes = (0..3).map(|k| Lane { index: k, key: key([k as u8; 32]), port: 31_821 + k as u16 });
    let held = Held { lane: 1, own_key: key([1; 32]), remote_key: key([9; 32]), psk: [4; 32] };
    let (pin, own) = (speaker.pin.clone(), speaker.own.clone());
    let mut session = Session::new(pin, own, lanes.collect(), vec![held], None, began);
    let mut seconds = 0;
    for _ in 0..MOST {
        if input.is_empty() {
            break;
        }
        seconds += u64::from(input.byte());
        let message = match input.byte() % 4 {
            0 => PeerMessage::decode(input.block()).unwrap_or_default(),
            1 => messages::hello(input),
            2 => messages::report(input),
            _ => {
                let (peer, own) = (&speaker.pin.cluster, &speaker.own);
                let snapshot = messages::snapshot(peer, own, NOW, input);
                messages::carrying(sign(speaker, snapshot.encode_to_vec()))
            }
        };
        let (now, wall) = (Duration::from_secs(seconds), UNIX_EPOCH + NOW);
        let export = |_: &str, context: &[u8]| [context.len() as u8; 32];
        match session.handle_message(message, began + now, wall, export) {
            Ok(Some(Event::Established(established))) => {
                assert!(established.tunnels.len() <= 3 && established.release.len() <= 256);
            }
            Ok(Some(Event::Report(report))) => {
                assert!(report.error.len() <= 2048 && report.refused.len() <= 4097);
            }
            Ok(_) => {}
            Err(error) => {
                let _said = (error.reason(), error.close_reason(), error.to_string());
                break;
            }
        }
    }
    let queued = std::iter::from_fn(|| session.poll_message()).count();
    assert!(queued <= KINDS, "{queued} messages wait");
}

/// Bytes as a certificate and as a request for one.
fn certificates(speaker: &Speaker, input: &[u8]) {
    let (now, key) = (UNIX_EPOCH + NOW, input.get(..32).unwrap_or_default().to_vec());
    let _refused = Credentials::new(input.to_vec(), key);
    let _refused = certificate::renew(&speaker.identity, input, now);
    let member = "carrick://peer/gateway/a".parse().expect("a member");
    if let Ok(issued) = certificate::issue(&speaker.identity, input, &member, now) {
        let renewed = certificate::renew(&speaker.identity, &issued, now);
        assert!(renewed.is_ok(), "our own certificate is {renewed:?}");
    }
}
