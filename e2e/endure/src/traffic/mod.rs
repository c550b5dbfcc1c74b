//! Traffic between two ends, both ways and in both families, until it is told to stop. Every byte is
//! checked where it arrives.

mod datagram;
mod echo;
mod outstanding;
mod stream;

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;

use crate::tally::Tally;
use crate::world::{End, World};

pub use datagram::crosses;

/// Where datagrams are echoed.
const DATAGRAMS: u16 = 7007;
/// Where streams are taken.
const STREAMS: u16 = 7009;
/// A look at whether to stop.
const LOOK: Duration = Duration::from_millis(50);

/// How much traffic: of each kind, from each end and in each family.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Trains of datagrams a second, 0 for none. A train is 1 to 40 datagrams of 16 to 9000 bytes.
    pub trains: u32,
    /// Echo requests a second, 0 for none.
    pub echoes: u32,
    /// Short TCP connections a second, 0 for none.
    pub connections: u32,
    /// Bits a second of a stream both ways at once that is begun anew every few seconds, 0 for none.
    pub stream_bits: u64,
}

/// What a flow needs to know.
struct Flow<'a> {
    from: IpAddr,
    to: IpAddr,
    seed: u64,
    load: &'a Load,
    tally: &'a Tally,
    done: &'a AtomicBool,
}

impl Flow<'_> {
    fn is_done(&self) -> bool {
        self.done.load(Ordering::Relaxed)
    }

    fn v6(&self) -> bool {
        self.from.is_ipv6()
    }

    fn target(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.to, port)
    }
}

/// Says that it is over when dropped, whatever ended the work.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Sends traffic while `work` lasts, and waits until the fate of all that was sent is known.
///
/// # Errors
/// When sockets can't be made, and those of `work`.
pub fn during<T>(
    world: &World,
    load: &Load,
    tally: &Tally,
    work: impl FnOnce() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let (sending, serving) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|servers| {
        let _serving = Stop(&serving);
        for end in [&world.near, &world.far] {
            for address in end.inner {
                let (echo, listener) = listen(end, address)?;
                servers.spawn(|| datagram::serve(echo, tally, &serving));
                servers.spawn(|| stream::serve(listener, tally, &serving));
            }
        }
        std::thread::scope(|clients| {
            let _sending = Stop(&sending);
            let mut seed = 0;
            for (from, to) in [(&world.near, &world.far), (&world.far, &world.near)] {
                for (source, destination) in from.inner.into_iter().zip(to.inner) {
                    seed += 1;
                    for run in [datagram::run, echo::run, stream::run_short, stream::run_long] {
                        let done = &sending;
                        let flow = Flow { from: source, to: destination, seed, load, tally, done };
                        clients.spawn(move || {
                            let ran = from.netns.run(|| run(&flow));
                            if let Err(error) = ran.map_err(Into::into).and_then(|ran| ran) {
                                let what = format!("{source} to {destination}: {error:#}");
                                tally.failed(tally.now(), what);
                            }
                        });
                    }
                }
            }
            work()
        })
    })
}

fn listen(
    end: &End,
    address: IpAddr,
) -> anyhow::Result<(std::net::UdpSocket, std::net::TcpListener)> {
    let made = end.netns.run(|| {
        let echo = std::net::UdpSocket::bind((address, DATAGRAMS))?;
        std::io::Result::Ok((echo, std::net::TcpListener::bind((address, STREAMS))?))
    })?;
    made.with_context(|| format!("listening on {address}"))
}
