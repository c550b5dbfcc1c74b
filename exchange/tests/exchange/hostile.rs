//! Clients that are not ours: plain quinn, with whatever TLS they please.

use std::sync::Arc;
use std::time::SystemTime;

use carrick_exchange::certificate::issue;
use carrick_exchange::message::peer::PeerMessage;
use carrick_exchange::{Arrival, Exchange, FrameError, Link, MemberKey, Rules};
use carrick_model::{MemberId, Role};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{Connection, ConnectionError, Endpoint};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::{self, kx_group};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::version::TLS13;
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

use crate::support::{Cluster, address, peering, socket, soon};

/// Takes any server.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

/// A certificate (DER) and a private key (PKCS#8 DER).
type Identity = (Vec<u8>, Vec<u8>);

/// A gateway's certificate with the key that belongs to it.
fn gateway_of(cluster: &Cluster) -> Identity {
    let folder = tempfile::tempdir().expect("folder");
    cluster.member("gateway", "a").save(folder.path()).expect("saved");
    let read = |name: &str| std::fs::read(folder.path().join(name)).expect("file");
    (read("certificate.der"), read("key.der"))
}

fn tls(alpn: &str, identity: Option<Identity>, classical: bool) -> ClientConfig {
    let mut provider = aws_lc_rs::default_provider();
    if classical {
        provider.kx_groups = vec![kx_group::X25519];
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&TLS13])
        .expect("TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody));
    let mut config = match identity {
        Some((certificate, key)) => {
            let key = PrivateKeyDer::try_from(key).expect("key");
            builder.with_client_auth_cert(vec![certificate.into()], key).expect("identity")
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
    config.enable_early_data = true;
    config
}

struct Client(Endpoint, quinn::ClientConfig);

impl Client {
    fn new(tls: ClientConfig) -> Self {
        let runtime = Arc::new(quinn::TokioRuntime);
        let endpoint = Endpoint::new(quinn::EndpointConfig::default(), None, socket(), runtime);
        let crypto = QuicClientConfig::try_from(tls).expect("QUIC");
        Self(endpoint.expect("endpoint"), quinn::ClientConfig::new(Arc::new(crypto)))
    }

    fn connecting(&self, server: &Exchange) -> quinn::Connecting {
        self.0.connect_with(self.1.clone(), address(server), "carrick").expect("connecting")
    }

    /// Connects, and waits until the server has thrown us out.
    async fn thrown_out(&self, server: &Exchange) -> ConnectionError {
        match self.connecting(server).await {
            Ok(connection) => connection.closed().await,
            Err(error) => error,
        }
    }
}

/// What both ends say of a refused client: its own error, and the server's reason.
async fn refused(client: &Client, server: &Exchange) -> (String, String) {
    let (error, incoming) =
        soon(async { tokio::join!(client.thrown_out(server), server.accept()) }).await;
    let reason = incoming.result.expect_err("refused").reason().to_owned();
    (error.to_string(), reason)
}

fn gateways() -> (Cluster, Exchange) {
    let (paris, osaka) = (Cluster::new("paris"), Cluster::new("osaka"));
    let server = osaka.gateway("b", &[&paris]);
    (paris, server)
}

#[tokio::test]
async fn no_certificate_no_word() {
    let (_paris, server) = gateways();
    for alpn in ["carrick-peer/1", "carrick-member/1"] {
        let client = Client::new(tls(alpn, None, false));
        let (told, reason) = refused(&client, &server).await;
        assert_eq!(reason, "NoCertificate");
        assert!(told.contains("NoCertificate"), "{told}");
    }
}

#[tokio::test]
async fn certificate_without_its_key_proves_nothing() {
    let (paris, server) = gateways();
    let (certificate, _) = gateway_of(&paris);
    let (_, key) = gateway_of(&paris);
    let resolver = Stolen::new(certificate, key);
    let mut config = tls("carrick-peer/1", None, false);
    config.client_auth_cert_resolver = Arc::new(resolver);
    let (_, reason) = refused(&Client::new(config), &server).await;
    assert_eq!(reason, "TransportError");
}

/// Shows one member's certificate, signs with another key.
#[derive(Debug)]
struct Stolen(Arc<rustls::sign::CertifiedKey>);

impl Stolen {
    fn new(certificate: Vec<u8>, key: Vec<u8>) -> Self {
        let key = PrivateKeyDer::try_from(key).expect("key");
        let key = aws_lc_rs::sign::any_supported_type(&key).expect("signing key");
        Self(Arc::new(rustls::sign::CertifiedKey::new(vec![certificate.into()], key)))
    }
}

impl rustls::client::ResolvesClientCert for Stolen {
    fn resolve(
        &self,
        _root_hint_subjects: &[&[u8]],
        _schemes: &[SignatureScheme],
    ) -> Option<Arc<rustls::sign::CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn newer_protocol_is_refused_by_name() {
    let (paris, server) = gateways();
    let client = Client::new(tls("carrick-peer/2", Some(gateway_of(&paris)), false));
    let (_, reason) = refused(&client, &server).await;
    assert_eq!(reason, "VersionMismatch");
}

#[tokio::test]
async fn classical_key_exchange_is_refused_where_post_quantum_is_required() {
    let (paris, server) = gateways();
    let client = Client::new(tls("carrick-peer/1", Some(gateway_of(&paris)), true));
    let mut pin = paris.pin(Role::Gateway);
    pin.post_quantum = true;
    server.trust().set(Rules { peer: vec![pin], ..Rules::default() });
    let (told, reason) = refused(&client, &server).await;
    assert_eq!(reason, "NotPostQuantum");
    assert!(told.contains("X25519"), "{told}");

    server.trust().set(peering(&[&paris]));
    assert!(admitted(&client, &server).await.0.close_reason().is_none());
}

#[tokio::test]
async fn classical_link_that_stands_is_closed_when_post_quantum_becomes_required() {
    let (paris, server) = gateways();
    let mut pin = paris.pin(Role::Gateway);
    pin.post_quantum = true;
    let required = Rules { peer: vec![pin], ..Rules::default() };
    for classical in [true, false] {
        server.trust().set(peering(&[&paris]));
        let client = Client::new(tls("carrick-peer/1", Some(gateway_of(&paris)), classical));
        let (connection, link) = admitted(&client, &server).await;
        assert_eq!(link.is_post_quantum(), !classical);
        server.trust().set(required.clone());
        assert_eq!(link.close_reason().is_some(), classical);
        if classical {
            let told = soon(connection.closed()).await.to_string();
            assert!(told.contains("NotPostQuantum") && told.contains("X25519"), "{told}");
        }
    }
}

/// Connects as a peer that is welcome.
async fn admitted(client: &Client, server: &Exchange) -> (Connection, Link) {
    let connect = async {
        let connection = client.connecting(server).await.expect("connected");
        greet(&connection).await;
        connection
    };
    let (connection, incoming) = soon(async { tokio::join!(connect, server.accept()) }).await;
    let Ok(Arrival::Link(link)) = incoming.result else { panic!("admitted") };
    assert_eq!(link.peer().name.as_str(), "a");
    (connection, link)
}

async fn greet(connection: &Connection) {
    let mut stream = connection.open_uni().await.expect("stream");
    stream.write_all(&[1]).await.expect("written");
    stream.finish().expect("finished");
}

#[tokio::test]
async fn no_session_is_resumed_and_no_early_data_is_taken() {
    let (paris, server) = gateways();
    let client = Client::new(tls("carrick-peer/1", Some(gateway_of(&paris)), false));
    for _ in 0..2 {
        let connecting = client.connecting(&server);
        let connecting = match connecting.into_0rtt() {
            Ok(_) => panic!("early data without a ticket"),
            Err(connecting) => connecting,
        };
        let connect = async {
            let connection = connecting.await.expect("connected");
            greet(&connection).await;
            // Where the server's welcome has come, its tickets would have come before.
            let mut welcome = connection.accept_uni().await.expect("welcome");
            welcome.read_to_end(1).await.expect("read");
        };
        let ((), incoming) = soon(async { tokio::join!(connect, server.accept()) }).await;
        assert!(incoming.result.is_ok());
    }
}

#[tokio::test]
async fn chain_of_certificates_is_refused() {
    let (paris, server) = gateways();
    let (certificate, key) = gateway_of(&paris);
    let key = PrivateKeyDer::try_from(key).expect("key");
    let key = aws_lc_rs::sign::any_supported_type(&key).expect("signing key");
    let chain = vec![certificate.clone().into(), certificate.into()];
    let mut config = tls("carrick-peer/1", None, false);
    config.client_auth_cert_resolver =
        Arc::new(Stolen(Arc::new(rustls::sign::CertifiedKey::new(chain, key))));
    let (_, reason) = refused(&Client::new(config), &server).await;
    assert_eq!(reason, "TransportError");
}

#[tokio::test]
async fn certificate_that_its_holder_signed_itself_is_refused() {
    let (_paris, server) = gateways();
    let own = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("key");
    let mut params = rcgen::CertificateParams::default();
    let uri = "carrick://paris/gateway/a".to_owned().try_into().expect("URI");
    params.subject_alt_names = vec![rcgen::SanType::URI(uri)];
    let certificate = params.self_signed(&own).expect("certificate").der().to_vec();
    let client =
        Client::new(tls("carrick-peer/1", Some((certificate, own.serialize_der())), false));
    let (_, reason) = refused(&client, &server).await;
    assert_eq!(reason, "WrongIdentity");
}

#[tokio::test]
async fn oversized_and_truncated_frames_are_typed_errors() {
    for (bytes, oversized) in [(vec![0xff; 8], true), (vec![0, 0, 0, 9, 1, 2], false)] {
        let (paris, server) = gateways();
        let client = Client::new(tls("carrick-peer/1", Some(gateway_of(&paris)), false));
        let connect = async {
            let connection = client.connecting(&server).await.expect("connected");
            greet(&connection).await;
            let (mut out, back) = connection.open_bi().await.expect("stream");
            out.write_all(&bytes).await.expect("written");
            out.finish().expect("finished");
            (connection, back)
        };
        let (_client, incoming) = soon(async { tokio::join!(connect, server.accept()) }).await;
        let Ok(Arrival::Link(link)) = incoming.result else { panic!("admitted") };
        let (_out, mut frames) = link.channel::<PeerMessage, PeerMessage>().await.expect("channel");
        let error = soon(frames.receive()).await.expect_err("no frame");
        match error {
            FrameError::TooLarge { .. } => assert!(oversized),
            FrameError::Truncated => assert!(!oversized),
            other => panic!("{other}"),
        }
    }
}

#[test]
fn name_in_a_request_does_not_count() {
    let paris = Cluster::new("paris");
    let key = MemberKey::generate().expect("key");
    let member: MemberId = "carrick://paris/agent/node-1".parse().expect("member");
    let mut params = rcgen::CertificateParams::default();
    let uri = "carrick://paris/controller/me".to_owned().try_into().expect("URI");
    params.subject_alt_names = vec![rcgen::SanType::URI(uri)];
    let wish = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("key");
    let csr = params.serialize_request(&wish).expect("request").der().to_vec();
    let now = SystemTime::now();
    let der = issue(&paris.identity, &csr, &member, now).expect("issued");
    let credentials = carrick_exchange::Credentials::new(der.clone(), wish.serialize_der());
    assert_eq!(credentials.expect("fits").member(), &member);
    assert!(key.into_credentials(der).is_err(), "another key does not fit the certificate");
}
