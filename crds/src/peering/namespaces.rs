//! Which namespaces a peering shares.

use std::collections::BTreeSet;

use carrick_model::ServiceName;

/// What the namespaces of Kubernetes itself begin with.
const SYSTEM: &str = "kube-";

/// A set of namespaces. Those of Kubernetes itself are in none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Namespaces {
    all: bool,
    named: BTreeSet<String>,
}

/// Why a text names no namespace that can be shared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NamespaceError {
    /// It is no name.
    #[error("{0:?} must be a namespace (an RFC 1123 label), or * for all")]
    Name(String),
    /// It is one of Kubernetes itself.
    #[error("{0:?} belongs to Kubernetes itself, and is not shared with anyone")]
    System(String),
}

impl Namespaces {
    /// Adds a namespace by its name, or all by `*`.
    ///
    /// # Errors
    /// When it is no name of a namespace, or one of Kubernetes itself.
    pub fn add(&mut self, text: &str) -> Result<(), NamespaceError> {
        if text == "*" {
            self.all = true;
            return Ok(());
        }
        if ServiceName::new(text, "any").is_err() {
            return Err(NamespaceError::Name(text.chars().take(64).collect()));
        }
        if text.starts_with(SYSTEM) {
            return Err(NamespaceError::System(text.to_owned()));
        }
        self.named.insert(text.to_owned());
        Ok(())
    }

    /// Whether `namespace` is in it.
    pub fn contain(&self, namespace: &str) -> bool {
        !namespace.starts_with(SYSTEM) && (self.all || self.named.contains(namespace))
    }

    /// Whether none is in it.
    pub fn is_empty(&self) -> bool {
        !self.all && self.named.is_empty()
    }
}
