//! aws-lc-rs under ring's name: it has ring's API by intent.

pub use aws_lc_rs::{aead, constant_time, digest, error, hkdf, hmac, rand};
