//! Messages of handshakes: anything under a right first MAC (whoever knows our public key can make
//! one), and real ones that were changed, in both roles.

use blake2::digest::consts::U16;
use blake2::digest::{KeyInit, Mac};
use blake2::{Blake2s256, Blake2sMac, Digest};
use carrick_gateway_core::Framing;
use carrick_model::TunnelKey;

use super::input::Input;
use super::pair::{Pair, ROOM, lane_key, peer, peer_address, with_pair};

/// The two MACs at a message's end.
const MACS: usize = 32;

/// Runs one input.
pub fn run(input: &[u8]) {
    let mut input = Input(input);
    with_pair(Framing::Ip, |pair| match input.byte() % 4 {
        0 => {
            let mut message = input.0.to_vec();
            authenticate(&mut message, &lane_key());
            pair.deliver(&message);
        }
        1 => {
            let authentic = input.byte() & 1 == 0;
            let mut message = vec![0; ROOM];
            let length = peer().initiate(&mut message).expect("an initiation");
            message.truncate(length);
            change(&mut message, &mut input);
            if authentic {
                authenticate(&mut message, &lane_key());
            }
            pair.deliver(&message);
        }
        2 => answered(pair, &mut input),
        // What a remote gateway may send us while we wait for its answer.
        _ => {
            let (mut tunnel, mut out) = (peer(), vec![0; ROOM]);
            tunnel.initiate(&mut out).expect("an initiation");
            let _refused = tunnel.receive(peer_address().ip(), input.0, &mut out);
        }
    });
}

/// A whole handshake, of which the answer, and then what follows on it, is changed.
fn answered(pair: &mut Pair, input: &mut Input<'_>) {
    let (mut tunnel, mut out) = (peer(), vec![0; ROOM]);
    let length = tunnel.initiate(&mut out).expect("an initiation");
    for mut answer in pair.deliver(&out[..length]).datagrams {
        change(&mut answer, input);
        let _refused = tunnel.receive(peer_address().ip(), &answer, &mut out);
    }
    if let Ok(length) = tunnel.encrypt(input.0, &mut out) {
        pair.deliver(&out[..length]);
    }
}

/// Changes up to three bytes, and perhaps the length.
fn change(message: &mut Vec<u8>, input: &mut Input<'_>) {
    let count = input.byte();
    for _ in 0..count & 3 {
        let (place, change) = (usize::from(input.byte()), input.byte());
        if let Some(byte) = message.get_mut(place) {
            *byte ^= change;
        }
    }
    if count & 4 != 0 {
        message.resize(usize::from(input.byte()), 0);
    }
}

/// Writes the first MAC that the holder of `key` wants (the WireGuard paper, section 5.4.4).
fn authenticate(message: &mut [u8], key: &TunnelKey) {
    let Some(end) = message.len().checked_sub(MACS) else { return };
    let key = Blake2s256::new().chain_update(b"mac1----").chain_update(key.as_bytes()).finalize();
    let mut mac = <Blake2sMac<U16> as KeyInit>::new_from_slice(&key).expect("a key of 32 bytes");
    Mac::update(&mut mac, &message[..end]);
    message[end..end + 16].copy_from_slice(&mac.finalize().into_bytes());
}
