//! The request socket: one request, its answers, its errors.

use std::io;

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use crate::codec::{Attribute, HEADER, Message, Request, attributes, messages, u32_at};
use crate::error::NetlinkError;

/// The kernel never sends more than this in one datagram of a dump.
const BUFFER: usize = 64 << 10;

/// How often a dump that was interrupted by changes is begun anew.
const DUMP_ATTEMPTS: usize = 8;

const NLMSGERR_ATTR_MSG: u16 = 1;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_CAPPED: u16 = 0x100;

/// A socket for requests to the kernel's routing subsystem, in the network namespace of the thread
/// that opened it.
pub struct Netlink {
    socket: Socket,
    sequence: u32,
    writes: u64,
    buffer: Vec<u8>,
}

impl Netlink {
    /// Opens the socket.
    pub fn open() -> Result<Self, NetlinkError> {
        let failed = |action| move |source| NetlinkError::Socket { action, source };
        let mut socket = Socket::new(NETLINK_ROUTE).map_err(failed("open the socket"))?;
        socket.bind_auto().map_err(failed("bind the socket"))?;
        socket.connect(&SocketAddr::new(0, 0)).map_err(failed("connect to the kernel"))?;
        // Both are refinements: an old kernel answers without explanations, and unfiltered.
        let _ = socket.set_ext_ack(true);
        let _ = socket.set_netlink_get_strict_chk(true);
        Ok(Self { socket, sequence: 0, writes: 0, buffer: Vec::with_capacity(BUFFER) })
    }

    /// How many requests that change something were sent since [`Netlink::open`].
    pub fn writes(&self) -> u64 {
        self.writes
    }

    /// Sends a request that changes something and waits for its acknowledgement.
    pub(crate) fn write(
        &mut self,
        request: Request,
        what: impl FnOnce() -> String,
    ) -> Result<(), NetlinkError> {
        self.writes += 1;
        let sequence = self.send(request)?;
        loop {
            self.receive()?;
            for message in messages(&self.buffer) {
                if message.sequence == sequence && i32::from(message.kind) == libc::NLMSG_ERROR {
                    return acknowledged(&message, what);
                }
            }
        }
    }

    /// Sends a request that is answered by one object, and hands its payload to `parse`.
    pub(crate) fn ask<T>(
        &mut self,
        request: Request,
        what: impl Fn() -> String,
        mut parse: impl FnMut(&[u8]) -> Option<T>,
    ) -> Result<Option<T>, NetlinkError> {
        let sequence = self.send(request)?;
        loop {
            self.receive()?;
            for message in messages(&self.buffer) {
                if message.sequence != sequence {
                    continue;
                }
                if i32::from(message.kind) != libc::NLMSG_ERROR {
                    return Ok(parse(message.payload));
                }
                acknowledged(&message, || format!("read {}", what()))?;
            }
        }
    }

    /// Sends a dump request and hands every object's payload to `parse`, which leaves out what it
    /// does not understand.
    pub(crate) fn dump<T>(
        &mut self,
        what: &'static str,
        request: impl Fn() -> Request,
        mut parse: impl FnMut(&[u8]) -> Option<T>,
    ) -> Result<Vec<T>, NetlinkError> {
        for _ in 0..DUMP_ATTEMPTS {
            let sequence = self.send(request())?;
            if let Some(objects) = self.collect(sequence, what, &mut parse)? {
                return Ok(objects);
            }
        }
        Err(NetlinkError::Unsteady { what })
    }

    /// `None` when the kernel's state changed meanwhile.
    fn collect<T>(
        &mut self,
        sequence: u32,
        what: &'static str,
        parse: &mut impl FnMut(&[u8]) -> Option<T>,
    ) -> Result<Option<Vec<T>>, NetlinkError> {
        let mut objects = Vec::new();
        let mut interrupted = false;
        loop {
            self.receive()?;
            for message in messages(&self.buffer) {
                if message.sequence != sequence {
                    continue;
                }
                interrupted |= message.flags & NLM_F_DUMP_INTR != 0;
                match i32::from(message.kind) {
                    libc::NLMSG_DONE => return Ok((!interrupted).then_some(objects)),
                    libc::NLMSG_ERROR => {
                        acknowledged(&message, || format!("read {what}"))?;
                        return Ok(Some(objects));
                    }
                    _ => objects.extend(parse(message.payload)),
                }
            }
        }
    }

    fn send(&mut self, request: Request) -> Result<u32, NetlinkError> {
        self.sequence = self.sequence.wrapping_add(1);
        let bytes = request.finish(self.sequence);
        self.socket
            .send(&bytes, 0)
            .map_err(|source| NetlinkError::Socket { action: "send", source })?;
        Ok(self.sequence)
    }

    fn receive(&mut self) -> Result<(), NetlinkError> {
        loop {
            self.buffer.clear();
            match self.socket.recv(&mut self.buffer, 0) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(NetlinkError::Socket { action: "receive", source }),
            }
        }
    }
}

impl std::fmt::Debug for Netlink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Netlink").field("writes", &self.writes).finish_non_exhaustive()
    }
}

fn acknowledged(message: &Message<'_>, what: impl FnOnce() -> String) -> Result<(), NetlinkError> {
    let Some(code) = message.payload.get(0..4).and_then(|b| b.try_into().ok()) else {
        return Err(NetlinkError::Malformed { what: what() });
    };
    match i32::from_ne_bytes(code) {
        0 => Ok(()),
        code => {
            let source = io::Error::from_raw_os_error(-code);
            Err(NetlinkError::Refused { what: what(), source, message: explanation(message) })
        }
    }
}

/// The kernel's text (extended acknowledgement), behind the echo of our request.
fn explanation(message: &Message<'_>) -> String {
    let echoed = if message.flags & NLM_F_CAPPED != 0 {
        HEADER
    } else {
        u32_at(message.payload, 4).unwrap_or(0) as usize
    };
    attributes(message.payload, 4 + echoed)
        .find(|attribute| attribute.kind == NLMSGERR_ATTR_MSG)
        .map(|attribute: Attribute<'_>| attribute.text())
        .unwrap_or_default()
}
