//! A certificate as the other side shows it: parsed, its signature and validity checked.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use carrick_model::{IdentityKey, MemberId};
use x509_parser::oid_registry::OID_SIG_ED25519;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use crate::identity::signed_by;
use crate::trust::TrustError;

/// Larger certificates are refused unread: ours have some 400 bytes.
const MAX_BYTES: usize = 4096;

/// Why bytes are no certificate of a member.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeafError {
    /// Not X.509 in DER, or too large.
    #[error("not an X.509 certificate of at most {MAX_BYTES} bytes")]
    Malformed,
    /// Not signed with Ed25519.
    #[error("it is not signed with Ed25519")]
    Algorithm,
    /// No single URI that names a member.
    #[error("it must hold exactly one URI carrick://<cluster-id>/<role>/<name>")]
    Name,
}

/// A parsed certificate; nothing of it is verified yet.
pub(crate) struct Leaf<'a> {
    pub(crate) member: MemberId,
    certificate: X509Certificate<'a>,
}

impl<'a> Leaf<'a> {
    pub(crate) fn parse(der: &'a [u8]) -> Result<Self, LeafError> {
        if der.len() > MAX_BYTES {
            return Err(LeafError::Malformed);
        }
        let (rest, certificate) =
            X509Certificate::from_der(der).map_err(|_| LeafError::Malformed)?;
        if !rest.is_empty() {
            return Err(LeafError::Malformed);
        }
        if certificate.signature_algorithm.algorithm != OID_SIG_ED25519 {
            return Err(LeafError::Algorithm);
        }
        let names = certificate.subject_alternative_name().map_err(|_| LeafError::Malformed)?;
        let member = match names.ok_or(LeafError::Name)?.value.general_names.as_slice() {
            [GeneralName::URI(uri)] => uri.parse().map_err(|_| LeafError::Name)?,
            _ => return Err(LeafError::Name),
        };
        Ok(Self { member, certificate })
    }

    /// Whether this identity signed it.
    pub(crate) fn signed_by(&self, key: &IdentityKey) -> bool {
        let text = self.certificate.tbs_certificate.as_ref();
        signed_by(key, text, &self.certificate.signature_value.data)
    }

    /// Which of `keys` signed it.
    pub(crate) fn signer(&self, keys: &[IdentityKey]) -> Option<IdentityKey> {
        keys.iter().find(|key| self.signed_by(key)).copied()
    }

    /// The member's public key, as SubjectPublicKeyInfo in DER.
    pub(crate) fn public_key(&self) -> &[u8] {
        self.certificate.public_key().raw
    }

    pub(crate) fn not_after(&self) -> SystemTime {
        system_time(self.certificate.validity().not_after.timestamp())
    }

    pub(crate) fn check_validity(&self, now: SystemTime) -> Result<(), TrustError> {
        let not_before = system_time(self.certificate.validity().not_before.timestamp());
        let not_after = self.not_after();
        if now < not_before {
            let (not_before, now) = (rfc3339(not_before), rfc3339(now));
            return Err(TrustError::CertificateNotYetValid { not_before, now });
        }
        if now > not_after {
            let (not_after, now) = (rfc3339(not_after), rfc3339(now));
            return Err(TrustError::CertificateExpired { not_after, now });
        }
        Ok(())
    }
}

fn system_time(seconds: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

/// A time as people compare it: RFC 3339, UTC, whole seconds.
pub(crate) fn rfc3339(at: SystemTime) -> String {
    let at = time::OffsetDateTime::from(at).replace_nanosecond(0);
    let at = at.unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
    let format = &time::format_description::well_known::Rfc3339;
    at.format(format).unwrap_or_else(|_| "a time beyond the calendar".to_owned())
}
