//! Errors of the Kubernetes API in one line: the status's message, without the status around it.

use std::fmt;

/// Shows an error of the Kubernetes API briefly.
pub struct Brief<'a>(pub &'a kube::Error);

impl fmt::Display for Brief<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            kube::Error::Api(status) => write!(f, "{} ({})", status.message, status.code),
            other => {
                write!(f, "{other}")?;
                let mut source = std::error::Error::source(other);
                while let Some(cause) = source {
                    write!(f, ": {cause}")?;
                    source = cause.source();
                }
                Ok(())
            }
        }
    }
}
