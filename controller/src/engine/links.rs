//! The links that stand now, and what was last given to each.

use std::collections::BTreeMap;
use std::sync::Arc;

use carrick_exchange::message::member::FromController;
use carrick_model::Role;

use crate::event::{MemberKey, Outgoing};
use crate::metrics::Metrics;
use crate::outbox::Outbox;

/// The links that stand now: one a member, the newest.
#[derive(Default)]
pub struct Links(BTreeMap<MemberKey, Slot>);

struct Slot {
    id: usize,
    outgoing: Outgoing,
    sent: Option<Arc<FromController>>,
}

impl Links {
    /// A link came up. An older one of the same member ends by that.
    pub fn add(&mut self, member: MemberKey, id: usize, outgoing: Outgoing) {
        self.0.insert(member, Slot { id, outgoing, sent: None });
    }

    /// Whether this is the member's newest link.
    pub fn is_current(&self, member: &MemberKey, id: usize) -> bool {
        self.0.get(member).is_some_and(|slot| slot.id == id)
    }

    /// A link broke. True when it was the member's newest.
    pub fn remove(&mut self, member: &MemberKey, id: usize) -> bool {
        self.is_current(member, id) && self.0.remove(member).is_some()
    }

    /// Whether the member is linked.
    pub fn has(&self, member: &MemberKey) -> bool {
        self.0.contains_key(member)
    }

    /// Gives each link what its member has not heard on it yet.
    pub fn push(&mut self, outbox: &Outbox, metrics: &Metrics) {
        for (member, slot) in &mut self.0 {
            let frame = match member.role {
                Role::Gateway => outbox.for_gateways(),
                Role::Agent => outbox.for_agent(&member.name),
                Role::Controller => None,
            };
            let Some(frame) = frame else { continue };
            if slot.sent.as_ref().is_some_and(|sent| Arc::ptr_eq(sent, frame)) {
                continue;
            }
            slot.sent = Some(frame.clone());
            metrics.configured(member.role);
            slot.outgoing.send_replace(Some(frame.clone()));
        }
        for role in [Role::Gateway, Role::Agent] {
            let count = self.0.keys().filter(|member| member.role == role).count();
            metrics.set_members(role, count);
        }
    }
}
