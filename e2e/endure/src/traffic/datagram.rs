//! UDP: trains of datagrams of many sizes, echoed one by one.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::sys::socket::{setsockopt, sockopt};

use super::outstanding::Outstanding;
use super::{Flow, LOOK};
use crate::content::Content;
use crate::tally::Tally;
use crate::world::End;

/// Seed, and number with length: what a datagram says of itself.
pub const LABEL: usize = 16;
/// The longest payload; longer than any device's MTU here, so that it is fragmented.
const LONGEST: usize = 9000;
/// Bytes that one call hands over as a train.
const MOST_BYTES: usize = 40_000;
/// Trains that are cut by the kernel or further on: sizes of datagrams and how many.
const TRAINS: [(usize, usize); 8] =
    [(LABEL, 1), (64, 40), (17, 3), (512, 20), (1200, 30), (1232, 2), (1372, 20), (900, 7)];
/// Payloads that go alone, most of them in fragments.
const ALONE: [usize; 8] = [1392, 1393, 1472, 2000, 4001, LONGEST, 100, 1373];

/// Writes a payload that says whose it is.
pub fn label(seed: u64, number: u64, out: &mut [u8]) {
    let length = out.len() as u64;
    out[..8].copy_from_slice(&seed.to_be_bytes());
    out[8..LABEL].copy_from_slice(&(number << 16 | length).to_be_bytes());
    Content::new(seed ^ number << 8).fill(0, &mut out[LABEL..]);
}

/// Seed and number of a payload, if it is as it was written.
pub fn read(payload: &[u8]) -> Option<(u64, u64)> {
    let (seed, rest) = payload.split_first_chunk::<8>()?;
    let (number, content) = rest.split_first_chunk::<8>()?;
    let (seed, number) = (u64::from_be_bytes(*seed), u64::from_be_bytes(*number));
    let (number, length) = (number >> 16, (number & 0xffff) as usize);
    let right = length == payload.len() && Content::new(seed ^ number << 8).matches(0, content);
    right.then_some((seed, number))
}

/// Sends trains and takes the answers.
pub fn run(flow: &Flow<'_>) -> anyhow::Result<()> {
    if flow.load.trains == 0 {
        return Ok(());
    }
    let socket = UdpSocket::bind((flow.from, 0)).context("a socket for datagrams")?;
    socket.connect(flow.target(super::DATAGRAMS)).context("connecting it")?;
    setsockopt(&socket, sockopt::RcvBufForce, &(8 << 20)).context("its buffer")?;
    let pace = Duration::from_secs(1) / flow.load.trains;
    let mut outstanding = Outstanding::new("udp", flow.tally);
    let (mut number, mut train, mut due) = (0, 0, Instant::now());
    while !(flow.is_done() && outstanding.is_empty()) {
        if !flow.is_done() && Instant::now() >= due {
            number = send(&socket, flow, &mut outstanding, number, train);
            // Where the machine was busy, what is late stays undone.
            (train, due) = (train + 1, (due + pace).max(Instant::now()));
        }
        receive(&socket, flow, &mut outstanding, due)?;
        outstanding.expire();
    }
    Ok(())
}

fn send(
    socket: &UdpSocket,
    flow: &Flow<'_>,
    outstanding: &mut Outstanding<'_>,
    number: u64,
    train: usize,
) -> u64 {
    let (size, count) = match train % 3 {
        0 => (ALONE[train / 3 % ALONE.len()], 1),
        _ => TRAINS[(train + train / 3) % TRAINS.len()],
    };
    let count = count.min(MOST_BYTES / size).max(1);
    let mut bytes = vec![0; size * count];
    let numbers = number..number + count as u64;
    for (payload, number) in bytes.chunks_mut(size).zip(numbers.clone()) {
        label(flow.seed, number, payload);
    }
    outstanding.sent(numbers.clone());
    let segment = if count > 1 { size as i32 } else { 0 };
    let cut = setsockopt(socket, sockopt::UdpGsoSegment, &segment);
    // Nothing leads there while a gateway restarts.
    if cut.is_err() || socket.send(&bytes).is_err() {
        outstanding.unsent(numbers.clone());
    }
    numbers.end
}

/// Takes what comes until it is time to send, or to look around.
fn receive(
    socket: &UdpSocket,
    flow: &Flow<'_>,
    outstanding: &mut Outstanding<'_>,
    due: Instant,
) -> anyhow::Result<()> {
    let mut buffer = [0; LONGEST + 1];
    loop {
        let left = due.saturating_duration_since(Instant::now()).min(LOOK);
        socket.set_read_timeout(Some(left.max(Duration::from_micros(100))))?;
        // An error is a time-out, or says that nothing leads there.
        let Ok(length) = socket.recv(&mut buffer) else { return Ok(()) };
        match read(&buffer[..length]) {
            Some((seed, number)) if seed == flow.seed => outstanding.answered(number),
            _ => flow.tally.corrupted(&format!("an answer of {length} bytes")),
        }
        if due <= Instant::now() {
            return Ok(());
        }
    }
}

/// Echoes what is right, until told to stop.
pub fn serve(socket: UdpSocket, tally: &Tally, done: &AtomicBool) {
    let _ = setsockopt(&socket, sockopt::RcvBufForce, &(8 << 20));
    let _ = socket.set_read_timeout(Some(LOOK));
    let mut buffer = [0; LONGEST + 1];
    while !done.load(Ordering::Relaxed) {
        let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
        match read(&buffer[..length]) {
            // An answer that can't be sent is a lost one.
            Some(_) => drop(socket.send_to(&buffer[..length], from)),
            None => tally.corrupted(&format!("a datagram of {length} bytes from {from}")),
        }
    }
}

/// Whether a datagram crosses from one end to the other in each family, now.
///
/// # Errors
/// When sockets can't be made, or one does not arrive soon.
pub fn crosses(from: &End, to: &End) -> anyhow::Result<()> {
    for (source, destination) in from.inner.into_iter().zip(to.inner) {
        let receiver = to.netns.run(|| UdpSocket::bind((destination, 0)))?.context("a receiver")?;
        let sender = from.netns.run(|| UdpSocket::bind((source, 0)))?.context("a sender")?;
        receiver.set_read_timeout(Some(Duration::from_millis(300)))?;
        sender.send_to(b"crosses", receiver.local_addr()?).context("sending")?;
        receiver.recv(&mut [0; 64]).with_context(|| format!("{source} to {destination}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_that_was_cut_or_changed_is_none() {
        let mut payload = [0; 200];
        label(3, 77, &mut payload);
        assert_eq!(read(&payload), Some((3, 77)));
        assert_eq!(read(&payload[..199]), None);
        assert_eq!(read(&payload[..15]), None);
        payload[150] ^= 4;
        assert_eq!(read(&payload), None);
    }
}
