//! Why the kernel did not do as asked.

use std::io;

/// A failure, with the object that it is about.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// The socket itself failed.
    #[error("netlink: {action}: {source}")]
    Socket {
        /// What was tried.
        action: &'static str,
        /// What happened.
        source: io::Error,
    },
    /// The kernel refused a request.
    #[error("{what}: {source}{}{}", detail(.message), remedy(.source))]
    Refused {
        /// The request and its object, e.g. `add route 10.2.0.0/16 in table 51820`.
        what: String,
        /// The error number.
        source: io::Error,
        /// The kernel's own explanation; may be empty.
        message: String,
    },
    /// A dump changed under our hands again and again.
    #[error("{what}: the kernel's state kept changing while it was read; it is tried again")]
    Unsteady {
        /// What was read.
        what: &'static str,
    },
    /// An answer made no sense.
    #[error("{what}: malformed answer from the kernel")]
    Malformed {
        /// What was read.
        what: String,
    },
    /// Something of this name or number exists and isn't ours.
    #[error("{what} exists and was not made by Carrick; remove or rename it")]
    Foreign {
        /// The object.
        what: String,
    },
    /// There is no such link.
    #[error("link {name} does not exist")]
    NoLink {
        /// Its name.
        name: String,
    },
}

impl NetlinkError {
    /// The error number, if the kernel refused.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused { source, .. } | Self::Socket { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }
}

fn detail(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(": {message}") }
}

fn remedy(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EPERM) => "; it needs the capability NET_ADMIN",
        Some(libc::EOPNOTSUPP) => "; this kernel lacks the feature",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_object_cause_and_remedy() {
        let error = NetlinkError::Refused {
            what: "add link carrick0".to_owned(),
            source: io::Error::from_raw_os_error(libc::EPERM),
            message: String::new(),
        };
        let text = error.to_string();
        assert!(text.contains("carrick0") && text.contains("NET_ADMIN"), "{text}");
    }
}
