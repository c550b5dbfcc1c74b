//! A member's link to its own controller: joining, configurations in, reports out.
//!
//! All of it is retried for ever: peers and packets never wait for it.

mod away;
mod trusted;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use carrick_model::MemberName;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

pub use away::Away;
pub use trusted::{Trusted, TrustedError};

use crate::certificate::{CertificateError, Credentials};
use crate::join::{JoinError, join};
use crate::message::member::{FromController, FromMember, from_controller, from_member};
use crate::transport::{
    CloseReason, ConnectError, ConnectErrorKind, Exchange, FrameError, Link, Protocol,
};
use crate::trust::{Rules, Trust};

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A certificate that ends sooner is not worth a link: join anew.
const SPARE: Duration = Duration::from_secs(24 * 3600);

/// How long the controller may take to take the last report.
const LAST_WORD: Duration = Duration::from_secs(1);

/// Where controller and credentials are.
#[derive(Debug, Clone)]
pub struct MemberOptions {
    /// The controller's exchange, `host:port`.
    pub controller: String,
    /// The mounted ConfigMap `carrick-trust`.
    pub trust: PathBuf,
    /// The projected ServiceAccount token.
    pub token: PathBuf,
    /// A memory-backed folder for certificate and last configuration.
    pub state: PathBuf,
    /// Our name: the pod's UID (gateway) or the node's name (agent).
    pub name: MemberName,
}

/// What the controller brought.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "configurations are large and come seldom")]
pub enum MemberEvent {
    /// We have a certificate, or a new one.
    Credentials(Credentials),
    /// Anything else that it says: a configuration, or what a newer release says.
    Said(from_controller::Kind),
}

/// Why there is no link to the controller now.
#[derive(Debug, thiserror::Error)]
enum MemberError {
    #[error(transparent)]
    Trusted(#[from] TrustedError),
    #[error("{path}: {error}; the pod needs the projected token with the audience carrick.dev")]
    Token { path: String, error: std::io::Error },
    #[error("controller {0:?} must be host:port, where the host has an address: {1}")]
    Address(String, String),
    #[error("no UDP socket towards the controller: {0}")]
    Socket(std::io::Error),
    #[error(transparent)]
    Join(#[from] JoinError),
    #[error("controller {0}")]
    Connect(#[from] ConnectError),
    #[error("credentials cannot be used: {0}")]
    Credentials(#[from] CertificateError),
    #[error("link to controller {0} ended: {1}")]
    Ended(SocketAddr, CloseReason),
    #[error("a failover drill has it given up")]
    Drill,
}

/// Keeps a link to the controller until `stop`, and sends each new value of `state`. At the end the
/// last value still goes out. While `away` says so there is no link, nor an attempt at one.
pub async fn run(
    options: MemberOptions,
    held: Option<Credentials>,
    events: mpsc::Sender<MemberEvent>,
    state: watch::Receiver<Option<from_member::Kind>>,
    away: Away,
    stop: CancellationToken,
) {
    run_linked(options, held, events, state, away, watch::Sender::new(None), stop).await;
}

/// As [`run`], and puts each new link into `links`, which may carry questions. There a link may be that has ended.
pub async fn run_linked(
    options: MemberOptions,
    held: Option<Credentials>,
    events: mpsc::Sender<MemberEvent>,
    state: watch::Receiver<Option<from_member::Kind>>,
    mut away: Away,
    links: watch::Sender<Option<Link>>,
    stop: CancellationToken,
) {
    let mut member = Member { options, held, events, state, links };
    let mut pause = FIRST_PAUSE;
    loop {
        let mut linked = false;
        let attempt = member.attempt(&stop, &mut linked);
        let ended = tokio::select! {
            ended = attempt => ended,
            () = away.begins() => Err(MemberError::Drill),
        };
        let Err(error) = ended else { return };
        if linked {
            pause = FIRST_PAUSE;
        }
        tracing::warn!(%error, retry_in_ms = pause.as_millis(), "no link to the controller");
        tokio::select! {
            () = tokio::time::sleep(pause.mul_f64(0.75 + 0.5 * rand::random::<f64>())) => {}
            () = stop.cancelled() => return,
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
        tokio::select! {
            () = away.is_over() => {}
            () = stop.cancelled() => return,
        }
    }
}

struct Member {
    options: MemberOptions,
    held: Option<Credentials>,
    events: mpsc::Sender<MemberEvent>,
    state: watch::Receiver<Option<from_member::Kind>>,
    links: watch::Sender<Option<Link>>,
}

impl Member {
    /// One link from its begin to its end; `Ok` when we are to stop. Each attempt has a socket of its
    /// own, so that no connection tracking leads it to a controller that is gone.
    async fn attempt(
        &mut self,
        stop: &CancellationToken,
        linked: &mut bool,
    ) -> Result<(), MemberError> {
        let trusted = Trusted::read(&self.options.trust)?;
        let address = resolve(&self.options.controller).await?;
        let trust =
            Trust::new(trusted.cluster.clone(), trusted.identities.clone(), Rules::default());
        let wildcard: SocketAddr = match address {
            SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
            SocketAddr::V6(_) => ([0_u16; 8], 0).into(),
        };
        let socket = std::net::UdpSocket::bind(wildcard).map_err(MemberError::Socket)?;
        let exchange = Exchange::client(socket, None, trust).map_err(MemberError::Socket)?;
        let credentials = tokio::select! {
            credentials = self.credentials(&exchange, address, &trusted) => credentials?,
            () = stop.cancelled() => return Ok(()),
        };
        exchange
            .set_credentials(credentials)
            .map_err(|error| MemberError::Socket(std::io::Error::other(error)))?;
        let dialled = exchange.dial(Protocol::Member, address, &trusted.controller()).await;
        if let Err(error) = &dialled
            && matches!(error.kind, ConnectErrorKind::Refused { .. })
        {
            // The controller does not take the certificate: ask for another.
            self.held = None;
        }
        let link = dialled?;
        *linked = true;
        tracing::info!(controller = %address, "linked with the controller");
        let ended = self.serve(&link, stop).await;
        match ended {
            None => Ok(()),
            Some(reason) => {
                link.close(&reason);
                Err(MemberError::Ended(address, reason))
            }
        }
    }

    /// The certificate that we have, or a new one.
    async fn credentials(
        &mut self,
        exchange: &Exchange,
        address: SocketAddr,
        trusted: &Trusted,
    ) -> Result<Credentials, MemberError> {
        let fresh = |held: &&Credentials| {
            held.not_after() > SystemTime::now() + SPARE
                && held.member().name == self.options.name
                && held.member().cluster == trusted.cluster
        };
        if let Some(held) = self.held.as_ref().filter(fresh) {
            return Ok(held.clone());
        }
        let token = tokio::fs::read_to_string(&self.options.token).await.map_err(|error| {
            MemberError::Token { path: self.options.token.display().to_string(), error }
        })?;
        let credentials = join(exchange, address, &trusted.controller(), token.trim()).await?;
        tracing::info!(member = %credentials.member(), "joined the cluster");
        self.keep(credentials.clone()).await?;
        Ok(credentials)
    }

    async fn keep(&mut self, credentials: Credentials) -> Result<(), MemberError> {
        credentials.save(&self.options.state)?;
        self.held = Some(credentials.clone());
        // Nobody listens only when we stop.
        let _ = self.events.send(MemberEvent::Credentials(credentials)).await;
        Ok(())
    }

    /// Until the link ends (why), or we are to stop (`None`).
    async fn serve(&mut self, link: &Link, stop: &CancellationToken) -> Option<CloseReason> {
        let channel = link.channel::<FromMember, FromController>().await;
        let (mut sender, mut receiver) = match channel {
            Ok(channel) => channel,
            Err(error) => return Some(CloseReason::Violation(error.to_string())),
        };
        self.links.send_replace(Some(link.clone()));
        self.state.mark_changed();
        let ended = |error: &FrameError| {
            let close = link.close_reason();
            Some(close.unwrap_or_else(|| CloseReason::Violation(error.to_string())))
        };
        loop {
            tokio::select! {
                Ok(()) = self.state.changed() => {
                    let Some(state) = self.state.borrow_and_update().clone() else { continue };
                    let frame = FromMember { kind: Some(state) };
                    match sender.send(&frame).await {
                        Ok(()) => {}
                        // Nothing of it has left: the controller had better hear less than nothing.
                        Err(error @ FrameError::TooLarge { .. }) => {
                            tracing::error!(%error, "a report is left out");
                        }
                        Err(error) => return ended(&error),
                    }
                }
                frame = receiver.receive() => match frame {
                    Ok(Some(frame)) => self.take(frame).await,
                    Ok(None) => return Some(CloseReason::Done),
                    Err(error) => return ended(&error),
                },
                () = stop.cancelled() => break,
            }
        }
        let last = self.state.borrow_and_update().clone();
        if let Some(state) = last {
            let frame = FromMember { kind: Some(state) };
            let farewell = async {
                if sender.send(&frame).await.is_ok() {
                    // The link closes next, so whether it arrived makes no difference any more.
                    let _ = sender.finish().await;
                }
            };
            let _ = tokio::time::timeout(LAST_WORD, farewell).await;
        }
        link.close(&CloseReason::Draining);
        None
    }

    async fn take(&mut self, frame: FromController) {
        let said = match frame.kind {
            Some(from_controller::Kind::Certificate(der)) => return self.renew(der).await,
            Some(said) => said,
            None => return,
        };
        // Nobody listens only when we stop.
        let _ = self.events.send(MemberEvent::Said(said)).await;
    }

    async fn renew(&mut self, certificate: Vec<u8>) {
        let Some(held) = &self.held else { return };
        let kept = match held.renewed(certificate).map_err(MemberError::from) {
            Ok(credentials) => self.keep(credentials).await,
            Err(error) => Err(error),
        };
        if let Err(error) = kept {
            tracing::warn!(%error, "the renewed certificate is not taken");
        }
    }
}

/// `host:port`; any host may stand in brackets, and one of IPv6 without.
async fn resolve(controller: &str) -> Result<SocketAddr, MemberError> {
    let bad = |why: &str| MemberError::Address(controller.to_owned(), why.to_owned());
    let (host, port) = controller.rsplit_once(':').ok_or_else(|| bad("no port"))?;
    let port: u16 = port.parse().map_err(|_| bad("no port"))?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let mut found =
        tokio::net::lookup_host((host, port)).await.map_err(|error| bad(&error.to_string()))?;
    found.next().ok_or_else(|| bad("no address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn controller_addresses_of_both_families_are_read() {
        let resolved =
            |text: &'static str| async move { resolve(text).await.map(|a| a.to_string()) };
        assert_eq!(resolved("10.96.0.7:7820").await.expect("IPv4"), "10.96.0.7:7820");
        assert_eq!(resolved("[10.96.0.7]:7820").await.expect("IPv4"), "10.96.0.7:7820");
        assert_eq!(resolved("fd00::7:7820").await.expect("IPv6"), "[fd00::7]:7820");
        assert_eq!(resolved("[fd00::7]:7820").await.expect("IPv6"), "[fd00::7]:7820");
        let error =
            resolved("[$(CARRICK_CONTROLLER_SERVICE_HOST)]:7820").await.expect_err("no host");
        assert!(error.to_string().contains("CARRICK_CONTROLLER_SERVICE_HOST"), "{error}");
        assert!(resolved("10.96.0.7").await.is_err());
    }
}
