//! What a device may leave to us, and we to it: unfinished checksums and uncut packets.
//!
//! The kernel's own packets reach a TAP or TUN as it has them: TCP streams and UDP trains up to 64 KiB
//! long, not yet cut into packets, their checksums not yet summed. [`Offload`] says which; it is what
//! the header of a virtio network device says (virtio 1.2, section 5.1.6), in types.

/// What is left to do with a packet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Offload {
    /// Nothing is left, and nothing is known of its checksum: the reader checks it.
    #[default]
    Whole,
    /// Nothing is left, and its checksum was seen to be right.
    Checked,
    /// The checksum is to be finished: the sum from `start` to the packet's end belongs at `start` +
    /// `offset`, where the pseudo-header's is now. Offsets count from the frame's first byte.
    Checksum {
        /// Where the sum begins, in bytes.
        start: usize,
        /// Where the field is, in bytes from `start`.
        offset: usize,
    },
    /// The packet is to be cut.
    Cut(Cut),
}

impl Offload {
    /// How many packets a frame of `length` bytes makes.
    pub fn packets(self, length: usize) -> usize {
        match self {
            Self::Cut(cut) => cut.packets(length),
            Self::Whole | Self::Checked | Self::Checksum { .. } => 1,
        }
    }
}

/// A packet to be cut into several: how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// What kind of packet it is.
    pub kind: CutKind,
    /// How many bytes of payload each takes; the last takes the rest.
    pub size: usize,
    /// Bytes from the frame's first to the upper header.
    pub upper: usize,
    /// Bytes from the frame's first to the payload.
    pub payload: usize,
}

impl Cut {
    /// How many packets a frame of `length` bytes makes.
    pub fn packets(&self, length: usize) -> usize {
        length.saturating_sub(self.payload).div_ceil(self.size.max(1)).max(1)
    }
}

/// What is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CutKind {
    /// TCP over IPv4.
    Tcp4,
    /// TCP over IPv6.
    Tcp6,
    /// UDP over either.
    Udp,
}
