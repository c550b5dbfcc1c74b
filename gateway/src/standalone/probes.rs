//! Answers end-to-end probes, as an agent does on a node: a cluster's peering with us is ready only while
//! full-size packets come back.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use carrick_exchange::probe::PORT;
use carrick_exchange::probe::packet::MAX;
use carrick_exchange::probe::responder::{Accepted, Responder};
use tokio::net::UdpSocket;

use super::plane::StandalonePlane;

/// IPv4 and UDP header in bytes.
const HEADERS: usize = 28;

/// Answers at our mesh address; `mtu` is the device's, in bytes.
#[derive(Debug)]
pub(super) struct Answering {
    socket: UdpSocket,
    mtu: usize,
}

impl Answering {
    /// Listens at `address`, which must be there. Needs a tokio runtime.
    pub fn at(address: Ipv4Addr, mtu: usize) -> anyhow::Result<Self> {
        let socket = std::net::UdpSocket::bind((address, PORT));
        let socket = socket.and_then(|socket| {
            socket.set_nonblocking(true)?;
            UdpSocket::from_std(socket)
        });
        let socket =
            socket.with_context(|| format!("cannot answer probes at {address}:{PORT} (UDP)"))?;
        Ok(Self { socket, mtu })
    }

    /// Answers whoever is accepted, as long as the process lives.
    pub async fn run(self, plane: Arc<StandalonePlane>) {
        let mut carrick = plane.carrick();
        let mut responder = Responder::new(Instant::now());
        let mut buffer = vec![0; MAX];
        loop {
            let peers = carrick.borrow_and_update().clone();
            // The kernel cuts answers that are larger than the way back, which the peer's prober sees.
            let accepted = |prefix| Accepted { prefix, most: MAX };
            let prefixes = peers.into_iter().flat_map(|peer| peer.prefixes);
            responder.accept(prefixes.map(accepted).collect());
            tokio::select! {
                changed = carrick.changed() => if changed.is_err() {
                    return;
                },
                received = self.socket.recv_from(&mut buffer) => {
                    // What cannot be received or sent is lost, as on any network.
                    let Ok((length, from)) = received else { continue };
                    let probe = &mut buffer[..length];
                    // In fragments a full size would prove nothing.
                    if length + HEADERS > self.mtu {
                        continue;
                    }
                    if let Some(length) = responder.respond(Instant::now(), from, probe) {
                        let _ = self.socket.try_send_to(&buffer[..length], from);
                    }
                }
            }
        }
    }
}
