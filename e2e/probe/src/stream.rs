//! Numbered datagrams: how many are lost, and how long the longest silence was.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Bytes of the number at the front of each datagram.
pub const HEADER: usize = 8;

/// How long answers are awaited after the last datagram was sent.
const TAIL: Duration = Duration::from_secs(1);

/// What to send.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// For how long.
    pub length: Duration,
    /// Between two datagrams.
    pub interval: Duration,
    /// Payload of each, in bytes, at least [`HEADER`].
    pub bytes: usize,
}

/// What arrived.
#[derive(Debug, Default)]
struct Tally {
    seen: Vec<bool>,
    received: u64,
    duplicates: u64,
    reordered: u64,
    highest: u64,
    last: Option<Instant>,
    longest_gap: Duration,
}

impl Tally {
    fn count(&mut self, number: u64, now: Instant) {
        let Ok(index) = usize::try_from(number) else { return };
        // A stray datagram's number must not make us allocate without end.
        if index > 100_000_000 {
            return;
        }
        if self.seen.len() <= index {
            self.seen.resize(index + 1, false);
        }
        if std::mem::replace(&mut self.seen[index], true) {
            self.duplicates += 1;
            return;
        }
        if number < self.highest {
            self.reordered += 1;
        }
        self.highest = self.highest.max(number);
        if let Some(last) = self.last.replace(now) {
            self.longest_gap = self.longest_gap.max(now - last);
        }
        self.received += 1;
    }

    fn report(&self, sent: u64) -> String {
        format!(
            "{{\"sent\":{sent},\"received\":{},\"lost\":{},\"duplicates\":{},\"reordered\":{},\"longestGapMs\":{:.1}}}",
            self.received,
            sent.saturating_sub(self.received),
            self.duplicates,
            self.reordered,
            self.longest_gap.as_secs_f64() * 1000.0
        )
    }
}

/// Returns every datagram to its sender, until the process ends.
pub fn serve_echo(port: u16) -> Result<(), String> {
    let socket = bind(port)?;
    std::thread::spawn(move || {
        let mut buffer = [0; 65_536];
        loop {
            // Errors are those of earlier answers (ICMP) and say nothing about the next.
            if let Ok((length, from)) = socket.recv_from(&mut buffer)
                && let Err(error) = socket.send_to(&buffer[..length], from)
            {
                eprintln!("answering {from}: {error}");
            }
        }
    });
    Ok(())
}

/// Sends to an echo and prints what did not come back.
pub fn round_trip(target: SocketAddr, plan: &Plan) -> Result<(), String> {
    let socket = Arc::new(connect(target)?);
    let sent = Arc::new(AtomicU64::new(0));
    let receiver = {
        let (socket, end) = (socket.clone(), Instant::now() + plan.length + TAIL);
        std::thread::spawn(move || receive(&socket, end))
    };
    send_numbered(&socket, plan, &sent);
    let tally = receiver.join().map_err(|_| "the receiver failed".to_owned())?;
    println!("{}", tally.report(sent.load(Ordering::Relaxed)));
    Ok(())
}

/// Counts a one-way stream and prints what its numbers say is missing.
pub fn listen(port: u16, plan: &Plan) -> Result<(), String> {
    let socket = bind(port)?;
    let tally = receive(&socket, Instant::now() + plan.length + TAIL);
    let sent = if tally.received == 0 { 0 } else { tally.highest + 1 };
    println!("{}", tally.report(sent));
    Ok(())
}

/// Sends a one-way stream and prints how many were sent.
pub fn send(target: SocketAddr, plan: &Plan) -> Result<(), String> {
    let sent = AtomicU64::new(0);
    send_numbered(&connect(target)?, plan, &sent);
    println!("{{\"sent\":{}}}", sent.load(Ordering::Relaxed));
    Ok(())
}

fn send_numbered(socket: &UdpSocket, plan: &Plan, sent: &AtomicU64) {
    let start = Instant::now();
    let mut datagram = vec![0; plan.bytes];
    for number in 0.. {
        // By the clock, not by pauses: a late one does not delay the rest.
        let due = plan.interval.saturating_mul(u32::try_from(number).unwrap_or(u32::MAX));
        if due >= plan.length {
            return;
        }
        std::thread::sleep(due.saturating_sub(start.elapsed()));
        datagram[..HEADER].copy_from_slice(&u64::to_be_bytes(number));
        // A refused datagram (unreachable) is lost like any other: its number is missing.
        if let Err(error) = socket.send(&datagram)
            && number == 0
        {
            eprintln!("sending: {error}");
        }
        sent.fetch_add(1, Ordering::Relaxed);
    }
}

fn receive(socket: &UdpSocket, end: Instant) -> Tally {
    let mut tally = Tally::default();
    let mut buffer = [0; 65_536];
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() || socket.set_read_timeout(Some(left)).is_err() {
            return tally;
        }
        if let Ok(length) = socket.recv(&mut buffer)
            && let Some(number) = buffer[..length].first_chunk::<HEADER>()
        {
            tally.count(u64::from_be_bytes(*number), Instant::now());
        }
    }
}

fn bind(port: u16) -> Result<UdpSocket, String> {
    let any: [SocketAddr; 2] = [([0u16; 8], port).into(), ([0u8; 4], port).into()];
    UdpSocket::bind(&any[..]).map_err(|error| format!("listening on UDP port {port}: {error}"))
}

fn connect(target: SocketAddr) -> Result<UdpSocket, String> {
    let any: SocketAddr = match target {
        SocketAddr::V4(_) => ([0u8; 4], 0).into(),
        SocketAddr::V6(_) => ([0u16; 8], 0).into(),
    };
    let failed = |error: std::io::Error| format!("sending to {target}: {error}");
    let socket = UdpSocket::bind(any).map_err(failed)?;
    socket.connect(target).map_err(failed)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_duplicates_and_gaps_are_told_apart() {
        let (mut tally, start) = (Tally::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        for (number, ms) in [(0, 0), (1, 10), (5, 200), (3, 210), (3, 220), (u64::MAX, 230)] {
            tally.count(number, at(ms));
        }
        let expected = "{\"sent\":7,\"received\":4,\"lost\":3,\"duplicates\":1,\"reordered\":1,\"longestGapMs\":190.0}";
        assert_eq!(tally.report(7), expected);
    }

    #[test]
    fn an_echo_returns_every_number() {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let port = socket.local_addr().expect("an address").port();
        drop(socket);
        serve_echo(port).expect("served");
        let target = SocketAddr::from(([127, 0, 0, 1], port));
        let client = connect(target).expect("connected");
        let sent = AtomicU64::new(0);
        let plan = Plan {
            length: Duration::from_millis(200),
            interval: Duration::from_millis(2),
            bytes: 100,
        };
        send_numbered(&client, &plan, &sent);
        let tally = receive(&client, Instant::now() + Duration::from_millis(300));
        assert_eq!((sent.load(Ordering::Relaxed), tally.received), (100, 100));
    }
}
