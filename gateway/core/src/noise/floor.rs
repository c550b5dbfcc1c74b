//! What input and output cost, without the cipher: only in builds with `--cfg carrick_floor`, which
//! `cargo bench-tunnel --floor` measures against. Such a build encrypts nothing; both ends must be one.
//!
//! Handshakes, and the first message of each session, are real; all other messages have the right form,
//! plain text inside and a tag of zeros, which no real message has.

use super::{DATA, OVERHEAD};

const TAG: usize = 16;

/// The sessions' messages without cipher.
#[derive(Debug, Default)]
pub(super) struct Floor {
    /// Type and receiver of our messages, once a real one showed them.
    header: Option<[u8; 8]>,
    counter: u64,
}

impl Floor {
    /// Writes `packet` as a message without cipher. `None` while a real one is due.
    pub fn seal(&mut self, packet: &[u8], out: &mut [u8]) -> Option<usize> {
        let header = self.header?;
        self.counter += 1;
        let length = packet.len() + OVERHEAD;
        let message = out.get_mut(..length)?;
        message[..8].copy_from_slice(&header);
        message[8..16].copy_from_slice(&self.counter.to_le_bytes());
        message[16..length - TAG].copy_from_slice(packet);
        message[length - TAG..].fill(0);
        Some(length)
    }

    /// Notes a real message of ours.
    pub fn note(&mut self, message: &[u8]) {
        self.header = message.first_chunk().copied();
    }

    /// A new session: a real message is due.
    pub fn renew(&mut self) {
        self.header = None;
    }

    /// Reads a message without cipher; `None` if it is a real one.
    pub fn open(datagram: &[u8], out: &mut [u8]) -> Option<usize> {
        let (message, tag) = datagram.split_last_chunk::<TAG>()?;
        if message.first() != Some(&DATA) || *tag != [0; TAG] {
            return None;
        }
        let packet = message.get(16..)?;
        out.get_mut(..packet.len())?.copy_from_slice(packet);
        Some(packet.len())
    }
}
