//! When statuses are left for writing, and what is told about them.

use std::time::Instant;

use carrick_crds::condition::PeeringCondition;
use carrick_crds::{ClusterIdentityStatus, ClusterPeeringStatus, condition};

use super::{Engine, Published, earliest};
use crate::identity::{Record, status as identity_status};
use crate::peering::status::{Difference, difference, due};
use crate::plan::Plan;
use crate::world::Now;
use crate::writer::{News, Target, Write};

impl Engine {
    pub(super) fn publish(
        &mut self,
        name: String,
        new: ClusterPeeringStatus,
        now: Now,
    ) -> Option<Instant> {
        let object = self.world.peerings.get(&name)?;
        let found = || Published::found(object.uid.clone(), &object.status);
        let published = self.peerings.entry(name.clone()).or_insert_with(found);
        if published.uid != object.uid {
            *published = found();
        }
        published.see(&object.status);
        let old = &published.status;
        let changed = due(difference(old, &new), published.at, now.instant);
        let at = earliest(changed, published.restore_at(now.instant))?;
        if at > now.instant {
            return Some(at);
        }
        let (news, uid) = (news(old, &new), object.uid.clone());
        let write = Write::Peering { uid, status: Box::new(new.clone()), news };
        self.desk.leave(Target::Peering(name), write, now.instant);
        published.leave(new, now.instant);
        None
    }

    pub(super) fn forget_peerings(&mut self) {
        let (desk, objects) = (&self.desk, &self.world.peerings);
        self.peerings.retain(|name, _| {
            let stays = objects.contains_key(name);
            if !stays {
                desk.forget(&Target::Peering(name.clone()));
            }
            stays
        });
        let ready = PeeringCondition::Ready.as_str();
        let good =
            self.peerings.values().filter(|p| condition::is_true(&p.status.conditions, ready));
        self.metrics.set_peerings(self.peerings.len(), good.count());
    }

    pub(super) fn publish_own(&mut self, plan: &Plan, now: Now) -> Option<Instant> {
        let old = &self.own.status;
        let generation = self.own_generation;
        let new = identity_status::status(&self.world, plan, old, generation, self.settled, now);
        let restore = self.own.restore_at(now.instant);
        if new == *old && restore.is_none() {
            return None;
        }
        let substance = identity_status::differs_in_substance(old, &new);
        // Before everybody has reported only new mesh addresses are worth a write: without them
        // nobody can be told anything.
        let needed = self.settled || plan.record.mesh != self.world.record.mesh;
        if !needed {
            return None;
        }
        let difference = match (new == *old, substance) {
            (true, _) => Difference::None,
            (false, false) => Difference::Figures,
            (false, true) => Difference::Substance,
        };
        let at = earliest(due(difference, self.own.at, now.instant), restore)?;
        if at > now.instant {
            return Some(at);
        }
        self.leave_identity(new, plan.record.clone(), now);
        None
    }

    pub(super) fn leave_identity(
        &mut self,
        status: ClusterIdentityStatus,
        record: Record,
        now: Now,
    ) {
        let write = Write::Identity { status: Box::new(status.clone()), record: Box::new(record) };
        self.desk.leave(Target::Identity, write, now.instant);
        self.own.leave(status, now.instant);
    }
}

/// What changed in the conditions, for Events.
fn news(old: &ClusterPeeringStatus, new: &ClusterPeeringStatus) -> Vec<News> {
    let told = PeeringCondition::ALL.into_iter().filter_map(|type_| {
        let type_ = type_.as_str();
        let now = condition::find(&new.conditions, type_)?;
        let before = condition::find(&old.conditions, type_);
        let changed = before.is_none_or(|before| before.status != now.status);
        // What never was true is no news until it is; what is wrong with it, `Ready` says.
        let first_no = before.is_none() && now.status != "True";
        let interesting = !first_no || type_ == PeeringCondition::Accepted.as_str();
        let bad_when_true = type_ == PeeringCondition::NodesDegraded.as_str();
        (changed && interesting).then(|| News {
            good: (now.status == "True") != bad_when_true,
            condition: type_,
            reason: now.reason.clone(),
            message: now.message.clone(),
        })
    });
    told.chain(drill_news(old, new)).collect()
}

/// What the peer's drills do.
fn drill_news(old: &ClusterPeeringStatus, new: &ClusterPeeringStatus) -> Option<News> {
    let of = |status: &ClusterPeeringStatus| status.peer.as_ref().map(|peer| peer.drill.clone());
    let (before, now) = (of(old).unwrap_or_default(), of(new).unwrap_or_default());
    let (reason, message) = match (before.is_empty(), now.is_empty()) {
        _ if before == now => return None,
        (_, false) => ("PeerDrillBegan", format!("the peer hits traffic on purpose: {now}")),
        (_, true) => ("PeerDrillEnded", format!("over: {before}")),
    };
    Some(News { good: true, condition: "PeerDrill", reason: reason.to_owned(), message })
}

#[cfg(test)]
mod tests {
    use carrick_crds::peering::PeerStatus;

    use super::*;

    #[test]
    fn begin_and_end_of_a_peers_drill_are_told_once() {
        let of = |drill: &str| ClusterPeeringStatus {
            peer: Some(PeerStatus { drill: drill.to_owned(), ..PeerStatus::default() }),
            ..ClusterPeeringStatus::default()
        };
        let told = |old: &str, new: &str| {
            let news = drill_news(&of(old), &of(new))?;
            Some((news.reason, news.message))
        };
        let (begins, ends) =
            (told("", "drill d").expect("news"), told("drill d", "").expect("news"));
        assert!(begins.0 == "PeerDrillBegan" && begins.1.contains("drill d"), "{begins:?}");
        assert!(ends.0 == "PeerDrillEnded" && ends.1.contains("drill d"), "{ends:?}");
        assert_eq!((told("drill d", "drill d"), told("", "")), (None, None));
    }
}
