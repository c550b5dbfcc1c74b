//! Why a link ended, as both ends see it.

use quinn::{ApplicationClose, ConnectionError, VarInt};

/// How much of a refusal's text is sent and read, in bytes.
const MAX_TEXT: usize = 512;

/// Why a link ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    /// It did what it was for.
    #[error("done")]
    Done,
    /// One side no longer wants the other: its peering was deleted or suspended, or the member left.
    #[error("withdrawn: one side no longer holds the other in its configuration")]
    Withdrawn,
    /// A second connection between the same two members; the other one stays.
    #[error("a duplicate of another connection between the same two")]
    Duplicate,
    /// The process leaves.
    #[error("the other process is shutting down")]
    Draining,
    /// One side broke the protocol.
    #[error("protocol violation: {0}")]
    Violation(String),
    /// The side that judged refused the other.
    #[error("refused ({reason}): {message}")]
    Refused {
        /// The CamelCase reason.
        reason: String,
        /// For a person.
        message: String,
    },
    /// Nothing came for the idle timeout.
    #[error("the other side fell silent")]
    TimedOut,
    /// The other side knows nothing of the connection: it was restarted.
    #[error("the other side has restarted")]
    Reset,
    /// We closed it, for a reason that only the closing code path knew.
    #[error("closed here")]
    ClosedHere,
    /// QUIC failed.
    #[error("transport error: {0}")]
    Transport(String),
}

impl CloseReason {
    /// The CamelCase word for status and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Done => "Done",
            Self::Withdrawn => "Withdrawn",
            Self::Duplicate => "Duplicate",
            Self::Draining => "Draining",
            Self::Violation(_) => "Violation",
            Self::Refused { .. } => "Refused",
            Self::TimedOut => "Timeout",
            Self::Reset => "Reset",
            Self::ClosedHere => "ClosedHere",
            Self::Transport(_) => "TransportError",
        }
    }

    /// The application error code and text that tell the other side.
    pub(crate) fn encode(&self) -> (VarInt, Vec<u8>) {
        let (code, text) = match self {
            Self::Done | Self::ClosedHere | Self::TimedOut | Self::Reset => (0, String::new()),
            Self::Withdrawn => (1, String::new()),
            Self::Duplicate => (2, String::new()),
            Self::Draining => (3, String::new()),
            Self::Violation(text) | Self::Transport(text) => (4, text.clone()),
            Self::Refused { reason, message } => (5, format!("{reason}: {message}")),
        };
        let mut bytes = text.into_bytes();
        bytes.truncate(MAX_TEXT);
        (VarInt::from_u32(code), bytes)
    }

    fn decode(close: &ApplicationClose) -> Self {
        let text = printable(&close.reason);
        match close.error_code.into_inner() {
            0 => Self::Done,
            1 => Self::Withdrawn,
            2 => Self::Duplicate,
            3 => Self::Draining,
            4 => Self::Violation(text),
            5 => {
                let (reason, message) = text.split_once(": ").unwrap_or(("Refused", &text));
                let camel = reason.len() <= 40 && reason.bytes().all(|b| b.is_ascii_alphabetic());
                let reason = if camel { reason.to_owned() } else { "Refused".to_owned() };
                Self::Refused { reason, message: message.to_owned() }
            }
            code => Self::Transport(format!("closed with unknown code {code}")),
        }
    }
}

/// What the other side wrote, fit for a log line and a condition.
fn printable(bytes: &[u8]) -> String {
    let cut = &bytes[..bytes.len().min(MAX_TEXT)];
    let text = String::from_utf8_lossy(cut);
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

impl From<&ConnectionError> for CloseReason {
    fn from(error: &ConnectionError) -> Self {
        match error {
            ConnectionError::ApplicationClosed(close) => Self::decode(close),
            ConnectionError::TimedOut => Self::TimedOut,
            ConnectionError::Reset => Self::Reset,
            ConnectionError::LocallyClosed => Self::ClosedHere,
            ConnectionError::VersionMismatch
            | ConnectionError::TransportError(_)
            | ConnectionError::ConnectionClosed(_)
            | ConnectionError::CidsExhausted => Self::Transport(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(reason: &CloseReason) -> CloseReason {
        let (error_code, text) = reason.encode();
        CloseReason::decode(&ApplicationClose { error_code, reason: text.into() })
    }

    #[test]
    fn what_is_sent_is_what_is_read() {
        for reason in [
            CloseReason::Done,
            CloseReason::Withdrawn,
            CloseReason::Duplicate,
            CloseReason::Draining,
            CloseReason::Violation("too much".to_owned()),
            CloseReason::Refused {
                reason: "WrongRole".to_owned(),
                message: "no: really".to_owned(),
            },
        ] {
            assert_eq!(round_trip(&reason), reason);
        }
    }

    #[test]
    fn text_of_the_other_side_is_cut_and_made_printable() {
        let long = CloseReason::Violation("a\n\u{1b}[31m".repeat(1000));
        let CloseReason::Violation(text) = round_trip(&long) else { panic!("another kind") };
        assert!(text.len() <= 2 * MAX_TEXT && !text.contains(|c: char| c.is_control()));
    }
}
