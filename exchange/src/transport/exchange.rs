//! One UDP socket that dials and accepts.

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use carrick_model::ClusterId;
use quinn::crypto::rustls::HandshakeData;
use quinn::{Connection, Endpoint, EndpointConfig, TransportConfig, VarInt};
use rustls::NamedGroup;
use rustls::pki_types::CertificateDer;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::{AbortHandle, JoinSet};

use super::error::{ConnectError, ConnectErrorKind};
use super::limits::{Census, Limits, Place};
use super::link::{Link, LinkInner};
use super::{CloseReason, Protocol, tls};
use crate::certificate::Credentials;
use crate::certificate::leaf::Leaf;
use crate::join::Attempt;
use crate::trust::{Judged, Pin, Trust, TrustError, check_group, closing, judge_answer};

/// A path is told lost after three of these.
const KEEP_ALIVE: Duration = Duration::from_secs(1);
const IDLE: Duration = Duration::from_secs(3);

/// Before anything was measured: intercontinental, so that a lost first packet is resent in half a
/// second.
const INITIAL_RTT: Duration = Duration::from_millis(150);

/// How much unread data one link may make us hold, in bytes.
const RECEIVE_WINDOW: u32 = 1 << 20;

/// Judged arrivals that nobody took yet.
const QUEUE: usize = 16;

/// How long a refusal waits for the handshake to end at the other side, so that its reason arrives.
const REFUSAL: Duration = Duration::from_secs(1);

/// One UDP socket with its certificate and its rules. Clones share it.
#[derive(Clone)]
pub struct Exchange(Arc<Inner>);

struct Inner {
    endpoint: Endpoint,
    trust: Trust,
    limits: Limits,
    serves: bool,
    credentials: RwLock<Option<Credentials>>,
    arrivals: Mutex<mpsc::Receiver<Incoming>>,
    acceptor: AbortHandle,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.acceptor.abort();
        let (code, text) = CloseReason::Draining.encode();
        self.endpoint.close(code, &text);
    }
}

/// What somebody's attempt to connect came to.
#[derive(Debug)]
pub struct Incoming {
    /// Who tried.
    pub remote: SocketAddr,
    /// What came of it.
    pub result: Result<Arrival, ConnectError>,
}

/// A successful attempt.
#[derive(Debug)]
pub enum Arrival {
    /// A judged member.
    Link(Link),
    /// Somebody who wants to join, with a token to be checked.
    Join(Attempt),
}

impl Exchange {
    /// Dials and accepts on `socket`. Without credentials it accepts nobody until
    /// [`Exchange::set_credentials`]. Needs a tokio runtime.
    pub fn bind(
        socket: std::net::UdpSocket,
        credentials: Option<Credentials>,
        trust: Trust,
        limits: Limits,
    ) -> std::io::Result<Self> {
        Self::start(socket, credentials, trust, limits, true)
    }

    /// Only dials. Needs a tokio runtime.
    pub fn client(
        socket: std::net::UdpSocket,
        credentials: Option<Credentials>,
        trust: Trust,
    ) -> std::io::Result<Self> {
        Self::start(socket, credentials, trust, Limits::default(), false)
    }

    fn start(
        socket: std::net::UdpSocket,
        credentials: Option<Credentials>,
        trust: Trust,
        limits: Limits,
        serves: bool,
    ) -> std::io::Result<Self> {
        let runtime = Arc::new(quinn::TokioRuntime);
        let endpoint = Endpoint::new(EndpointConfig::default(), None, socket, runtime)?;
        let (sender, arrivals) = mpsc::channel(QUEUE);
        let accepting =
            Accepting { endpoint: endpoint.clone(), trust: trust.clone(), limits, queue: sender };
        let acceptor = tokio::spawn(accepting.run()).abort_handle();
        let credentials_now = RwLock::new(None);
        let arrivals = Mutex::new(arrivals);
        let inner = Inner {
            endpoint,
            trust,
            limits,
            serves,
            credentials: credentials_now,
            arrivals,
            acceptor,
        };
        let exchange = Self(Arc::new(inner));
        if let Some(credentials) = credentials {
            exchange.set_credentials(credentials).map_err(std::io::Error::other)?;
        }
        Ok(exchange)
    }

    /// Our certificate from now on; links that live stay as they are.
    pub fn set_credentials(&self, credentials: Credentials) -> Result<(), rustls::Error> {
        if self.0.serves {
            let mut config = tls::server(&credentials)?;
            config.transport_config(transport());
            config.max_incoming(self.0.limits.half_open);
            self.0.endpoint.set_server_config(Some(config));
        }
        let mut held = self.0.credentials.write().unwrap_or_else(PoisonError::into_inner);
        *held = Some(credentials);
        Ok(())
    }

    /// The socket's address.
    pub fn local_address(&self) -> std::io::Result<SocketAddr> {
        self.0.endpoint.local_addr()
    }

    /// The set of rules in force.
    pub fn trust(&self) -> &Trust {
        &self.0.trust
    }

    /// The next attempt to connect. Refusals come here too, so that they can be shown.
    pub async fn accept(&self) -> Incoming {
        match self.0.arrivals.lock().await.recv().await {
            Some(incoming) => incoming,
            // Only dropping the exchange, which this call borrows, ends the accepting task.
            None => std::future::pending().await,
        }
    }

    /// Dials `remote`, which must be whom `pin` says. Peers must be in the rules as well.
    pub async fn dial(
        &self,
        protocol: Protocol,
        remote: SocketAddr,
        pin: &Pin,
    ) -> Result<Link, ConnectError> {
        let started = Instant::now();
        let dialled =
            tokio::time::timeout(self.0.limits.handshake, self.connect(protocol, remote, pin));
        let kind = match dialled.await {
            Ok(Ok(link)) => return Ok(link),
            Ok(Err(ConnectErrorKind::Timeout { .. })) | Err(_) => {
                let seconds = started.elapsed().as_secs_f64().round() as u64;
                ConnectErrorKind::Timeout { seconds }
            }
            Ok(Err(kind)) => kind,
        };
        Err(ConnectError { remote, claimed: Some(pin.cluster.clone()), kind })
    }

    async fn connect(
        &self,
        protocol: Protocol,
        remote: SocketAddr,
        pin: &Pin,
    ) -> Result<Link, ConnectErrorKind> {
        let config = self.client_config(protocol)?;
        let connecting = self
            .0
            .endpoint
            .connect_with(config, self.reachable(remote), "carrick")
            .map_err(|error| ConnectErrorKind::Unreachable(error.to_string()))?;
        let lost = |error| ConnectErrorKind::of(&error, protocol, 0);
        let connection = connecting.await.map_err(lost)?;
        let judged = self.judge_dialled(&connection, protocol, pin);
        let judged = match judged {
            Ok(judged) => judged,
            Err(error) => {
                // What the other side says first tells it is done with the handshake.
                let _ = tokio::time::timeout(REFUSAL, connection.accept_uni()).await;
                refuse(&connection, &error);
                return Err(error.into());
            }
        };
        let link = linked(&connection, protocol, judged, true, None);
        if protocol == Protocol::Peer
            && let Err(error) = self.0.trust.register(&link)
        {
            link.close(&closing(&error));
            return Err(error.into());
        }
        welcome(&connection).await.map_err(lost)?;
        Ok(Link::new(link))
    }

    fn client_config(&self, protocol: Protocol) -> Result<quinn::ClientConfig, ConnectErrorKind> {
        let held = self.0.credentials.read().unwrap_or_else(PoisonError::into_inner).clone();
        let credentials = match (protocol, &held) {
            (Protocol::Join, _) => None,
            (_, Some(credentials)) => Some(credentials),
            (_, None) => return Err(ConnectErrorKind::NotJoined),
        };
        let mut config = tls::client(protocol, credentials)
            .map_err(|error| ConnectErrorKind::Transport(error.to_string()))?;
        config.transport_config(transport());
        Ok(config)
    }

    /// A socket of IPv6 dials IPv4 by mapped addresses.
    fn reachable(&self, remote: SocketAddr) -> SocketAddr {
        match (self.0.endpoint.local_addr(), remote) {
            (Ok(SocketAddr::V6(_)), SocketAddr::V4(v4)) => {
                SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port())
            }
            _ => remote,
        }
    }

    fn judge_dialled(
        &self,
        connection: &Connection,
        protocol: Protocol,
        pin: &Pin,
    ) -> Result<Judged, TrustError> {
        let certificate = certificate(connection).ok_or(TrustError::NoCertificate)?;
        let leaf = Leaf::parse(&certificate)?;
        let judged = judge_answer(&leaf, protocol, pin, self.0.trust.own(), SystemTime::now())?;
        check_group(group(connection), judged.post_quantum)?;
        Ok(judged)
    }

    /// Closes all links as [`CloseReason::Draining`] and waits, a second at most, until the other
    /// ends can know.
    pub async fn drain(&self) {
        let (code, text) = CloseReason::Draining.encode();
        self.0.endpoint.close(code, &text);
        let _ = tokio::time::timeout(Duration::from_secs(1), self.0.endpoint.wait_idle()).await;
    }
}

impl std::fmt::Debug for Exchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exchange")
            .field("local", &self.local_address().ok())
            .finish_non_exhaustive()
    }
}

/// The task that admits who comes in.
struct Accepting {
    endpoint: Endpoint,
    trust: Trust,
    limits: Limits,
    queue: mpsc::Sender<Incoming>,
}

impl Accepting {
    async fn run(self) {
        let half_open = Arc::new(Semaphore::new(self.limits.half_open));
        let (census, knocking) = (Census::default(), Census::default());
        // One site may not take all the places before the judgement.
        let few = Limits { per_address: self.limits.half_open.div_ceil(4), ..self.limits };
        let mut tasks = JoinSet::new();
        loop {
            let incoming = tokio::select! {
                incoming = self.endpoint.accept() => incoming,
                Some(_) = tasks.join_next() => continue,
            };
            let Some(incoming) = incoming else { return };
            let remote = incoming.remote_address();
            let crowded = half_open.available_permits() <= self.limits.half_open / 2;
            if crowded && incoming.may_retry() {
                // The error hands the attempt back when it cannot be retried, which was just asked.
                let _ = incoming.retry();
                continue;
            }
            let permit = half_open.clone().try_acquire_owned().ok();
            let knock = knocking.enter(remote.ip(), &few);
            let place = census.enter(remote.ip(), &self.limits);
            let (Some(permit), Some(knock), Some(place)) = (permit, knock, place) else {
                incoming.refuse();
                continue;
            };
            let admission = Admission { remote, trust: self.trust.clone(), limits: self.limits };
            let admitted = admission.run(incoming, place);
            tasks.spawn(report(self.queue.clone(), remote, admitted, permit, knock));
        }
    }
}

/// Queues what an admission came to. The places before the judgement are held until it is taken, so
/// that nobody can fill more than the queue.
async fn report(
    queue: mpsc::Sender<Incoming>,
    remote: SocketAddr,
    admitted: impl Future<Output = Result<Arrival, Refusal>>,
    _permit: OwnedSemaphorePermit,
    _knock: Place,
) {
    let remote = SocketAddr::new(remote.ip().to_canonical(), remote.port());
    let result = admitted.await.map_err(|refusal| ConnectError {
        remote,
        claimed: refusal.claimed,
        kind: refusal.kind,
    });
    // Closed only when the exchange is gone.
    let _ = queue.send(Incoming { remote, result }).await;
}

/// An attempt that came to nothing.
struct Refusal {
    claimed: Option<ClusterId>,
    kind: ConnectErrorKind,
}

impl<E: Into<ConnectErrorKind>> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self { claimed: None, kind: error.into() }
    }
}

/// One attempt that came in.
struct Admission {
    remote: SocketAddr,
    trust: Trust,
    limits: Limits,
}

impl Admission {
    async fn run(self, incoming: quinn::Incoming, place: Place) -> Result<Arrival, Refusal> {
        let limit = self.limits.handshake;
        match tokio::time::timeout(limit, self.admit(incoming, place)).await {
            Ok(result) => result,
            Err(_) => Err(ConnectErrorKind::Timeout { seconds: limit.as_secs() }.into()),
        }
    }

    async fn admit(&self, incoming: quinn::Incoming, place: Place) -> Result<Arrival, Refusal> {
        let seconds = IDLE.as_secs();
        let lost = |error| ConnectErrorKind::of(&error, Protocol::Peer, seconds);
        let connection = incoming.accept().map_err(lost)?.await.map_err(lost)?;
        let protocol = alpn(&connection).ok_or_else(|| ConnectErrorKind::VersionMismatch {
            protocol: "any protocol of ours".to_owned(),
        })?;
        if protocol == Protocol::Join {
            return self.admit_joiner(connection, place).await;
        }
        let link = match self.judge(&connection, protocol) {
            Ok(judged) => linked(&connection, protocol, judged, false, Some(place)),
            Err(error) => return Err(refused(&connection, error)),
        };
        if let Err(error) = self.trust.register(&link) {
            return Err(refused(&connection, error));
        }
        if let Err(error) = welcome(&connection).await {
            let kind = ConnectErrorKind::of(&error, protocol, seconds);
            // Who it is was judged before, so its refusal of us is worth showing.
            let refuses = matches!(kind, ConnectErrorKind::Refused { .. });
            let claimed = refuses.then(|| link.peer.cluster.clone());
            return Err(Refusal { claimed, kind });
        }
        Ok(Arrival::Link(Link::new(link)))
    }

    fn judge(&self, connection: &Connection, protocol: Protocol) -> Result<Judged, TrustError> {
        let certificate = certificate(connection).ok_or(TrustError::NoCertificate)?;
        let judged = self.trust.judge(protocol, &certificate, SystemTime::now())?;
        check_group(group(connection), judged.post_quantum)?;
        Ok(judged)
    }

    async fn admit_joiner(&self, connection: Connection, place: Place) -> Result<Arrival, Refusal> {
        if !self.trust.serves_join() {
            let error = ConnectErrorKind::VersionMismatch { protocol: "carrick-join/1".to_owned() };
            let (reason, message) = ("NotServed".to_owned(), "nobody joins here".to_owned());
            let (code, text) = CloseReason::Refused { reason, message }.encode();
            connection.close(code, &text);
            return Err(error.into());
        }
        let lost = |error| ConnectErrorKind::of(&error, Protocol::Join, IDLE.as_secs());
        welcome(&connection).await.map_err(lost)?;
        match Attempt::read(connection, self.remote, place).await {
            Ok(attempt) => Ok(Arrival::Join(attempt)),
            Err(error) => Err(ConnectErrorKind::Transport(error.to_string()).into()),
        }
    }
}

fn linked(
    connection: &Connection,
    protocol: Protocol,
    judged: Judged,
    dialled: bool,
    place: Option<Place>,
) -> Arc<LinkInner> {
    let certificate = certificate(connection).map(|der| der.to_vec()).unwrap_or_default();
    Arc::new(LinkInner {
        certificate,
        connection: connection.clone(),
        protocol,
        peer: judged.member,
        identity: judged.identity,
        dialled,
        group: group(connection),
        _place: place,
    })
}

/// Tells the other side that it is accepted, and waits to hear the same.
async fn welcome(connection: &Connection) -> Result<(), quinn::ConnectionError> {
    let mut out = connection.open_uni().await?;
    // A stream that cannot be written to belongs to a connection that is lost, and then reading
    // fails as well, with the reason.
    if out.write_all(&[1]).await.is_ok() {
        let _ = out.finish();
    }
    let mut back = connection.accept_uni().await?;
    match back.read_to_end(1).await {
        Ok(_) => Ok(()),
        Err(_) => match connection.close_reason() {
            Some(reason) => Err(reason),
            None => Err(quinn::ConnectionError::Reset),
        },
    }
}

fn refuse(connection: &Connection, error: &TrustError) {
    let (code, text) = error.refusal().encode();
    connection.close(code, &text);
}

/// Refuses who came in. What it said of us meanwhile counts less than what we say of it.
fn refused(connection: &Connection, error: TrustError) -> Refusal {
    refuse(connection, &error);
    let certificate = certificate(connection);
    let leaf = certificate.as_ref().and_then(|der| Leaf::parse(der).ok());
    Refusal { claimed: leaf.map(|leaf| leaf.member.cluster), kind: error.into() }
}

fn group(connection: &Connection) -> Option<NamedGroup> {
    handshake_data(connection).map(|data| data.negotiated_key_exchange_group)
}

fn handshake_data(connection: &Connection) -> Option<Box<HandshakeData>> {
    connection.handshake_data()?.downcast().ok()
}

fn alpn(connection: &Connection) -> Option<Protocol> {
    Protocol::of_alpn(handshake_data(connection)?.protocol.as_deref()?)
}

/// The one certificate that the other side showed.
fn certificate(connection: &Connection) -> Option<CertificateDer<'static>> {
    let chain: Box<Vec<CertificateDer<'static>>> = connection.peer_identity()?.downcast().ok()?;
    chain.first().cloned()
}

fn transport() -> Arc<TransportConfig> {
    let mut config = TransportConfig::default();
    config.keep_alive_interval(Some(KEEP_ALIVE));
    config.max_idle_timeout(IDLE.try_into().ok());
    config.initial_rtt(INITIAL_RTT);
    config.max_concurrent_bidi_streams(VarInt::from_u32(1));
    config.max_concurrent_uni_streams(VarInt::from_u32(1));
    config.stream_receive_window(VarInt::from_u32(RECEIVE_WINDOW));
    config.receive_window(VarInt::from_u32(RECEIVE_WINDOW));
    config.datagram_receive_buffer_size(None);
    Arc::new(config)
}
