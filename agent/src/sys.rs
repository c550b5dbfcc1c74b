//! The socket options that no safe wrapper offers.
#![expect(unsafe_code, reason = "setsockopt")]

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

/// What may wait in a socket until it is read, in bytes of the kernel's: more than a thousand short packets. By
/// default it is some 250, which a drill's streams send in 150 ms.
const WAITING: libc::c_int = 1 << 20;

/// Sets the don't-fragment flag on what the socket sends, whatever the kernel believes about the
/// path: only packets that really cross count.
pub fn never_fragment(socket: BorrowedFd<'_>) -> io::Result<()> {
    set(socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE)
}

/// Lets the socket keep what comes while this process gets no turn, so that it does not pass for lost on the
/// way. Needs NET_ADMIN.
pub fn hold_more(socket: BorrowedFd<'_>) -> io::Result<()> {
    set(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, WAITING)
}

fn set(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    // SAFETY: the descriptor is open for as long as it is borrowed, and the kernel reads `value`
    // within the length given.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of_val(&value) as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn a_thousand_packets_wait_for_a_reader_that_gets_no_turn() {
        let receiver = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        receiver.set_nonblocking(true).expect("an option");
        hold_more(receiver.as_fd()).expect("more room");
        let sender = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        sender.connect(receiver.local_addr().expect("an address")).expect("an address");
        for _ in 0..1000 {
            sender.send(&[0; 100]).expect("sent");
        }
        let waiting = (0..1000).take_while(|_| receiver.recv(&mut [0; 100]).is_ok()).count();
        assert_eq!(waiting, 1000);
    }
}
