//! Joining: how a gateway or agent gets its certificate, both ends.

use std::net::SocketAddr;

use quinn::Connection;

use crate::certificate::leaf::Leaf;
use crate::certificate::{CertificateError, Credentials, MemberKey};
use crate::message::join::join_response::Outcome;
use crate::message::join::{JoinRequest, JoinResponse};
use crate::transport::limits::Place;
use crate::transport::{
    CloseReason, ConnectError, Exchange, FrameError, Protocol, Receiver, Sender,
};
use crate::trust::Pin;

/// Why a member could not join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// No connection to the controller.
    #[error("cannot join: controller {0}")]
    Connect(#[from] ConnectError),
    /// The connection broke before there was an answer.
    #[error("cannot join: controller {address}: {reason}")]
    Broken {
        /// Whom we asked.
        address: SocketAddr,
        /// What happened.
        reason: String,
    },
    /// The controller does not admit us.
    #[error("cannot join: controller {address} refused: {message}")]
    Refused {
        /// Whom we asked.
        address: SocketAddr,
        /// What it says.
        message: String,
    },
    /// Key or certificate is of no use.
    #[error("cannot join: {0}")]
    Certificate(#[from] CertificateError),
}

/// Presents `token` to the controller at `address`, which `pin` must fit, and returns what it issued.
pub async fn join(
    exchange: &Exchange,
    address: SocketAddr,
    pin: &Pin,
    token: &str,
) -> Result<Credentials, JoinError> {
    let key = MemberKey::generate()?;
    let request = JoinRequest { token: token.to_owned(), csr: key.csr()? };
    let link = exchange.dial(Protocol::Join, address, pin).await?;
    let answer = match ask(&link, &request).await {
        Ok(answer) => answer,
        Err(error) => {
            let reason = link.close_reason().map_or(error.to_string(), |close| close.to_string());
            return Err(JoinError::Broken { address, reason });
        }
    };
    link.close(&CloseReason::Done);
    match answer.outcome {
        Some(Outcome::Certificate(der)) => {
            check(&der, pin)?;
            Ok(key.into_credentials(der)?)
        }
        Some(Outcome::Refused(message)) => Err(JoinError::Refused { address, message }),
        None => {
            let reason = "an empty answer; its release may be incompatible".to_owned();
            Err(JoinError::Broken { address, reason })
        }
    }
}

async fn ask(
    link: &crate::transport::Link,
    request: &JoinRequest,
) -> Result<JoinResponse, FrameError> {
    let (mut sender, mut receiver) = link.channel::<JoinRequest, JoinResponse>().await?;
    sender.send(request).await?;
    receiver.receive().await?.ok_or(FrameError::Truncated)
}

/// The controller was judged, but what it hands out should still be of the cluster that was pinned.
fn check(der: &[u8], pin: &Pin) -> Result<(), CertificateError> {
    let leaf = Leaf::parse(der).map_err(|e| CertificateError::Unusable(e.to_string()))?;
    if leaf.member.cluster != pin.cluster || leaf.signer(&pin.identities).is_none() {
        let text = format!("{} is not signed by cluster {}", leaf.member, pin.cluster);
        return Err(CertificateError::Unusable(text));
    }
    Ok(())
}

/// Somebody who wants to join. Nothing of it is verified but that it holds the key of its request,
/// which [`crate::certificate::issue`] checks.
pub struct Attempt {
    /// Where it comes from.
    pub remote: SocketAddr,
    /// A ServiceAccount token, to be reviewed.
    pub token: String,
    /// The certificate request (PKCS #10, DER).
    pub csr: Vec<u8>,
    answer: Sender<JoinResponse>,
    connection: Connection,
    _place: Place,
}

impl Attempt {
    pub(crate) async fn read(
        connection: Connection,
        remote: SocketAddr,
        place: Place,
    ) -> Result<Self, FrameError> {
        let (send, receive) = connection.accept_bi().await.map_err(|_| FrameError::Closed)?;
        let limit = Protocol::Join.max_frame();
        let mut receiver = Receiver::<JoinRequest>::new(receive, limit);
        let request = receiver.receive().await?.ok_or(FrameError::Truncated)?;
        let JoinRequest { token, csr } = request;
        let answer = Sender::new(send, limit);
        Ok(Self { remote, token, csr, answer, connection, _place: place })
    }

    /// Hands out the certificate (DER).
    pub async fn admit(self, certificate: Vec<u8>) -> Result<(), FrameError> {
        self.respond(Outcome::Certificate(certificate)).await
    }

    /// Refuses, and says why.
    pub async fn refuse(self, message: &str) -> Result<(), FrameError> {
        self.respond(Outcome::Refused(message.to_owned())).await
    }

    async fn respond(mut self, outcome: Outcome) -> Result<(), FrameError> {
        self.answer.send(&JoinResponse { outcome: Some(outcome) }).await?;
        // The joiner closes the connection once it has read the answer, which `finish` waits for.
        let finished = self.answer.finish().await;
        let (code, text) = CloseReason::Done.encode();
        self.connection.close(code, &text);
        match finished {
            Err(FrameError::Closed) | Ok(()) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl std::fmt::Debug for Attempt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Attempt").field("remote", &self.remote).finish_non_exhaustive()
    }
}
