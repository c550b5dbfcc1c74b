//! QUIC between members: pinned on both ends, without tickets, resumption or early data.
//!
//! An [`Exchange`] is one UDP socket that dials and accepts. A [`Link`] is a connection whose other
//! end was judged; each side tells the other that it accepted it before either uses it, so that a
//! refusal arrives with its reason. A link carries one bidirectional stream of frames, and questions on streams of
//! their own ([`call`]).

pub mod call;
pub mod close;
pub mod error;
pub mod exchange;
pub mod frame;
pub(crate) mod limits;
pub mod link;
pub(crate) mod tls;

pub use call::{Call, Reply};
pub use close::CloseReason;
pub use error::{ConnectError, ConnectErrorKind};
pub use exchange::{Arrival, Exchange, Incoming};
pub use frame::{FrameError, Receiver, Sender};
pub use limits::Limits;
pub use link::Link;

/// What a connection is for: its ALPN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// A gateway or agent gets its certificate; the client has none yet.
    Join,
    /// Controller (or gateway) with the members of its own cluster.
    Member,
    /// Gateways of two clusters.
    Peer,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Join, Self::Member, Self::Peer];

    /// The application protocol name in TLS.
    pub fn alpn(self) -> &'static [u8] {
        match self {
            Self::Join => b"carrick-join/1",
            Self::Member => b"carrick-member/1",
            Self::Peer => b"carrick-peer/1",
        }
    }

    pub(crate) fn of_alpn(alpn: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|protocol| protocol.alpn() == alpn)
    }

    /// The largest frame in bytes that is read or written.
    pub fn max_frame(self) -> usize {
        match self {
            Self::Join => 64 << 10,
            Self::Member => 4 << 20,
            Self::Peer => 1 << 20,
        }
    }
}
