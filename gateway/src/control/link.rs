//! One connection with a remote gateway: carries frames between the [`Session`] and the link.

use std::time::{Duration, Instant, SystemTime};

use carrick_exchange::message::peer::{PeerMessage, Report};
use carrick_exchange::message::snapshot::SignedSnapshot;
use carrick_exchange::peer::{Event, Session};
use carrick_exchange::snapshot::Version;
use carrick_exchange::{CloseReason, FrameError, Link, Pin, Receiver, Sender};
use carrick_model::{ClusterId, MemberName};
use tokio::sync::{mpsc, watch};

use super::relay::Relay;

/// How long the other side may take to open the stream.
const OPENING: Duration = Duration::from_secs(10);

/// What the other side is to know; the newest counts.
#[derive(Debug, Clone, PartialEq)]
pub struct Outbound {
    /// Who they must be, as the controller says now.
    pub pin: Pin,
    /// What our cluster says.
    pub snapshot: Option<SignedSnapshot>,
    /// What we do not take of theirs.
    pub report: Option<Report>,
    /// The version of their snapshot that we hold.
    pub newest: Option<Version>,
}

/// Something happened on a link.
#[derive(Debug)]
pub struct LinkEvent {
    /// The peer.
    pub cluster: ClusterId,
    /// Its gateway.
    pub gateway: MemberName,
    /// Which link, see [`Link::id`].
    pub link: usize,
    /// What.
    pub kind: LinkEventKind,
}

/// What happened.
#[derive(Debug)]
pub enum LinkEventKind {
    /// The session says so.
    Session(Event),
    /// It ended.
    Ended(CloseReason),
}

/// Runs a link until it ends; says so last. Dropping the sending side of `outbound` ends it as a
/// duplicate.
pub async fn run(
    link: Link,
    session: Session,
    outbound: watch::Receiver<Outbound>,
    events: mpsc::Sender<LinkEvent>,
    relay: Relay,
) {
    let event = |kind| LinkEvent {
        cluster: link.peer().cluster.clone(),
        gateway: link.peer().name.clone(),
        link: link.id(),
        kind,
    };
    let ended = match open(&link).await {
        Ok(channel) => tokio::select! {
            ended = talk(&link, channel, session, outbound, |kind| events.send(event(kind))) => ended,
            // It ends with the link, whose reason the other branch knows.
            never = async { relay.serve_peer(&link).await; std::future::pending().await } => never,
        },
        Err(reason) => reason,
    };
    link.close(&ended);
    let reason = match link.closed().await {
        CloseReason::ClosedHere => ended,
        theirs => theirs,
    };
    // The receiver is gone only when the whole process ends.
    let _ = events.send(event(LinkEventKind::Ended(reason))).await;
}

type Channel = (Sender<PeerMessage>, Receiver<PeerMessage>);

async fn open(link: &Link) -> Result<Channel, CloseReason> {
    match tokio::time::timeout(OPENING, link.channel()).await {
        Ok(Ok(channel)) => Ok(channel),
        Ok(Err(error)) => Err(broken(link, &error)),
        Err(_) => Err(CloseReason::Violation("no stream was opened".to_owned())),
    }
}

/// Until there is a reason to close, which it returns.
async fn talk<F, Sent>(
    link: &Link,
    (mut sender, mut receiver): Channel,
    mut session: Session,
    mut outbound: watch::Receiver<Outbound>,
    tell: F,
) -> CloseReason
where
    F: Fn(LinkEventKind) -> Sent,
    Sent: Future<Output = Result<(), mpsc::error::SendError<LinkEvent>>>,
{
    loop {
        let event = hand_over(&mut session, &outbound.borrow_and_update());
        if let Some(event) = event
            && tell(LinkEventKind::Session(event)).await.is_err()
        {
            return CloseReason::Draining;
        }
        while let Some(message) = session.poll_message() {
            if let Err(error) = sender.send(&message).await {
                return broken(link, &error);
            }
        }
        let again = session.poll_timeout();
        let frame = tokio::select! {
            changed = outbound.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return CloseReason::Duplicate,
            },
            () = until(again) => continue,
            frame = receiver.receive() => frame,
        };
        let message = match frame {
            Ok(Some(message)) => message,
            Ok(None) => return CloseReason::Done,
            Err(error) => return broken(link, &error),
        };
        let export = |label: &str, context: &[u8]| link.export(label, context);
        let taken = session.handle_message(message, Instant::now(), SystemTime::now(), export);
        match taken {
            Ok(None) => {}
            Ok(Some(event)) => {
                if tell(LinkEventKind::Session(event)).await.is_err() {
                    return CloseReason::Draining;
                }
            }
            Err(error) => {
                tracing::warn!(peer = %link.peer(), remote = %link.remote_address(), %error,
                    "the remote gateway broke the protocol");
                return error.close_reason();
            }
        }
    }
}

/// Forever, where there is nothing to wait for.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// Returns what a new pin, or a clock that was set, makes of what they said before.
fn hand_over(session: &mut Session, outbound: &Outbound) -> Option<Event> {
    if let Some(version) = outbound.newest {
        session.handle_newest(version);
    }
    if let Some(snapshot) = &outbound.snapshot {
        session.handle_own_snapshot(snapshot);
    }
    if let Some(report) = &outbound.report {
        session.handle_own_report(report);
    }
    let (now, wall) = (Instant::now(), SystemTime::now());
    let of_pin = session.handle_pin(&outbound.pin, now, wall);
    of_pin.or_else(|| session.handle_timeout(now, wall))
}

/// What to close with after a failed frame.
fn broken(link: &Link, error: &FrameError) -> CloseReason {
    match link.close_reason() {
        Some(reason) => reason,
        None => CloseReason::Violation(error.to_string()),
    }
}
