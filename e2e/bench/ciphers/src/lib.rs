//! ChaCha20-Poly1305 by ring, by aws-lc-rs, and by a prototype that seals several packets at once.
//!
//! The prototype answers one question, what that would give; nothing ships it. It seals only, packets of
//! one length under one key, and only on processors with AVX-512 IFMA.

pub mod contest;
pub mod library;
#[cfg(target_arch = "x86_64")]
pub mod several;
