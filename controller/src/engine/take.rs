//! What events do to the world.

use std::collections::BTreeMap;
use std::time::Instant;

use carrick_crds::ClusterIdentity;
use carrick_model::Role;
use tracing::info;

use super::Engine;
use crate::event::{Change, Event, MemberKey, Report};
use crate::identity::Record;
use crate::world::{Member, Now};

impl Engine {
    pub(super) fn take(&mut self, event: Event) {
        let facts = &mut self.world.facts;
        match event {
            Event::Nodes(change) => self.synced.nodes |= apply(&mut facts.nodes, change),
            Event::Pods(change) => self.synced.pods |= apply(&mut facts.pods, change),
            Event::Services(change) => self.synced.services |= apply(&mut facts.services, change),
            Event::ApiServer(change) => {
                facts.api_server.take(change);
                self.synced.api_server |= facts.api_server.is_known();
            }
            Event::Peerings(change) => {
                self.synced.peerings |= apply(&mut self.world.peerings, *change);
            }
            Event::Drills(change) => self.synced.drills |= apply(&mut self.world.drills, *change),
            Event::Identity(identity) => self.identity_changed(identity.as_deref()),
            Event::Shared(shared) => self.world.shared = Some(*shared),
            Event::Recorded(record) => self.world.record.mesh = record.mesh,
            Event::Linked { member, link, outgoing } => {
                self.links.add(member.clone(), link, outgoing);
                self.linked(&member);
            }
            Event::Reported { member, link, report } if self.links.is_current(&member, link) => {
                self.reported(member, report);
            }
            Event::Unlinked { member, link } if self.links.remove(&member, link) => {
                self.unlinked(&member);
            }
            // From a link that was replaced.
            Event::Reported { .. } | Event::Unlinked { .. } => {}
            Event::Show(reply) => {
                // Whoever asked may have left.
                let _left = reply.send(crate::live::show(&self.world, &self.outbox, &self.links));
            }
        }
    }

    fn identity_changed(&mut self, identity: Option<&ClusterIdentity>) {
        let Some(identity) = identity else {
            // Somebody deleted it: make it again, as it was.
            let status = self.own.status.clone();
            self.leave_identity(status, self.world.record.clone(), Now::read());
            return;
        };
        self.own.see(&identity.status.clone().unwrap_or_default());
        let read = Record::read(identity, self.installation.as_deref());
        if read.withdraw != self.world.record.withdraw {
            info!(withdraw = read.withdraw, "withdrawal asked for or taken back");
        }
        self.world.record.withdraw = read.withdraw;
        self.world.record.forget = read.forget;
        self.own_generation = identity.metadata.generation;
    }

    fn linked(&mut self, member: &MemberKey) {
        let name = member.name.clone();
        match member.role {
            Role::Gateway => {
                let before = self.world.gateways.remove(&name);
                self.world.gateways.insert(name, Member::connected(before));
            }
            Role::Agent => {
                let before = self.world.agents.remove(&name);
                self.world.agents.insert(name, Member::connected(before));
            }
            // The trust admits none.
            Role::Controller => {}
        }
    }

    fn reported(&mut self, member: MemberKey, report: Report) {
        match report {
            Report::Gateway(state) => {
                let state = Member { state: Some(*state), lost: None };
                self.world.gateways.insert(member.name, state);
            }
            Report::Agent(state) => {
                self.world.agent_reported(member.name, *state, Instant::now());
            }
        }
    }

    fn unlinked(&mut self, member: &MemberKey) {
        let lost = Some(Instant::now());
        if let Some(gateway) = self.world.gateways.get_mut(&member.name)
            && member.role == Role::Gateway
        {
            gateway.lost = lost;
        }
        if let Some(agent) = self.world.agents.get_mut(&member.name)
            && member.role == Role::Agent
        {
            agent.lost = lost;
        }
    }
}

/// Applies a change. True when it said all there is.
fn apply<T>(map: &mut BTreeMap<String, T>, change: Change<T>) -> bool {
    match change {
        Change::All(all) => {
            *map = all.into_iter().collect();
            true
        }
        Change::Set(key, value) => {
            map.insert(key, value);
            false
        }
        Change::Gone(key) => {
            map.remove(&key);
            false
        }
    }
}
