//! A judged connection to one member.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use carrick_model::{IdentityKey, MemberId};
use prost::Message;
use rustls::NamedGroup;

use super::frame::{FrameError, Receiver, Sender};
use super::limits::Place;
use super::tls::is_post_quantum;
use super::{CloseReason, Protocol};
use crate::trust::{Rules, TrustError, still_allowed};

/// A connection whose other end was judged. Clones are the same link; it closes when the last clone
/// and its channel are dropped.
#[derive(Clone)]
pub struct Link(Arc<LinkInner>);

pub(crate) struct LinkInner {
    pub(crate) connection: quinn::Connection,
    pub(crate) protocol: Protocol,
    pub(crate) certificate: Vec<u8>,
    pub(crate) peer: MemberId,
    pub(crate) identity: IdentityKey,
    pub(crate) dialled: bool,
    /// In which the two ends agreed on their keys.
    pub(crate) group: Option<NamedGroup>,
    /// Held as long as the link lives.
    pub(crate) _place: Option<Place>,
}

impl LinkInner {
    pub(crate) fn close(&self, reason: &CloseReason) {
        let (code, text) = reason.encode();
        self.connection.close(code, &text);
    }

    /// Members' links that we dialled stand on the pin that we dialled with, not on the rules.
    pub(crate) fn allowed_by(&self, rules: &Rules) -> Result<(), TrustError> {
        if self.dialled && self.protocol != Protocol::Peer {
            return Ok(());
        }
        still_allowed(rules, self.protocol, &self.peer, &self.identity, self.group)
    }
}

impl Link {
    pub(crate) fn new(inner: Arc<LinkInner>) -> Self {
        Self(inner)
    }

    pub(super) fn connection(&self) -> &quinn::Connection {
        &self.0.connection
    }

    /// Who the other end is.
    pub fn peer(&self) -> &MemberId {
        &self.0.peer
    }

    /// Which of its cluster's identities signed its certificate.
    pub fn identity(&self) -> &IdentityKey {
        &self.0.identity
    }

    /// The other end's certificate (DER), e.g. for [`crate::certificate::renew`].
    pub fn certificate(&self) -> &[u8] {
        &self.0.certificate
    }

    /// What the link is for.
    pub fn protocol(&self) -> Protocol {
        self.0.protocol
    }

    /// Whether this end dialled.
    pub fn dialled(&self) -> bool {
        self.0.dialled
    }

    /// Whether recorded traffic of the link, and what was derived from it, stays closed to a later
    /// quantum computer.
    pub fn is_post_quantum(&self) -> bool {
        self.0.group.is_some_and(is_post_quantum)
    }

    /// Where the other end is now, as seen from here.
    pub fn remote_address(&self) -> SocketAddr {
        let seen = self.0.connection.remote_address();
        SocketAddr::new(seen.ip().to_canonical(), seen.port())
    }

    /// Smoothed round-trip time.
    pub fn rtt(&self) -> Duration {
        self.0.connection.rtt()
    }

    /// A number that tells this link from all others of the process.
    pub fn id(&self) -> usize {
        self.0.connection.stable_id()
    }

    /// A secret that only the two ends of this link can compute (RFC 5705): equal for equal label
    /// and context.
    pub fn export(&self, label: &str, context: &[u8]) -> [u8; 32] {
        let mut secret = [0; 32];
        match self.0.connection.export_keying_material(&mut secret, label.as_bytes(), context) {
            Ok(()) => secret,
            Err(error) => unreachable!("TLS 1.3 exports 32 bytes once established: {error:?}"),
        }
    }

    /// The link's one stream. The end that dialled opens it; call this once on each end.
    pub async fn channel<Out, In>(&self) -> Result<(Sender<Out>, Receiver<In>), FrameError>
    where
        Out: Message,
        In: Message + Default,
    {
        let connection = &self.0.connection;
        let stream =
            if self.0.dialled { connection.open_bi().await } else { connection.accept_bi().await };
        let (send, receive) = stream.map_err(|_| FrameError::Closed)?;
        let limit = self.0.protocol.max_frame();
        let mut sender = Sender::new(send, limit);
        if self.0.dialled {
            sender.prime().await?;
        }
        Ok((sender, Receiver::new(receive, limit)))
    }

    /// Closes the link and tells the other end why. Only the first reason counts.
    pub fn close(&self, reason: &CloseReason) {
        self.0.close(reason);
    }

    /// Waits until the link is closed by whichever end, and says why.
    pub async fn closed(&self) -> CloseReason {
        CloseReason::from(&self.0.connection.closed().await)
    }

    /// Why the link is closed; `None` while it lives.
    pub fn close_reason(&self) -> Option<CloseReason> {
        self.0.connection.close_reason().as_ref().map(CloseReason::from)
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link")
            .field("peer", &self.0.peer)
            .field("remote", &self.remote_address())
            .finish_non_exhaustive()
    }
}
