//! An echo in a pod's network, run by this process: one that a busy machine can't make lose what had arrived.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use carrick_e2e::cluster::Cluster;
use carrick_e2e::turns::first_thread;
use nix::sys::socket::{setsockopt, sockopt};

use crate::common::{address_v4, pod_network, text};

/// What a socket may have to hold while this machine does something else, in bytes.
const BUFFER: usize = 4 << 20;

/// How long it takes to notice that it is to end.
const PAUSE: Duration = Duration::from_millis(50);

/// Lets a socket hold a second of packets and more. Pods may not ask for that much: 3 flows of 200 packets a
/// second are lost in part when their echo gets no turn for 200 ms.
pub fn hold_more(socket: &UdpSocket) -> Result<(), String> {
    text(setsockopt(socket, sockopt::RcvBufForce, &BUFFER))
}

/// Returns every datagram to its sender, until it is dropped.
#[derive(Debug)]
pub struct Echo {
    /// Where it is reached.
    pub address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    /// In the network of the pod on this node.
    pub fn start(cluster: &Cluster, node: &str) -> Result<Self, String> {
        let socket = pod_network(cluster, node)?.udp(0)?;
        hold_more(&socket)?;
        text(socket.set_read_timeout(Some(PAUSE)))?;
        let port = text(socket.local_addr())?.port();
        let address = SocketAddr::from((address_v4(cluster, node)?, port));
        let stop = Arc::<AtomicBool>::default();
        let thread = first_thread({
            let stop = stop.clone();
            move || serve(&socket, &stop)
        });
        Ok(Self { address, stop, thread: Some(thread) })
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            eprintln!("an echo panicked");
        }
    }
}

fn serve(socket: &UdpSocket, stop: &AtomicBool) {
    let mut buffer = [0; 2048];
    while !stop.load(Ordering::Relaxed) {
        // Errors are the end of a wait, or those of earlier answers (ICMP).
        if let Ok((length, from)) = socket.recv_from(&mut buffer) {
            // A refusal (no route) is a loss like any other.
            let _refused = socket.send_to(&buffer[..length], from);
        }
    }
}
