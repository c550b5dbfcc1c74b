//! A lane's UDP socket: one for both families, never fragmenting.
#![expect(unsafe_code, reason = "IP_MTU_DISCOVER is a socket option that no crate here wraps")]

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

/// Room for bursts in the kernel, each way, in bytes.
const BUFFER: usize = 8 << 20;

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
}

/// Listens on `port` on all addresses of both families, or of IPv4 where the kernel has no IPv6.
pub(super) fn open(port: u16) -> Result<LaneSocket, SocketError> {
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
    let all =
        if v6 { IpAddr::V6(Ipv6Addr::UNSPECIFIED) } else { IpAddr::V4(Ipv4Addr::UNSPECIFIED) };
    socket.bind(&SocketAddr::new(all, port).into()).map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => SocketError::InUse(port),
        _ => SocketError::System { step: "bind", port, source },
    })?;
    let socket = UdpSocket::from(socket);
    let port = socket.local_addr().map_err(error("read the address of"))?.port();
    Ok(LaneSocket { socket, port, v6 })
}

/// Sets DF and ignores what ICMP says of the path: our MTU is verified by full-size probes, and
/// fragments would let those pass where nothing else does.
fn forbid_fragments(socket: &Socket, v6: bool) -> io::Result<()> {
    set_option(socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE)?;
    if v6 {
        let probe = libc::IPV6_PMTUDISC_PROBE;
        set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, probe)?;
    }
    Ok(())
}

fn set_option(socket: &Socket, level: i32, name: i32, value: libc::c_int) -> io::Result<()> {
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

    /// Takes one datagram; IPv4 senders are named as such.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let (length, from) = self.socket.recv_from(buffer)?;
        Ok((length, SocketAddr::new(from.ip().to_canonical(), from.port())))
    }

    /// Sends one datagram.
    pub fn send(&self, to: SocketAddr, datagram: &[u8]) -> io::Result<()> {
        let to = match to.ip() {
            IpAddr::V4(v4) if self.v6 => SocketAddr::new(v4.to_ipv6_mapped().into(), to.port()),
            _ => to,
        };
        self.socket.send_to(datagram, to).map(drop)
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

    #[test]
    fn one_socket_talks_to_both_families() {
        let lane = open(0).expect("a socket");
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(peer) = UdpSocket::bind(address) else { continue };
            let to = peer.local_addr().expect("an address");
            lane.send(to, b"hello").expect("sent");
            let mut buffer = [0; 16];
            let (length, from) = peer.recv_from(&mut buffer).expect("received");
            assert_eq!(&buffer[..length], b"hello");
            peer.send_to(b"back", from).expect("sent");
            nix::poll::poll(
                &mut [nix::poll::PollFd::new(lane.as_fd(), nix::poll::PollFlags::POLLIN)],
                2000u16,
            )
            .expect("polled");
            assert_eq!(lane.receive(&mut buffer).expect("received"), (4, to));
        }
    }

    #[test]
    fn a_port_in_use_is_named() {
        let first = open(0).expect("a socket");
        let error = open(first.port()).expect_err("in use");
        assert!(error.to_string().contains(&first.port().to_string()), "{error}");
    }
}
