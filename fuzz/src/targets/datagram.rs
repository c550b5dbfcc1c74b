//! Datagrams from the network to a lane with a live session: anything, what the peer seals whatever it
//! be, sealed messages that were changed or cut on the way, and messages that come again.

use carrick_gateway_core::Framing;

use super::input::Input;
use super::pair::with_pair;

/// The most datagrams of one input.
const MOST: usize = 16;

/// Runs one input.
pub fn run(input: &[u8]) {
    let mut input = Input(input);
    let framing = if input.byte() & 1 == 0 { Framing::Ip } else { Framing::Ethernet };
    with_pair(framing, |pair| {
        let mut datagrams: Vec<(Vec<u8>, u8)> = Vec::new();
        while !input.is_empty() && datagrams.len() < MOST {
            let kind = input.byte();
            let datagram = match kind >> 2 & 3 {
                0 => input.block().to_vec(),
                1 => pair.seal(input.block()),
                2 => {
                    let (place, change, end) = (input.word(), input.byte(), input.word());
                    let mut sealed = pair.seal(input.block());
                    if let Some(byte) = sealed.get_mut(place) {
                        *byte ^= change;
                    }
                    sealed.truncate(end.max(1));
                    sealed
                }
                _ => datagrams.last().map(|(last, _)| last.clone()).unwrap_or_default(),
            };
            datagrams.push((datagram, kind & 3));
        }
        pair.deliver_all(&datagrams);
    });
}
