//! One packet a call, as boringtun does it.

/// A key in the hands of a library.
pub trait Library {
    /// Seals `packet`, which ends with room for the tag, under message number `counter`.
    ///
    /// # Errors
    /// When the library refuses.
    fn seal(&self, counter: u64, packet: &mut [u8]) -> anyhow::Result<()>;
}

/// Bytes of a tag.
pub const TAG: usize = 16;

/// WireGuard's nonce: four bytes of zero, then the message's number.
fn nonce(counter: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_le_bytes());
    nonce
}

macro_rules! library {
    ($name:ident, $crate_name:ident, $words:literal) => {
        #[doc = $words]
        pub struct $name($crate_name::aead::LessSafeKey);

        impl $name {
            /// Takes a key.
            ///
            /// # Errors
            /// When the library refuses.
            pub fn new(key: &[u8; 32]) -> anyhow::Result<Self> {
                use $crate_name::aead::{CHACHA20_POLY1305, LessSafeKey, UnboundKey};
                let key = UnboundKey::new(&CHACHA20_POLY1305, key);
                let key = key.map_err(|_| anyhow::anyhow!("it takes no such key"))?;
                Ok(Self(LessSafeKey::new(key)))
            }
        }

        impl Library for $name {
            fn seal(&self, counter: u64, packet: &mut [u8]) -> anyhow::Result<()> {
                use $crate_name::aead::{Aad, Nonce};
                let Some((text, room)) = packet.split_last_chunk_mut::<TAG>() else {
                    anyhow::bail!("{} bytes leave no room for a tag", packet.len());
                };
                let nonce = Nonce::assume_unique_for_key(nonce(counter));
                let tag = self.0.seal_in_place_separate_tag(nonce, Aad::empty(), text);
                let tag = tag.map_err(|_| anyhow::anyhow!("it does not seal"))?;
                room.copy_from_slice(tag.as_ref());
                Ok(())
            }
        }
    };
}

library!(Ring, ring, "ring, which boringtun uses.");
library!(AwsLc, aws_lc_rs, "aws-lc-rs, which our QUIC uses.");
