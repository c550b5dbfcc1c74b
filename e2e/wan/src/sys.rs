//! The system calls that have no safe wrapper: TUN creation, ppoll, sendmmsg, recvmmsg.
#![expect(unsafe_code, reason = "system calls without a safe wrapper in nix's enabled parts")]

use std::fs::{File, OpenOptions};
use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

/// Most packets in one sendmmsg or recvmmsg.
pub const BATCH: usize = 64;

/// Makes a TUN device in the calling thread's network namespace. No virtio header and no
/// offloads, so the kernel segments and checksums whatever is read here.
pub fn tun(name: &str) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open("/dev/net/tun")?;
    // SAFETY: an all-zero ifreq is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.len() >= request.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (slot, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *slot = byte as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: TUNSETIFF reads and writes one ifreq, which outlives the call.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(file) }
}

/// Waits until one of two descriptors is readable or the time is over (none: forever), with
/// nanosecond timeouts. An interrupted wait counts as over.
pub fn wait_readable(fds: [BorrowedFd<'_>; 2], timeout: Option<Duration>) -> io::Result<()> {
    let mut poll =
        fds.map(|fd| libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 });
    let spec = timeout.map(|t| libc::timespec {
        tv_sec: t.as_secs() as libc::time_t,
        tv_nsec: t.subsec_nanos() as libc::c_long,
    });
    let spec = spec.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: the array and the timespec (or null) outlive the call; no signal mask is passed.
    let result = unsafe { libc::ppoll(poll.as_mut_ptr(), 2, spec, std::ptr::null()) };
    match result {
        0.. => Ok(()),
        _ => match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            error => Err(error),
        },
    }
}

/// Puts the calling thread before ordinary ones, so that a busy machine makes nothing late: as a
/// real-time thread where that is allowed, else by its niceness.
pub fn prefer_thread() -> io::Result<()> {
    let parameter = libc::sched_param { sched_priority: 1 };
    // SAFETY: the parameter outlives the call; 0 means the calling thread on Linux.
    if unsafe { libc::sched_setscheduler(0, libc::SCHED_RR, &raw const parameter) } == 0 {
        return Ok(());
    }
    // SAFETY: no pointers; 0 means the calling thread on Linux.
    let result = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -15) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn headers(vectors: &mut [libc::iovec]) -> Vec<libc::mmsghdr> {
    vectors
        .iter_mut()
        .map(|vector| {
            // SAFETY: an all-zero mmsghdr is valid: no name, no vectors, no control data.
            let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
            header
        })
        .collect()
}

/// Sends `payload` `count` times (at most [`BATCH`]) on a connected socket; returns how many
/// the kernel took.
pub fn send_many(socket: &UdpSocket, payload: &[u8], count: usize) -> io::Result<usize> {
    let base = payload.as_ptr().cast_mut().cast();
    let vector = libc::iovec { iov_base: base, iov_len: payload.len() };
    let mut vectors = [vector; BATCH];
    let mut messages = headers(&mut vectors);
    let count = count.min(BATCH) as libc::c_uint;
    // SAFETY: count ≤ BATCH headers point to live vectors, and sending only reads the payload.
    let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), messages.as_mut_ptr(), count, 0) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(sent as usize) }
}

/// Receives up to [`BATCH`] datagrams, blocking by the socket's timeout for the first, and
/// returns how many; their bytes are thrown away.
pub fn receive_many(socket: &UdpSocket) -> io::Result<usize> {
    let mut scratch = [0u8; BATCH];
    let mut vectors: Vec<_> = scratch
        .iter_mut()
        .map(|byte| libc::iovec { iov_base: std::ptr::from_mut(byte).cast(), iov_len: 1 })
        .collect();
    let mut messages = headers(&mut vectors);
    // SAFETY: BATCH headers point to live one-byte vectors; the rest of a datagram is cut off.
    let received = unsafe {
        libc::recvmmsg(
            socket.as_raw_fd(),
            messages.as_mut_ptr(),
            BATCH as libc::c_uint,
            libc::MSG_WAITFORONE,
            std::ptr::null_mut(),
        )
    };
    if received < 0 { Err(io::Error::last_os_error()) } else { Ok(received as usize) }
}
