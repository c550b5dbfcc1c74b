//! Frames and packets from the device, with whatever it says is left to do.

use std::net::IpAddr;

use carrick_gateway_core::noise::Received;
use carrick_gateway_core::{Cut, CutKind, Framing, Offload};

use super::input::Input;
use super::pair::{ROOM, peer_address, with_pair};

/// The most frames of one input.
const MOST: usize = 8;

/// Runs one input.
pub fn run(input: &[u8]) {
    let mut input = Input(input);
    let framing = if input.byte() & 1 == 0 { Framing::Ip } else { Framing::Ethernet };
    let mut frames = Vec::new();
    while !input.is_empty() && frames.len() < MOST {
        let offload = offload(&mut input);
        frames.push((input.block().to_vec(), offload));
    }
    with_pair(framing, |pair| {
        let written = pair.enter_all(&mut frames);
        let from: IpAddr = peer_address().ip();
        let mut out = vec![0; ROOM];
        for datagram in written.datagrams {
            let received = pair.peer.receive(from, &datagram, &mut out);
            assert!(matches!(received, Ok(Received::Packet(_))), "sealed is {received:?}");
        }
    });
}

fn offload(input: &mut Input<'_>) -> Offload {
    let kind = match input.byte() % 6 {
        0 => return Offload::Whole,
        1 => return Offload::Checked,
        2 => return Offload::Checksum { start: input.word(), offset: input.word() },
        3 => CutKind::Tcp4,
        4 => CutKind::Tcp6,
        _ => CutKind::Udp,
    };
    Offload::Cut(Cut { kind, size: input.word(), upper: input.word(), payload: input.word() })
}
