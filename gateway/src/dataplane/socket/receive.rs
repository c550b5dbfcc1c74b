//! Receiving: many datagrams in one call, each of them perhaps a train that the kernel merged (UDP_GRO).

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use socket2::{SockAddr, SockAddrStorage};

/// The most messages in one call.
const MESSAGES: usize = 32;
/// Of trains no more are taken at once, lest the device waits too long for its turn.
const TRAINS: usize = 8;
/// The longest train.
const LONGEST: usize = 1 << 16;
/// Room for the control messages that we ask for, aligned as they need it.
const CONTROL: usize = 16;

/// What was received with one message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Train<'a> {
    /// Its sender, IPv4 named as such.
    pub from: SocketAddr,
    /// The ECN mark of its IP headers.
    pub ecn: u8,
    /// How many bytes each datagram has; the last may have fewer.
    pub segment: usize,
    /// The datagrams.
    pub bytes: &'a [u8],
}

impl<'a> Train<'a> {
    /// One by one; an empty datagram is one, too.
    pub fn datagrams(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let empty: Option<&[u8]> = self.bytes.is_empty().then_some(&[]);
        empty.into_iter().chain(self.bytes.chunks(self.segment))
    }
}

/// Where datagrams are received to. The memory is touched only as far as trains are long.
pub(crate) struct Ring {
    bytes: Box<[u8]>,
    messages: Vec<Message>,
    /// Messages to take at once.
    wanted: usize,
}

/// One message's length, sender and control messages.
#[derive(Clone)]
struct Message {
    length: usize,
    from: Option<SocketAddr>,
    segment: usize,
    ecn: u8,
}

impl Default for Ring {
    fn default() -> Self {
        let nothing = Message { length: 0, from: None, segment: 0, ecn: 0 };
        Self {
            bytes: vec![0; MESSAGES * LONGEST].into(),
            messages: vec![nothing; MESSAGES],
            wanted: TRAINS,
        }
    }
}

impl Ring {
    /// Receives what is there, without waiting; how many messages.
    pub(super) fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        let mut names: [SockAddrStorage; MESSAGES] =
            std::array::from_fn(|_| SockAddrStorage::zeroed());
        let mut control = [[MaybeUninit::<u64>::zeroed(); CONTROL]; MESSAGES];
        // SAFETY: iovec and mmsghdr are plain data, for which all zeros is a valid value.
        let mut parts: [libc::iovec; MESSAGES] = unsafe { std::mem::zeroed() };
        // SAFETY: as above.
        let mut headers: [libc::mmsghdr; MESSAGES] = unsafe { std::mem::zeroed() };
        let rooms = self.bytes.chunks_exact_mut(LONGEST);
        for (index, (header, room)) in headers.iter_mut().zip(rooms).enumerate().take(self.wanted) {
            parts[index] = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: LONGEST };
            let message = &mut header.msg_hdr;
            message.msg_name = (&raw mut names[index]).cast();
            message.msg_namelen = names[index].size_of();
            message.msg_iov = &raw mut parts[index];
            message.msg_iovlen = 1;
            message.msg_control = control[index].as_mut_ptr().cast();
            message.msg_controllen = size_of_val(&control[index]);
        }
        // SAFETY: the descriptor is open; each of the first `wanted` headers points to an address, a
        // part and a control buffer of its own, alive and as long as it says.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                self.wanted as u32,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        if count < 0 {
            return Err(io::Error::last_os_error());
        }
        let count = count as usize;
        for ((header, name), message) in
            headers.iter().zip(names).zip(&mut self.messages).take(count)
        {
            let (segment, ecn) = read_control(&header.msg_hdr);
            let truncated = header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
            message.length = if truncated { 0 } else { header.msg_len as usize };
            // SAFETY: the kernel wrote an address of this length into the storage.
            let name = unsafe { SockAddr::new(name, header.msg_hdr.msg_namelen) };
            message.from = name.as_socket();
            message.segment = segment.unwrap_or(message.length);
            message.ecn = ecn;
        }
        self.adapt(count);
        Ok(count)
    }

    /// Where the kernel merges nothing, more messages make up for it.
    fn adapt(&mut self, count: usize) {
        let merged = self.messages[..count].iter().any(|m| m.length > m.segment);
        self.wanted = match (merged, count == self.wanted) {
            (true, _) => TRAINS,
            (false, true) => MESSAGES,
            (false, false) => self.wanted,
        };
    }

    /// The message number `index` of those received last.
    pub fn train(&self, index: usize) -> Option<Train<'_>> {
        let message = self.messages.get(index)?;
        let from = message.from?;
        let start = index * LONGEST;
        Some(Train {
            from: SocketAddr::new(from.ip().to_canonical(), from.port()),
            ecn: message.ecn,
            segment: message.segment.max(1),
            bytes: &self.bytes[start..start + message.length.min(LONGEST)],
        })
    }
}

/// The datagrams' size, if they were merged, and their ECN mark.
fn read_control(message: &libc::msghdr) -> (Option<usize>, u8) {
    let (mut segment, mut ecn) = (None, 0);
    // SAFETY: the message points to its control buffer, of the length that the kernel wrote.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(message) };
    while !next.is_null() {
        // SAFETY: not null, so it lies in the control buffer with its whole header; the macros give
        // where its data is, and its length says how much of it there is.
        let (header, data) = unsafe { (*next, libc::CMSG_DATA(next)) };
        // SAFETY: only computes a length.
        let length = header.cmsg_len.saturating_sub(unsafe { libc::CMSG_LEN(0) } as usize);
        match (header.cmsg_level, header.cmsg_type) {
            (libc::SOL_UDP, libc::UDP_GRO) if length >= size_of::<libc::c_int>() => {
                // SAFETY: an integer is there by its length; it is read unaligned.
                let size = unsafe { data.cast::<libc::c_int>().read_unaligned() };
                segment = usize::try_from(size).ok().filter(|size| *size > 0);
            }
            (libc::IPPROTO_IP, libc::IP_TOS) if length >= 1 => {
                // SAFETY: a byte is there by its length.
                ecn = unsafe { data.read() } & 3;
            }
            (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) if length >= size_of::<libc::c_int>() => {
                // SAFETY: an integer is there by its length; it is read unaligned.
                ecn = (unsafe { data.cast::<libc::c_int>().read_unaligned() } & 3) as u8;
            }
            _ => {}
        }
        // SAFETY: as for the first.
        next = unsafe { libc::CMSG_NXTHDR(message, next) };
    }
    (segment, ecn)
}
