//! Messages, trust and transport between Carrick's parts: one QUIC protocol with three uses.
//!
//! What comes from the other side passes three borders in this order: the transport admits only
//! pinned identities in the role that the protocol demands ([`trust`]); a snapshot counts only with
//! its cluster's signature ([`snapshot`]); and of what it says only what the receiver's own policy
//! accepts is believed ([`filter`]).

pub mod book;
pub mod certificate;
pub mod filter;
pub mod identity;
pub mod join;
pub mod member;
pub mod message;
pub mod peer;
pub mod probe;
pub mod snapshot;
pub mod transport;
pub mod trust;
pub mod wire;

pub use certificate::{Credentials, MemberKey};
pub use identity::ClusterIdentity;
pub use transport::{
    Arrival, Call, CloseReason, ConnectError, Exchange, FrameError, Incoming, Limits, Link,
    Protocol, Receiver, Reply, Sender,
};
pub use trust::{Pin, Rules, Trust, TrustError};
