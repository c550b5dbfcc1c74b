//! Why a connection did not come about.

use std::net::SocketAddr;

use carrick_model::ClusterId;
use quinn::{ConnectionError, TransportErrorCode};

use super::{CloseReason, Protocol};
use crate::trust::TrustError;

/// TLS alert 120: the other side serves none of the protocols offered.
const NO_APPLICATION_PROTOCOL: u8 = 120;

/// A connection that did not come about.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{remote}: {kind}")]
pub struct ConnectError {
    /// Whom we dialled, or who dialled us.
    pub remote: SocketAddr,
    /// The cluster that the other side's certificate claims, believed or not.
    pub claimed: Option<ClusterId>,
    /// What happened.
    pub kind: ConnectErrorKind,
}

/// What kept a connection from coming about.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectErrorKind {
    /// No answer.
    #[error(
        "no answer by UDP within {seconds} s; check that the address is right, that a gateway runs \
         there, and that firewalls on the way let this UDP port pass both ways"
    )]
    Timeout {
        /// How long we waited.
        seconds: u64,
    },
    /// We do not accept the other side.
    #[error("{0}")]
    Trust(#[from] TrustError),
    /// The other side does not accept us.
    #[error("the other side refuses us ({reason}) and says of us: {message}")]
    Refused {
        /// Its CamelCase reason.
        reason: String,
        /// What it says for a person.
        message: String,
    },
    /// The other side closed it for another reason.
    #[error("closed by the other side: {0}")]
    Closed(CloseReason),
    /// The other side serves another protocol, or none of ours there.
    #[error(
        "nothing there speaks {protocol}; the port belongs to another part, or its release is \
         incompatible with this one"
    )]
    VersionMismatch {
        /// What we asked for.
        protocol: String,
    },
    /// Too many connections at once.
    #[error("too many connections from there at once; it may try again later")]
    Busy,
    /// The address cannot be dialled from this socket.
    #[error("cannot be dialled from here: {0}")]
    Unreachable(String),
    /// We have no certificate yet.
    #[error("this member has not joined its cluster yet")]
    NotJoined,
    /// QUIC or TLS failed.
    #[error("transport error: {0}")]
    Transport(String),
}

impl ConnectError {
    /// The CamelCase word for status and metrics. A refusal by the other side bears its word.
    pub fn reason(&self) -> &str {
        match &self.kind {
            ConnectErrorKind::Timeout { .. } => "Timeout",
            ConnectErrorKind::Trust(error) => error.reason(),
            ConnectErrorKind::Refused { reason, .. } => reason,
            ConnectErrorKind::Closed(close) => close.reason(),
            ConnectErrorKind::VersionMismatch { .. } => "VersionMismatch",
            ConnectErrorKind::Busy => "Busy",
            ConnectErrorKind::Unreachable(_) => "Unreachable",
            ConnectErrorKind::NotJoined => "NotJoined",
            ConnectErrorKind::Transport(_) => "TransportError",
        }
    }
}

impl ConnectErrorKind {
    /// From quinn's error during or just after the handshake for `protocol`.
    pub(crate) fn of(error: &ConnectionError, protocol: Protocol, seconds: u64) -> Self {
        let no_protocol = TransportErrorCode::crypto(NO_APPLICATION_PROTOCOL);
        let mismatch = || Self::VersionMismatch {
            protocol: String::from_utf8_lossy(protocol.alpn()).into_owned(),
        };
        match error {
            ConnectionError::TimedOut => Self::Timeout { seconds },
            ConnectionError::VersionMismatch => mismatch(),
            ConnectionError::TransportError(e) if e.code == no_protocol => mismatch(),
            ConnectionError::ConnectionClosed(e) if e.error_code == no_protocol => mismatch(),
            ConnectionError::ConnectionClosed(e)
                if e.error_code == TransportErrorCode::CONNECTION_REFUSED =>
            {
                Self::Busy
            }
            other => match CloseReason::from(other) {
                CloseReason::Refused { reason, message } => Self::Refused { reason, message },
                CloseReason::Transport(text) => Self::Transport(text),
                close => Self::Closed(close),
            },
        }
    }
}
