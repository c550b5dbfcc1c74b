//! The packet that waits to be written to the device, and grows while packets of its flow follow.
//!
//! A datagram is decrypted to where its payload belongs if it follows: right behind the last one's, so
//! that its headers land on the last payload's end. Those bytes are kept aside and put back afterwards,
//! and nothing but headers is copied.

use super::{ETHERNET, Framing, LONGEST_DATAGRAM, Lost, Sink};
use crate::coalesce::{LONGEST_MERGED, Merging, Run};
use crate::offload::{Cut, Offload};
use crate::packet::Header;

/// The longest super-packet: what IPv4's length field says.
const LONGEST: usize = 65_535;

/// The packet that waits.
pub(super) struct Merge {
    /// Room for an Ethernet header, then the packet.
    bytes: Box<[u8]>,
    /// Where it ends; [`ETHERNET`] when there is none.
    end: usize,
    /// The tunnel that it came from.
    slot: usize,
    run: Option<Run>,
    aside: [u8; LONGEST_MERGED],
    /// How many bytes are aside.
    kept: usize,
    pub merging: Merging,
}

impl Default for Merge {
    fn default() -> Self {
        Self {
            bytes: vec![0; ETHERNET + LONGEST + LONGEST_DATAGRAM].into(),
            end: ETHERNET,
            slot: 0,
            run: None,
            aside: [0; LONGEST_MERGED],
            kept: 0,
            merging: Merging { tcp: true, udp: true },
        }
    }
}

impl Merge {
    /// Whether what waits is of the tunnel in `slot` and can take no more.
    pub fn is_closed_for(&self, slot: usize) -> bool {
        self.slot == slot && !self.run.as_ref().is_some_and(Run::is_open)
    }

    /// Where to decrypt the next datagram of the tunnel in `slot`.
    pub fn landing(&mut self, slot: usize) -> &mut [u8] {
        let open = self.run.as_ref().filter(|run| self.slot == slot && run.is_open());
        let headers = open.map_or(0, Run::headers);
        self.kept = headers;
        let at = self.end - headers;
        self.aside[..headers].copy_from_slice(&self.bytes[at..self.end]);
        &mut self.bytes[at..]
    }

    /// What landed was no packet, or is not wanted.
    pub fn discard(&mut self) {
        let at = self.end - self.kept;
        self.bytes[at..self.end].copy_from_slice(&self.aside[..self.kept]);
        self.kept = 0;
    }

    /// The packet of `length` bytes that landed.
    pub fn landed(&mut self, length: usize) -> &mut [u8] {
        let at = self.end - self.kept;
        &mut self.bytes[at..at + length]
    }

    /// Whether the packet of `length` bytes that landed follows those that wait. Then it waits, too.
    pub fn joins(&mut self, length: usize) -> bool {
        let at = self.end - self.kept;
        let Some(run) = self.run.as_mut().filter(|_| self.kept > 0) else { return false };
        if !run.take(&self.bytes[at..at + length]) {
            return false;
        }
        self.discard();
        self.end = at + length;
        true
    }

    /// Writes what waits to the device, and moves the packet of `length` bytes that landed to where
    /// the next one begins.
    pub fn make_way(
        &mut self,
        length: usize,
        framing: Framing,
        sink: &mut impl Sink,
    ) -> Result<(), Lost> {
        let at = self.end - self.kept;
        if at == ETHERNET {
            return Ok(());
        }
        let (kept, end) = (self.kept.min(length), self.end);
        let mut headers = [0; LONGEST_MERGED];
        headers[..kept].copy_from_slice(&self.bytes[at..at + kept]);
        self.discard();
        let written = self.flush(framing, sink);
        self.bytes.copy_within(end..end.max(at + length), ETHERNET + kept);
        self.bytes[ETHERNET..ETHERNET + kept].copy_from_slice(&headers[..kept]);
        written
    }

    /// The bytes with room for an Ethernet header before the packet that was made way for.
    pub fn bytes(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// A run that begins with the first `length` bytes.
    pub fn run(&self, length: usize, header: &Header) -> Option<Run> {
        Run::begin(&self.bytes[ETHERNET..ETHERNET + length], header, self.merging)
    }

    /// The first `length` bytes wait from now on, for what follows as `run` says.
    pub fn hold(&mut self, slot: usize, length: usize, run: Option<Run>) {
        (self.slot, self.run, self.end) = (slot, run, ETHERNET + length);
    }

    /// Writes what waits to the device.
    pub fn flush(&mut self, framing: Framing, sink: &mut impl Sink) -> Result<(), Lost> {
        let (end, run) = (self.end, self.run.take());
        self.end = ETHERNET;
        if end == ETHERNET {
            return Ok(());
        }
        let offset = match framing {
            Framing::Ethernet => ETHERNET,
            Framing::Ip => 0,
        };
        let offload = match run {
            None => Offload::Whole,
            Some(run) if run.count() == 1 => Offload::Checked,
            Some(run) => {
                let cut = run.finish(&mut self.bytes[ETHERNET..end]);
                let (upper, payload) = (cut.upper + offset, cut.payload + offset);
                Offload::Cut(Cut { upper, payload, ..cut })
            }
        };
        sink.frame(&mut self.bytes[ETHERNET - offset..end], offload)
    }
}
