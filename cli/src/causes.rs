//! An error with its causes in one line.

use std::error::Error;

/// The error's text and those of its causes; the innermost ones say what the network or the file
/// system said. A text that an outer one already holds is left out: many errors repeat their causes.
pub fn join(error: &dyn Error) -> String {
    let mut texts: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(cause) = next {
        let text = cause.to_string();
        if !texts.iter().any(|held| held.contains(&text)) {
            texts.push(text);
        }
        next = cause.source();
    }
    texts.join(": ")
}

#[cfg(test)]
mod tests {
    use std::io::Error as IoError;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot read{0}")]
    struct Outer(&'static str, #[source] IoError);

    #[test]
    fn causes_are_told_once() {
        assert_eq!(join(&Outer("", IoError::other("no disk"))), "cannot read: no disk");
        assert_eq!(join(&Outer(": no disk", IoError::other("no disk"))), "cannot read: no disk");
    }
}
