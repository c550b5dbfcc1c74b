//! One link to a gateway or agent: configurations out, reports in.

use std::sync::Arc;
use std::time::Duration;

use carrick_exchange::Sender as FrameSender;
use carrick_exchange::message::member::{FromController, FromMember, from_controller, from_member};
use carrick_exchange::transport::FrameError;
use carrick_exchange::{CloseReason, Link, Receiver};
use carrick_model::Role;
use tokio::sync::mpsc::Sender;
use tokio::sync::watch;
use tracing::{info, warn};

use super::bounds;
use super::join::Registrar;
use crate::book::Books;
use crate::event::{Event, MemberKey, Report};

/// How often a member's certificate is renewed.
const RENEWAL: Duration = Duration::from_secs(24 * 3600);

type Outbound = watch::Receiver<Option<Arc<FromController>>>;

/// Runs one link until it breaks, or until a newer one of the same member replaces it.
pub async fn run(link: Link, registrar: Registrar, books: Books, events: Sender<Event>) {
    let member = MemberKey { role: link.peer().role, name: link.peer().name.clone() };
    let (outgoing, outbound) = watch::channel(None);
    let (sender, receiver) = match link.channel::<FromController, FromMember>().await {
        Ok(channel) => channel,
        Err(error) => {
            warn!(member = %link.peer(), %error, "link without a channel");
            return;
        }
    };
    info!(member = %link.peer(), remote = %link.remote_address(), "linked");
    let id = link.id();
    if events.send(Event::Linked { member: member.clone(), link: id, outgoing }).await.is_err() {
        return;
    }
    let ended = tokio::select! {
        ended = read(receiver, &member, id, &events) => ended,
        ended = write(sender, outbound, &link, &registrar) => ended,
        never = questions(&link, &books) => never,
    };
    let reason = match ended {
        // Without an engine this replica no longer leads.
        Ok(Ended::Replaced) if events.is_closed() => CloseReason::Draining,
        Ok(Ended::Replaced) => CloseReason::Duplicate,
        Ok(Ended::Finished | Ended::Unknown) => CloseReason::Done,
        Err(error) => CloseReason::Violation(error.to_string()),
    };
    let reason = link.close_reason().unwrap_or(reason);
    link.close(&reason);
    info!(member = %link.peer(), %reason, "unlinked");
    // The engine is gone only when this replica no longer leads.
    let _gone = events.send(Event::Unlinked { member, link: id }).await;
}

/// Lets a gateway carry questions about services, both ways. Never ends by itself.
async fn questions<T>(link: &Link, books: &Books) -> T {
    if link.peer().role == Role::Gateway {
        let _place = books.gateways.enter(link);
        books.desk.serve(link).await;
    }
    std::future::pending().await
}

enum Ended {
    /// The engine dropped the outgoing side: there is a newer link.
    Replaced,
    /// The member ended its stream.
    Finished,
    /// It joined at a controller before this one. Linking anew makes it join anew once its certificate
    /// has less than a day to live.
    Unknown,
}

async fn read(
    mut receiver: Receiver<FromMember>,
    member: &MemberKey,
    link: usize,
    events: &Sender<Event>,
) -> Result<Ended, FrameError> {
    while let Some(frame) = receiver.receive().await? {
        let report = match (frame.kind, member.role) {
            (Some(from_member::Kind::Gateway(state)), Role::Gateway) => {
                Report::Gateway(Box::new(bounds::gateway(state)))
            }
            (Some(from_member::Kind::Agent(state)), Role::Agent) => {
                Report::Agent(Box::new(bounds::agent(state)))
            }
            (None, _) => continue,
            (Some(_), role) => {
                let text = format!("a report that is none of a {role}'s");
                return Err(FrameError::Malformed(text));
            }
        };
        if events.send(Event::Reported { member: member.clone(), link, report }).await.is_err() {
            break;
        }
    }
    Ok(Ended::Finished)
}

async fn write(
    mut sender: FrameSender<FromController>,
    mut outbound: Outbound,
    link: &Link,
    registrar: &Registrar,
) -> Result<Ended, FrameError> {
    let mut renewal = tokio::time::interval(RENEWAL);
    renewal.tick().await;
    loop {
        tokio::select! {
            changed = outbound.changed() => {
                if changed.is_err() {
                    return Ok(Ended::Replaced);
                }
                let frame = outbound.borrow_and_update().clone();
                if let Some(frame) = frame {
                    sender.send(&frame).await?;
                }
            }
            _ = renewal.tick() => {
                let Some(certificate) = registrar.renew(link.peer()) else {
                    return Ok(Ended::Unknown);
                };
                let kind = Some(from_controller::Kind::Certificate(certificate));
                sender.send(&FromController { kind }).await?;
            }
        }
    }
}
