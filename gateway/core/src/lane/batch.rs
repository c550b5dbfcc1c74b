//! Datagrams that wait to leave together: of one size, to one endpoint, with one ECN mark, so that the
//! kernel takes them in one call and cuts them itself.

use std::net::SocketAddr;

use super::{Datagrams, LONGEST_DATAGRAM, Lost, Sink};
use crate::noise::LONGEST_HANDSHAKE;

/// The most bytes in one send: 45 datagrams of a path of 1,500 bytes, and below what either family's
/// length fields allow.
const MOST_BYTES: usize = 45 * 1452;
/// The most datagrams in one send: what every kernel with UDP segmentation takes.
const MOST_DATAGRAMS: usize = 64;

/// Datagrams that wait.
#[derive(Debug)]
pub(super) struct Batch {
    bytes: Box<[u8]>,
    length: usize,
    count: usize,
    /// The first one's length: that of all but the last.
    segment: usize,
    to: Option<SocketAddr>,
    ecn: u8,
    fragment: bool,
}

impl Default for Batch {
    fn default() -> Self {
        Self {
            bytes: vec![0; MOST_BYTES + LONGEST_DATAGRAM + LONGEST_HANDSHAKE].into(),
            length: 0,
            count: 0,
            segment: 0,
            to: None,
            ecn: 0,
            fragment: false,
        }
    }
}

impl Batch {
    /// Makes room for a datagram of `length` bytes; what waits leaves first when it cannot join.
    pub fn prepare(
        &mut self,
        to: SocketAddr,
        ecn: u8,
        fragment: bool,
        length: usize,
        sink: &mut impl Sink,
    ) -> Result<(), Lost> {
        let joins = self.count < MOST_DATAGRAMS
            && self.to == Some(to)
            && self.ecn == ecn
            && self.fragment == fragment
            && length <= self.segment
            && self.length == self.count * self.segment
            && self.length + length <= MOST_BYTES;
        let sent = if joins { Ok(()) } else { self.flush(sink) };
        (self.to, self.ecn, self.fragment) = (Some(to), ecn, fragment);
        sent
    }

    /// Where the next datagram is to be written.
    pub fn room(&mut self) -> &mut [u8] {
        &mut self.bytes[self.length..]
    }

    /// The first `length` bytes of the room are a datagram.
    pub fn push(&mut self, length: usize) {
        if self.count == 0 {
            self.segment = length;
        }
        self.length += length;
        self.count += 1;
    }

    /// Sends what waits.
    pub fn flush(&mut self, sink: &mut impl Sink) -> Result<(), Lost> {
        let (length, count) = (self.length, self.count);
        (self.length, self.count) = (0, 0);
        match self.to {
            Some(to) if count > 0 => sink.datagrams(&Datagrams {
                to,
                ecn: self.ecn,
                fragment: self.fragment,
                segment: self.segment,
                bytes: &self.bytes[..length],
            }),
            _ => Ok(()),
        }
    }
}
