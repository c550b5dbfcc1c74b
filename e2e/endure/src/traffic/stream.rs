//! TCP: streams both ways at once, short ones one after the other and long ones at a steady rate.
//!
//! A stream begins with seed, bytes up, bytes down, and bytes a second (0 for any). Each side checks what it gets; the server says
//! so with a last byte, so that a stream has ended well only when all has arrived on both sides.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{Domain, Socket, Type};

use super::{Flow, LOOK};
use crate::content::Content;
use crate::tally::Tally;

const HEADER: usize = 32;
/// The server's last byte.
const RIGHT: u8 = 0x5a;
/// Without progress for so long, a stream has failed.
const PATIENCE: Duration = Duration::from_secs(90);
/// How long a long stream takes at its rate.
const LONG: u64 = 8;
/// The most that is written at once.
const CHUNK: usize = 128 << 10;
/// Streams that are asked for more than this are refused.
const MOST: u64 = 1 << 33;
/// Bytes that short streams carry, either way.
const SHORT: [u64; 6] = [1, 300, 1380, 4000, 20_000, 70_000];

/// Short streams, one after the other.
pub fn run_short(flow: &Flow<'_>) -> anyhow::Result<()> {
    if flow.load.connections == 0 {
        return Ok(());
    }
    let pace = Duration::from_secs(1) / flow.load.connections;
    let mut due = Instant::now();
    let mut number = 0;
    while !flow.is_done() {
        let size = |n: usize| SHORT[n % SHORT.len()];
        attempt(
            flow,
            "tcp short",
            number,
            [size(number as usize), size(number as usize / 6)],
            None,
        );
        number += 1;
        due = (due + pace).max(Instant::now());
        while !flow.is_done() && Instant::now() < due {
            std::thread::sleep(due.saturating_duration_since(Instant::now()).min(LOOK));
        }
    }
    Ok(())
}

/// Long streams at a steady rate.
pub fn run_long(flow: &Flow<'_>) -> anyhow::Result<()> {
    let rate = flow.load.stream_bits / 8;
    let mut number = 1 << 32;
    while rate > 0 && !flow.is_done() {
        attempt(flow, "tcp long", number, [rate * LONG, rate * LONG], Some(rate));
        number += 1;
    }
    Ok(())
}

/// One stream. Nothing leads there while a gateway restarts: the next one waits a little then.
fn attempt(flow: &Flow<'_>, name: &'static str, number: u64, sizes: [u64; 2], rate: Option<u64>) {
    flow.tally.begin(name, 1);
    match stream(flow, number, sizes, rate) {
        Ok(()) => flow.tally.done(name),
        Err(error) => {
            flow.tally.failed(flow.tally.now(), format!("{name} from {}: {error:#}", flow.from));
            std::thread::sleep(LOOK);
        }
    }
}

fn stream(
    flow: &Flow<'_>,
    number: u64,
    [up, down]: [u64; 2],
    rate: Option<u64>,
) -> anyhow::Result<()> {
    let domain = if flow.v6() { Domain::IPV6 } else { Domain::IPV4 };
    let socket = Socket::new(domain, Type::STREAM, None).context("a socket")?;
    socket.bind(&std::net::SocketAddr::new(flow.from, 0).into()).context("binding")?;
    let target = flow.target(super::STREAMS);
    socket.connect_timeout(&target.into(), PATIENCE).context("connecting")?;
    let stream = TcpStream::from(socket);
    limit(&stream)?;
    let seed = flow.seed << 40 ^ number;
    let mut header = [0; HEADER];
    for (place, value) in header.chunks_mut(8).zip([seed, up, down, rate.unwrap_or(0)]) {
        place.copy_from_slice(&value.to_be_bytes());
    }
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| -> anyhow::Result<()> {
            (&stream).write_all(&header).context("writing")?;
            write(&stream, Content::new(seed), up, rate)
        });
        let read = check(&stream, Content::new(!seed), down, flow.tally).and_then(|()| {
            let mut last = [0];
            (&stream).read_exact(&mut last).context("reading the last byte")?;
            if last == [RIGHT] { Ok(()) } else { bail!("the last byte is {last:?}") }
        });
        if read.is_err() {
            give_up(&stream);
        }
        let written = writer.join().map_err(|_| anyhow::anyhow!("the writer panicked"))?;
        // What was given up can't be written either: the reader knows why.
        read.and(written)
    })
}

/// Ends both directions, so that nobody waits for what will not come.
fn give_up(stream: &TcpStream) {
    // It may be gone already.
    let _ = stream.shutdown(Shutdown::Both);
}

fn limit(stream: &TcpStream) -> anyhow::Result<()> {
    stream.set_read_timeout(Some(PATIENCE)).context("a time-out")?;
    stream.set_write_timeout(Some(PATIENCE)).context("a time-out")
}

/// Writes the first so many bytes of a content, no faster than `rate` bytes a second.
fn write(
    mut stream: &TcpStream,
    content: Content,
    bytes: u64,
    rate: Option<u64>,
) -> anyhow::Result<()> {
    // Ten pieces a second, or whole chunks.
    let piece = rate.map_or(CHUNK, |rate| (rate / 10).clamp(1, CHUNK as u64) as usize);
    let (began, mut buffer, mut done) = (Instant::now(), vec![0; piece], 0);
    while done < bytes {
        let now = &mut buffer[..piece.min((bytes - done) as usize)];
        content.fill(done, now);
        stream.write_all(now).context("writing")?;
        done += now.len() as u64;
        if let Some(rate) = rate {
            let due = Duration::from_micros(done * 1_000_000 / rate);
            std::thread::sleep(due.saturating_sub(began.elapsed()));
        }
    }
    Ok(())
}

/// Reads so many bytes and checks them.
fn check(
    mut stream: &TcpStream,
    content: Content,
    bytes: u64,
    tally: &Tally,
) -> anyhow::Result<()> {
    let (mut buffer, mut done) = (vec![0; CHUNK], 0);
    while done < bytes {
        let most = buffer.len().min((bytes - done) as usize);
        let length = match stream.read(&mut buffer[..most]) {
            // As after a stop of the process, where there is a time-out.
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            read => read.context("reading")?,
        };
        if length == 0 {
            bail!("ended after {done} of {bytes} bytes");
        }
        if !content.matches(done, &buffer[..length]) {
            tally.corrupted(&format!("a stream's bytes {done} to {}", done + length as u64));
            bail!("corrupted");
        }
        tally.bytes(length);
        done += length as u64;
    }
    Ok(())
}

/// Takes streams until told to stop.
pub fn serve(listener: TcpListener, tally: &Tally, done: &AtomicBool) {
    std::thread::scope(|scope| {
        while !done.load(Ordering::Relaxed) {
            if !readable(&listener) {
                continue;
            }
            let Ok((stream, _)) = listener.accept() else { continue };
            scope.spawn(move || {
                // The client sees what fails here as well, and counts it.
                let _ = serve_one(&stream, tally);
            });
        }
    });
}

fn readable(listener: &TcpListener) -> bool {
    use std::os::fd::AsFd as _;
    let timeout = PollTimeout::try_from(LOOK).unwrap_or(PollTimeout::ZERO);
    poll(&mut [PollFd::new(listener.as_fd(), PollFlags::POLLIN)], timeout).is_ok_and(|n| n > 0)
}

fn serve_one(stream: &TcpStream, tally: &Tally) -> anyhow::Result<()> {
    limit(stream)?;
    let mut header = [0; HEADER];
    { stream }.read_exact(&mut header).context("reading the header")?;
    let mut words = header.as_chunks::<8>().0.iter().map(|bytes| u64::from_be_bytes(*bytes));
    let mut next = || words.next().unwrap_or_default();
    let (seed, up, down, rate) = (next(), next(), next(), next());
    if up.max(down) > MOST {
        tally.corrupted("a stream's header");
        bail!("corrupted");
    }
    std::thread::scope(|scope| {
        let writer =
            scope.spawn(|| write(stream, Content::new(!seed), down, (rate > 0).then_some(rate)));
        let read = check(stream, Content::new(seed), up, tally);
        if read.is_err() {
            give_up(stream);
        }
        read?;
        writer.join().map_err(|_| anyhow::anyhow!("the writer panicked"))??;
        { stream }.write_all(&[RIGHT]).context("writing")
    })
}
