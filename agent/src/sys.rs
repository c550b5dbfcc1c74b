//! The socket options that no safe wrapper offers.
#![expect(unsafe_code, reason = "setsockopt")]

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

/// Sets the don't-fragment flag on what the socket sends, whatever the kernel believes about the
/// path: only packets that really cross count.
pub fn never_fragment(socket: BorrowedFd<'_>) -> io::Result<()> {
    let value: libc::c_int = libc::IP_PMTUDISC_PROBE;
    // SAFETY: the descriptor is open for as long as it is borrowed, and the kernel reads `value`
    // within the length given.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_MTU_DISCOVER,
            (&raw const value).cast(),
            size_of_val(&value) as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
