//! A lane's UDP socket: one for both families, never fragmenting, with trains of datagrams both ways.
#![expect(unsafe_code, reason = "socket options, sendmsg and recvmmsg that no crate here wraps")]

mod receive;
mod send;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use carrick_gateway_core::{Datagrams, DropReason, Lost};
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

pub(super) use receive::Ring;

use super::options::Offloads;

/// How long trains go singly after the kernel refused one.
const SINGLY: Duration = Duration::from_secs(60);
/// Room for bursts in the kernel, each way, in bytes.
const BUFFER: usize = 8 << 20;

/// The smallest MTU that a link of IPv6 may have.
const LEAST_V6: libc::c_int = 1280;

/// A lane's socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Somebody listens there.
    #[error("UDP port {0} is in use; stop whoever listens there, or choose another base port")]
    InUse(u16),
    /// Anything else.
    #[error("cannot {step} the socket of UDP port {port}: {source}")]
    System {
        /// What was being done.
        step: &'static str,
        /// The port.
        port: u16,
        /// Why.
        source: io::Error,
    },
}

/// A lane's socket.
#[derive(Debug)]
pub(super) struct LaneSocket {
    socket: UdpSocket,
    port: u16,
    v6: bool,
    offloads: Offloads,
    /// Until when trains go singly, since the kernel refused one.
    singly: Option<Instant>,
}

/// Listens on `port` on all addresses of both families, or of IPv4 where the kernel has no IPv6. The
/// socket says which of `offloads` the kernel has.
pub(super) fn open(port: u16, offloads: Offloads) -> Result<LaneSocket, SocketError> {
    let error = |step| move |source| SocketError::System { step, port, source };
    let (socket, v6) = match Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP)) {
        Ok(socket) => (socket, true),
        Err(_) => {
            let v4 = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP));
            (v4.map_err(error("open"))?, false)
        }
    };
    if v6 {
        socket.set_only_v6(false).map_err(error("open both families on"))?;
    }
    socket.set_nonblocking(true).map_err(error("make non-blocking"))?;
    forbid_fragments(&socket, v6).map_err(error("forbid fragments on"))?;
    enlarge(&socket);
    report_marks(&socket, v6).map_err(error("ask for ECN marks on"))?;
    let offloads = probe(&socket, offloads);
    let all =
        if v6 { IpAddr::V6(Ipv6Addr::UNSPECIFIED) } else { IpAddr::V4(Ipv4Addr::UNSPECIFIED) };
    socket.bind(&SocketAddr::new(all, port).into()).map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => SocketError::InUse(port),
        _ => SocketError::System { step: "bind", port, source },
    })?;
    let socket = UdpSocket::from(socket);
    let port = socket.local_addr().map_err(error("read the address of"))?.port();
    Ok(LaneSocket { socket, port, v6, offloads, singly: None })
}

/// Sets DF and ignores what ICMP says of the path: our MTU is verified by full-size probes, and
/// fragments would let those pass where nothing else does.
fn forbid_fragments(socket: &impl AsRawFd, v6: bool) -> io::Result<()> {
    set_option(socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE)?;
    if v6 {
        let probe = libc::IPV6_PMTUDISC_PROBE;
        set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, probe)?;
        set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_MTU, 0)?;
    }
    Ok(())
}

/// Lets what is sent to peers of one family be fragmented: IPv4 by whoever has to, IPv6 by the kernel
/// here, down to what every link carries, since no router would do it later.
fn allow_fragments(socket: &impl AsRawFd, to_v6: bool) -> io::Result<()> {
    if to_v6 {
        let never = libc::IPV6_PMTUDISC_DONT;
        set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, never)?;
        set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_MTU, LEAST_V6)
    } else {
        set_option(socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DONT)
    }
}

fn set_option(socket: &impl AsRawFd, level: i32, name: i32, value: libc::c_int) -> io::Result<()> {
    let length = std::mem::size_of_val(&value) as libc::socklen_t;
    // SAFETY: the descriptor is open, and the pointer and length are those of a live c_int.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), length)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Asks for large buffers; NET_ADMIN may go beyond the system's limit, others get up to it.
fn enlarge(socket: &Socket) {
    let forced = setsockopt(socket, sockopt::RcvBufForce, &BUFFER)
        .and_then(|()| setsockopt(socket, sockopt::SndBufForce, &BUFFER));
    if forced.is_err() {
        let limited =
            socket.set_recv_buffer_size(BUFFER).and_then(|()| socket.set_send_buffer_size(BUFFER));
        tracing::warn!(?limited, "socket buffers are limited by net.core.rmem_max and wmem_max");
    }
}

impl LaneSocket {
    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Which offloads are in use.
    pub fn offloads(&self) -> Offloads {
        let socket_send = self.offloads.socket_send && self.singly.is_none();
        Offloads { socket_send, ..self.offloads }
    }

    /// Takes what is there into `ring`, without waiting; how many messages.
    pub fn receive(&self, ring: &mut Ring) -> io::Result<usize> {
        ring.receive(self.socket.as_fd())
    }

    /// Sends all of `datagrams`. Where the kernel does not cut them, they go one by one, and so do all for
    /// a while, unless it was for their size: it may be the way to one peer only, or a passing state.
    pub fn send(&mut self, datagrams: &Datagrams<'_>) -> Result<(), Lost> {
        if datagrams.fragment {
            return self.send_in_parts(datagrams);
        }
        let train = datagrams.count() > 1;
        self.singly = self.singly.filter(|until| Instant::now() < *until);
        if train && !self.offloads().socket_send {
            return self.send_singly(datagrams);
        }
        let Err(error) = send::send(self.socket.as_fd(), self.v6, datagrams) else { return Ok(()) };
        match error.raw_os_error() {
            Some(libc::EMSGSIZE) if train => self.send_singly(datagrams),
            // EIO: the device below has no checksums (old kernels); the others: no such option.
            Some(libc::EIO | libc::EINVAL | libc::EOPNOTSUPP | libc::ENOPROTOOPT) if train => {
                let sent = self.send_singly(datagrams);
                if sent.is_ok() {
                    let (to, seconds) = (datagrams.to, SINGLY.as_secs());
                    tracing::warn!(%error, %to, seconds, "the kernel does not segment UDP on the way \
                        to this peer: sending singly for a while");
                    self.singly = Some(Instant::now() + SINGLY);
                }
                sent
            }
            _ => Err(Lost { reason: drop_of(&error), packets: datagrams.count() as u64 }),
        }
    }

    /// Sends datagrams that may be fragmented. That is asked of the whole socket, since the kernel knows
    /// no such wish for a single call; these datagrams are rare, and nobody else sends meanwhile.
    fn send_in_parts(&self, datagrams: &Datagrams<'_>) -> Result<(), Lost> {
        let to_v6 = datagrams.to.ip().to_canonical().is_ipv6();
        let allowed = allow_fragments(&self.socket, to_v6);
        let sent = self.send_singly(datagrams);
        if let Err(error) = allowed.and_then(|()| forbid_fragments(&self.socket, self.v6)) {
            tracing::warn!(%error, "the socket does not change whether it fragments");
        }
        sent
    }

    fn send_singly(&self, datagrams: &Datagrams<'_>) -> Result<(), Lost> {
        let mut lost: Option<Lost> = None;
        for bytes in datagrams.bytes.chunks(datagrams.segment.max(1)) {
            let single = Datagrams { bytes, segment: bytes.len(), ..*datagrams };
            if let Err(error) = send::send(self.socket.as_fd(), self.v6, &single) {
                let reason = drop_of(&error);
                lost = Some(Lost { reason, packets: lost.map_or(1, |lost| lost.packets + 1) });
            }
        }
        lost.map_or(Ok(()), Err)
    }
}

fn drop_of(error: &io::Error) -> DropReason {
    match (error.kind(), error.raw_os_error()) {
        (io::ErrorKind::WouldBlock, _) => DropReason::SocketFull,
        (_, Some(libc::EMSGSIZE)) => DropReason::LinkTooSmall,
        _ => DropReason::SocketError,
    }
}

/// Asks for the ECN mark of each datagram.
fn report_marks(socket: &Socket, v6: bool) -> io::Result<()> {
    set_option(socket, libc::IPPROTO_IP, libc::IP_RECVTOS, 1)?;
    if v6 {
        set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS, 1)?;
    }
    Ok(())
}

/// Which offloads the kernel has, of those wanted (UDP_SEGMENT: Linux 4.18; UDP_GRO: 5.0).
fn probe(socket: &Socket, wanted: Offloads) -> Offloads {
    let has = |option| set_option(socket, libc::SOL_UDP, option, 0).is_ok();
    let merges = || set_option(socket, libc::SOL_UDP, libc::UDP_GRO, 1).is_ok();
    Offloads {
        socket_send: wanted.socket_send && has(libc::UDP_SEGMENT),
        socket_receive: wanted.socket_receive && merges(),
        ..wanted
    }
}

impl AsFd for LaneSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(lane: &LaneSocket) {
        let mut fds = [nix::poll::PollFd::new(lane.as_fd(), nix::poll::PollFlags::POLLIN)];
        nix::poll::poll(&mut fds, 2000u16).expect("polled");
    }

    #[test]
    fn one_socket_talks_to_both_families() {
        let mut lane = open(0, Offloads::default()).expect("a socket");
        let mut ring = Ring::default();
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(peer) = UdpSocket::bind(address) else { continue };
            let to = peer.local_addr().expect("an address");
            let hello = Datagrams { to, ecn: 0, fragment: false, segment: 5, bytes: b"hello" };
            lane.send(&hello).expect("sent");
            let mut buffer = [0; 16];
            let (length, from) = peer.recv_from(&mut buffer).expect("received");
            assert_eq!(&buffer[..length], b"hello");
            peer.send_to(b"back", from).expect("sent");
            wait(&lane);
            assert_eq!(lane.receive(&mut ring).expect("received"), 1);
            let train = ring.train(0).expect("a message");
            assert_eq!((train.from, train.ecn, train.bytes), (to, 0, &b"back"[..]));
        }
    }

    #[test]
    fn a_train_arrives_whole_and_in_order_with_its_mark_with_and_without_offloads() {
        for offloads in [Offloads::default(), Offloads::OFF] {
            for address in [IpAddr::from([127, 0, 0, 1]), Ipv6Addr::LOCALHOST.into()] {
                let (mut a, b) = (open(0, offloads).expect("a"), open(0, offloads).expect("b"));
                let bytes: Vec<u8> = (0..10 * 1000 + 10).map(|i| (i / 1000) as u8).collect();
                let to = SocketAddr::new(address, b.port());
                let train = Datagrams { to, ecn: 2, fragment: false, segment: 1000, bytes: &bytes };
                a.send(&train).expect("sent");
                assert_eq!(a.offloads(), offloads);
                let (mut ring, mut got, mut sizes) = (Ring::default(), Vec::new(), Vec::new());
                while got.len() < bytes.len() {
                    wait(&b);
                    for index in 0..b.receive(&mut ring).expect("received") {
                        let train = ring.train(index).expect("a message");
                        assert_eq!(
                            (train.ecn, train.from),
                            (2, SocketAddr::new(address, a.port()))
                        );
                        sizes.extend(train.bytes.chunks(train.segment).map(<[u8]>::len));
                        got.extend_from_slice(train.bytes);
                    }
                }
                assert_eq!((got, sizes), (bytes, [vec![1000; 10], vec![10]].concat()));
            }
        }
    }

    #[test]
    fn datagrams_that_may_go_in_parts_arrive_and_those_without_end_are_named() {
        for address in [IpAddr::from([127, 0, 0, 1]), Ipv6Addr::LOCALHOST.into()] {
            let (mut a, b) =
                (open(0, Offloads::default()).expect("a"), open(0, Offloads::OFF).expect("b"));
            let (bytes, to) = (vec![7; 66_000], SocketAddr::new(address, b.port()));
            let parts = Datagrams { to, ecn: 0, fragment: true, segment: 33_000, bytes: &bytes };
            a.send(&parts).expect("sent");
            let (mut ring, mut sizes) = (Ring::default(), Vec::new());
            while sizes.iter().sum::<usize>() < bytes.len() {
                wait(&b);
                let count = b.receive(&mut ring).expect("received");
                sizes.extend((0..count).filter_map(|i| ring.train(i)).map(|t| t.bytes.len()));
            }
            assert_eq!(sizes, [33_000; 2], "{address}");
            let lost = a.send(&Datagrams { segment: 66_000, ..parts }).expect_err("too large");
            assert_eq!(lost, Lost { reason: DropReason::LinkTooSmall, packets: 1 });
        }
    }

    #[test]
    fn a_port_in_use_is_named() {
        let first = open(0, Offloads::default()).expect("a socket");
        let error = open(first.port(), Offloads::default()).expect_err("in use");
        assert!(error.to_string().contains(&first.port().to_string()), "{error}");
    }
}
