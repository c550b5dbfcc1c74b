//! Certificates: short-lived, signed by the cluster's identity, naming one member.

pub(crate) mod leaf;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use carrick_model::{MemberId, MemberName, Role};
use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType, Issuer, KeyPair,
    PKCS_ED25519, PublicKeyData, SanType, SerialNumber, SubjectPublicKeyInfo,
};
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use crate::identity::ClusterIdentity;
use leaf::Leaf;

/// How long a certificate holds.
pub const VALIDITY: Duration = Duration::from_secs(7 * 24 * 3600);

/// How far a certificate is backdated, for clocks that differ.
pub const BACKDATED: Duration = Duration::from_secs(3600);

const CERTIFICATE_FILE: &str = "certificate.der";
const KEY_FILE: &str = "key.der";

/// Why a certificate could not be made, read or stored.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The request is not PKCS #10 for an Ed25519 key, or its signature is wrong.
    #[error("certificate request is not PKCS #10 for an Ed25519 key: {0}")]
    Request(String),
    /// The certificate does not fit the key, or is not one of ours.
    #[error("certificate cannot be used: {0}")]
    Unusable(String),
    /// The cryptographic library failed.
    #[error("certificate cannot be made: {0}")]
    Crypto(String),
    /// A file could not be read or written.
    #[error("{path}: {error}")]
    File {
        /// Which file.
        path: String,
        /// What happened.
        error: std::io::Error,
    },
}

/// A member's private key, made by itself in memory.
pub struct MemberKey(KeyPair);

impl MemberKey {
    /// A new random Ed25519 key.
    pub fn generate() -> Result<Self, CertificateError> {
        KeyPair::generate_for(&PKCS_ED25519).map(Self).map_err(crypto)
    }

    /// A certificate request (PKCS #10, DER). It names nobody: who the member is follows from its
    /// token.
    pub fn csr(&self) -> Result<Vec<u8>, CertificateError> {
        let request = CertificateParams::default().serialize_request(&self.0).map_err(crypto)?;
        Ok(request.der().to_vec())
    }

    /// Joins the key with the certificate (DER) that was issued for it.
    pub fn into_credentials(self, certificate: Vec<u8>) -> Result<Credentials, CertificateError> {
        Credentials::new(certificate, self.0.serialize_der())
    }
}

impl fmt::Debug for MemberKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemberKey")
    }
}

/// A certificate with its private key. Clones are cheap.
#[derive(Clone)]
pub struct Credentials(Arc<Inner>);

struct Inner {
    certificate: Vec<u8>,
    key: Vec<u8>,
    member: MemberId,
    not_after: SystemTime,
    certified: Arc<CertifiedKey>,
}

impl Credentials {
    /// From a certificate (DER) and a private key (PKCS#8 DER), which must belong together.
    pub fn new(certificate: Vec<u8>, key: Vec<u8>) -> Result<Self, CertificateError> {
        let unusable = |error: String| CertificateError::Unusable(error);
        let leaf = Leaf::parse(&certificate).map_err(|error| unusable(error.to_string()))?;
        let (member, not_after) = (leaf.member.clone(), leaf.not_after());
        let private = PrivateKeyDer::try_from(key.clone()).map_err(|e| unusable(e.to_owned()))?;
        let chain = vec![CertificateDer::from(certificate.clone())];
        let provider = crate::transport::tls::provider();
        let certified = CertifiedKey::from_der(chain, private, &provider)
            .map_err(|error| unusable(error.to_string()))?;
        let certified = Arc::new(certified);
        Ok(Self(Arc::new(Inner { certificate, key, member, not_after, certified })))
    }

    /// What a controller, which holds the identity, issues to itself.
    pub fn for_controller(
        identity: &ClusterIdentity,
        cluster: carrick_model::ClusterId,
        name: MemberName,
        now: SystemTime,
    ) -> Result<Self, CertificateError> {
        Self::own(identity, MemberId { cluster, role: Role::Controller, name }, now)
    }

    /// What a member that holds the identity itself issues to itself, for a new key.
    pub fn own(
        identity: &ClusterIdentity,
        member: MemberId,
        now: SystemTime,
    ) -> Result<Self, CertificateError> {
        let key = MemberKey::generate()?;
        let certificate = issue(identity, &key.csr()?, &member, now)?;
        key.into_credentials(certificate)
    }

    /// The same key with a renewed certificate (DER).
    pub fn renewed(&self, certificate: Vec<u8>) -> Result<Self, CertificateError> {
        Self::new(certificate, self.0.key.clone())
    }

    /// Who the certificate says we are.
    pub fn member(&self) -> &MemberId {
        &self.0.member
    }

    /// When the certificate ends.
    pub fn not_after(&self) -> SystemTime {
        self.0.not_after
    }

    /// Stores both in `directory`, which must be memory-backed, readable by the owner only.
    pub fn save(&self, directory: &Path) -> Result<(), CertificateError> {
        write_private(&directory.join(KEY_FILE), &self.0.key)?;
        write_private(&directory.join(CERTIFICATE_FILE), &self.0.certificate)
    }

    /// Loads what [`Credentials::save`] stored; `None` when there is nothing.
    pub fn load(directory: &Path) -> Result<Option<Self>, CertificateError> {
        let certificate = read(&directory.join(CERTIFICATE_FILE))?;
        let key = read(&directory.join(KEY_FILE))?;
        match (certificate, key) {
            (Some(certificate), Some(key)) => Self::new(certificate, key).map(Some),
            _ => Ok(None),
        }
    }

    pub(crate) fn certified(&self) -> Arc<CertifiedKey> {
        self.0.certified.clone()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("member", &self.0.member).finish_non_exhaustive()
    }
}

/// Issues a certificate (DER) to `member` for the key in `csr`; nothing else in the request counts.
///
/// It holds from [`BACKDATED`] before `now` to [`VALIDITY`] after it.
pub fn issue(
    identity: &ClusterIdentity,
    csr: &[u8],
    member: &MemberId,
    now: SystemTime,
) -> Result<Vec<u8>, CertificateError> {
    let request =
        CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(csr))
            .map_err(|error| CertificateError::Request(error.to_string()))?;
    certify(identity, &request.public_key, member, now)
}

/// Issues the next certificate (DER) for the member and the key of `certificate`, one that this
/// identity issued and whose holder is linked with it.
pub fn renew(
    identity: &ClusterIdentity,
    certificate: &[u8],
    now: SystemTime,
) -> Result<Vec<u8>, CertificateError> {
    let unusable = |error: String| CertificateError::Unusable(error);
    let leaf = Leaf::parse(certificate).map_err(|error| unusable(error.to_string()))?;
    if !leaf.signed_by(&identity.public()) {
        return Err(unusable("it was not issued by this identity".to_owned()));
    }
    let key = SubjectPublicKeyInfo::from_der(leaf.public_key()).map_err(crypto)?;
    certify(identity, &key, &leaf.member, now)
}

fn certify(
    identity: &ClusterIdentity,
    key: &impl PublicKeyData,
    member: &MemberId,
    now: SystemTime,
) -> Result<Vec<u8>, CertificateError> {
    if key.algorithm() != &PKCS_ED25519 {
        return Err(CertificateError::Request("the key is not Ed25519".to_owned()));
    }
    let uri = member.to_string().try_into().map_err(crypto)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name("carrick member");
    params.subject_alt_names = vec![SanType::URI(uri)];
    params.not_before = (now - BACKDATED).into();
    params.not_after = (now + VALIDITY).into();
    params.serial_number = Some(random_serial()?);
    let mut issuer = CertificateParams::default();
    issuer.distinguished_name = common_name(&identity.public().to_string());
    let issuer = Issuer::from_params(&issuer, identity.key_pair());
    let certificate = params.signed_by(key, &issuer).map_err(crypto)?;
    Ok(certificate.der().to_vec())
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn random_serial() -> Result<SerialNumber, CertificateError> {
    let mut serial = [0; 16];
    aws_lc_rs::rand::fill(&mut serial)
        .map_err(|_| CertificateError::Crypto("no random numbers".to_owned()))?;
    Ok(SerialNumber::from_slice(&serial))
}

fn crypto(error: rcgen::Error) -> CertificateError {
    CertificateError::Crypto(error.to_string())
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, CertificateError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(file(path, error)),
    }
}

/// Written beside and renamed, so that a crash leaves the old file or the new one.
fn write_private(path: &Path, bytes: &[u8]) -> Result<(), CertificateError> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let beside = path.with_extension("new");
    let write = || {
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        options.open(&beside)?.write_all(bytes)?;
        std::fs::rename(&beside, path)
    };
    write().map_err(|error| file(path, error))
}

fn file(path: &Path, error: std::io::Error) -> CertificateError {
    CertificateError::File { path: path.display().to_string(), error }
}
