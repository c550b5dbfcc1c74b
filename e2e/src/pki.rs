//! A cluster's certificates and keys: one authority, short names, a year of life.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};

use crate::{Error, Result};

/// An authority that signs in one cluster.
pub struct Authority {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

/// Whom a certificate names, and where it is valid.
#[derive(Clone, Debug, Default)]
pub struct Subject<'a> {
    /// The user, or the server's name.
    pub common_name: &'a str,
    /// The group, in Kubernetes' sense.
    pub organization: Option<&'a str>,
    /// DNS names of a server; none for clients.
    pub names: Vec<String>,
    /// Addresses of a server.
    pub addresses: Vec<IpAddr>,
}

/// The files of a certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The certificate, PEM.
    pub certificate: PathBuf,
    /// The private key, PEM, PKCS#8.
    pub key: PathBuf,
}

impl Authority {
    /// Makes an authority and writes `ca.crt` into `folder`.
    ///
    /// # Errors
    /// When the key can't be made or the file can't be written.
    pub fn new(folder: &Path, name: &str) -> Result<Self> {
        let failed = |source| Error::Certificate { subject: name.to_owned(), source };
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = distinguished_name(name, None);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        set_lifetime(&mut params);
        let certificate = params.self_signed(&key).map_err(failed)?;
        std::fs::create_dir_all(folder).map_err(Error::file("making", folder))?;
        write_secret(&folder.join("ca.crt"), &certificate.pem())?;
        Ok(Self { folder: folder.to_owned(), issuer: Issuer::new(params, key) })
    }

    /// The authority's own certificate.
    #[must_use]
    pub fn certificate(&self) -> PathBuf {
        self.folder.join("ca.crt")
    }

    /// Makes `FILE.crt` and `FILE.key` for a subject.
    ///
    /// # Errors
    /// When the key can't be made or a file can't be written.
    pub fn issue(&self, file: &str, subject: &Subject<'_>) -> Result<Files> {
        let failed = |source| Error::Certificate { subject: subject.common_name.into(), source };
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = CertificateParams::new(subject.names.clone()).map_err(failed)?;
        params.distinguished_name = distinguished_name(subject.common_name, subject.organization);
        params.subject_alt_names.extend(subject.addresses.iter().copied().map(SanType::IpAddress));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        set_lifetime(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?;
        let files = self.files(file);
        write_secret(&files.certificate, &certificate.pem())?;
        write_secret(&files.key, &key.serialize_pem())?;
        Ok(files)
    }

    /// Makes a key pair for signing tokens: `sa.key` and `sa.pub`.
    ///
    /// # Errors
    /// When the key can't be made or a file can't be written.
    pub fn token_keys(&self) -> Result<Files> {
        let failed = |source| Error::Certificate { subject: "service accounts".into(), source };
        let key = KeyPair::generate().map_err(failed)?;
        let files =
            Files { certificate: self.folder.join("sa.pub"), key: self.folder.join("sa.key") };
        write_secret(&files.certificate, &key.public_key_pem())?;
        write_secret(&files.key, &key.serialize_pem())?;
        Ok(files)
    }

    fn files(&self, file: &str) -> Files {
        Files {
            certificate: self.folder.join(format!("{file}.crt")),
            key: self.folder.join(format!("{file}.key")),
        }
    }
}

fn distinguished_name(common_name: &str, organization: Option<&str>) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    if let Some(organization) = organization {
        name.push(DnType::OrganizationName, organization);
    }
    name
}

fn set_lifetime(params: &mut CertificateParams) {
    let now = time::OffsetDateTime::now_utc();
    // An hour of grace: clocks of one machine, but of several boots.
    params.not_before = now - time::Duration::hours(1);
    params.not_after = now + time::Duration::days(365);
}

fn write_secret(path: &Path, text: &str) -> Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = std::fs::File::options();
    let mut file = options
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .map_err(Error::file("making", path))?;
    file.write_all(text.as_bytes()).map_err(Error::file("writing", path))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn certificates_are_written_for_their_owner_only() {
        let folder = tempfile::tempdir().expect("a folder");
        let authority = Authority::new(folder.path(), "test").expect("an authority");
        let subject = Subject {
            common_name: "kube-apiserver",
            organization: Some("system:masters"),
            names: vec!["kubernetes".to_owned()],
            addresses: vec!["10.101.0.1".parse().expect("an address")],
        };
        let files = authority.issue("server", &subject).expect("issued");
        for (path, label) in [(&files.certificate, "CERTIFICATE"), (&files.key, "PRIVATE KEY")] {
            let text = std::fs::read_to_string(path).expect("read");
            assert!(text.starts_with(&format!("-----BEGIN {label}-----")), "{text}");
            let mode = std::fs::metadata(path).expect("there").permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn a_name_that_no_certificate_can_hold_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let authority = Authority::new(folder.path(), "test").expect("an authority");
        let subject = Subject { names: vec!["ä".to_owned()], ..Subject::default() };
        assert!(authority.issue("bad", &subject).is_err());
    }
}
