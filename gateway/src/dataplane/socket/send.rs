//! Sending: many datagrams of one size in one call, which the kernel cuts (UDP_SEGMENT).

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd};

use carrick_gateway_core::Datagrams;
use socket2::SockAddr;

/// Room for two control messages of an integer each, aligned as they need it.
const CONTROL: usize = 8;
type Control = [MaybeUninit<u64>; CONTROL];

/// Sends all of `datagrams` in one call. `v6` says that the socket is of both families.
pub(super) fn send(socket: BorrowedFd<'_>, v6: bool, datagrams: &Datagrams<'_>) -> io::Result<()> {
    let to = match datagrams.to.ip() {
        IpAddr::V4(v4) if v6 => SocketAddr::new(v4.to_ipv6_mapped().into(), datagrams.to.port()),
        _ => datagrams.to,
    };
    let to = SockAddr::from(to);
    let mut part = libc::iovec {
        iov_base: datagrams.bytes.as_ptr().cast_mut().cast(),
        iov_len: datagrams.bytes.len(),
    };
    let mut control: Control = [MaybeUninit::zeroed(); CONTROL];
    // SAFETY: msghdr is plain data, for which all zeros is a valid value.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_name = to.as_ptr().cast_mut().cast();
    message.msg_namelen = to.len();
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_controllen = write_control(&mut control, datagrams);
    message.msg_control = control.as_mut_ptr().cast();
    // SAFETY: the descriptor is open; address, part and control are alive and as long as the message
    // says; the kernel writes to none of them.
    let sent = unsafe {
        libc::sendmsg(
            socket.as_raw_fd(),
            &raw const message,
            libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
        )
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Writes what the datagrams need beside their bytes, and says how long it is.
fn write_control(control: &mut Control, datagrams: &Datagrams<'_>) -> usize {
    let mut at = 0;
    if datagrams.count() > 1 {
        at += put(control, at, libc::SOL_UDP, libc::UDP_SEGMENT, datagrams.segment as u16);
    }
    if datagrams.ecn != 0 {
        let mark = libc::c_int::from(datagrams.ecn);
        // An IPv4 peer of a socket of both families is marked as IPv4.
        at += match datagrams.to.ip().to_canonical() {
            IpAddr::V4(_) => put(control, at, libc::IPPROTO_IP, libc::IP_TOS, mark),
            IpAddr::V6(_) => put(control, at, libc::IPPROTO_IPV6, libc::IPV6_TCLASS, mark),
        };
    }
    at
}

/// Writes one control message at `at`; the place that it takes.
fn put<T: Copy>(control: &mut Control, at: usize, level: i32, kind: i32, value: T) -> usize {
    // SAFETY: these only compute lengths.
    let (space, length) =
        unsafe { (libc::CMSG_SPACE(size_of::<T>() as u32), libc::CMSG_LEN(size_of::<T>() as u32)) };
    let header = libc::cmsghdr { cmsg_len: length as usize, cmsg_level: level, cmsg_type: kind };
    assert!(at + space as usize <= size_of::<Control>(), "room for two messages");
    // SAFETY: header and value end within `space` bytes from `at`, which are in bounds by the check
    // above; spaces are multiples of the alignment of cmsghdr, and the value is written unaligned.
    unsafe {
        let to = control.as_mut_ptr().cast::<u8>().add(at);
        to.cast::<libc::cmsghdr>().write(header);
        libc::CMSG_DATA(to.cast()).cast::<T>().write_unaligned(value);
    }
    space as usize
}
