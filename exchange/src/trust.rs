//! Who may connect: pins, the judgement of a certificate, and the swappable set of rules.
//!
//! The judgement is pure. It runs after the TLS handshake proved possession of the certificate's
//! key and before any stream opens, so that the reason of a refusal reaches the other side.

mod error;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::SystemTime;

use carrick_model::{ClusterId, IdentityKey, MemberId, MemberName, Role};
use rustls::NamedGroup;

pub use error::TrustError;
pub(crate) use error::closing;

use crate::certificate::leaf::Leaf;
use crate::transport::Protocol;
use crate::transport::link::LinkInner;
use crate::transport::tls::is_post_quantum;

/// Whom one end of a link accepts at the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// The cluster ID that the certificate must name.
    pub cluster: ClusterId,
    /// Identity keys of that cluster; any of them may have signed.
    pub identities: Vec<IdentityKey>,
    /// The role that the certificate must name.
    pub role: Role,
    /// Which members are in service; `None` for any. One that is missing here is refused as
    /// withdrawn, whatever its certificate says.
    pub members: Option<BTreeSet<MemberName>>,
    /// Refuse key exchanges that a quantum computer could undo later.
    pub post_quantum: bool,
}

impl Pin {
    /// Any member of `role` of the cluster with these identities.
    pub fn new(cluster: ClusterId, identities: Vec<IdentityKey>, role: Role) -> Self {
        Self { cluster, identities, role, members: None, post_quantum: false }
    }
}

/// What an exchange serves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// Whether `carrick-join/1` is served.
    pub join: bool,
    /// Who may connect by `carrick-member/1`.
    pub member: Vec<Pin>,
    /// Who may be linked by `carrick-peer/1`, whichever side dials.
    pub peer: Vec<Pin>,
}

impl Rules {
    fn pins(&self, protocol: Protocol) -> &[Pin] {
        match protocol {
            Protocol::Join => &[],
            Protocol::Member => &self.member,
            Protocol::Peer => &self.peer,
        }
    }
}

/// Ourselves, as far as refusing ourselves needs it.
#[derive(Debug, Clone)]
pub(crate) struct Own {
    pub(crate) cluster: ClusterId,
    pub(crate) identities: Vec<IdentityKey>,
}

/// The swappable set of who may connect. Clones share it. What a new set no longer allows is closed
/// before [`Trust::set`] returns.
#[derive(Clone)]
pub struct Trust {
    shared: Arc<Mutex<Shared>>,
    own: Arc<Own>,
}

struct Shared {
    rules: Rules,
    links: Vec<Weak<LinkInner>>,
}

impl Trust {
    /// For a member of `cluster`, whose identity keys are `identities`.
    pub fn new(cluster: ClusterId, identities: Vec<IdentityKey>, rules: Rules) -> Self {
        let shared = Shared { rules, links: Vec::new() };
        Self { shared: Arc::new(Mutex::new(shared)), own: Arc::new(Own { cluster, identities }) }
    }

    /// The rules in force.
    pub fn rules(&self) -> Rules {
        self.lock().rules.clone()
    }

    /// Replaces the rules and closes each live link that they no longer allow: as
    /// [`Withdrawn`](crate::transport::CloseReason::Withdrawn), or as refused when only its key
    /// exchange does not do.
    pub fn set(&self, rules: Rules) {
        let mut shared = self.lock();
        shared.rules = rules;
        let Shared { rules, links } = &mut *shared;
        links.retain(|weak| {
            let Some(link) = weak.upgrade() else { return false };
            let refusal = link.allowed_by(rules).err();
            if let Some(error) = &refusal {
                link.close(&closing(error));
            }
            refusal.is_none()
        });
    }

    /// Judges the other side of a connection that came in, or of a peer that we dialled.
    pub(crate) fn judge(
        &self,
        protocol: Protocol,
        leaf: &[u8],
        now: SystemTime,
    ) -> Result<Judged, TrustError> {
        let leaf = Leaf::parse(leaf)?;
        judge(&leaf, protocol, self.lock().rules.pins(protocol), &self.own, now)
    }

    pub(crate) fn own(&self) -> &Own {
        &self.own
    }

    pub(crate) fn serves_join(&self) -> bool {
        self.lock().rules.join
    }

    /// Watches over a link, unless the rules changed against it since it was judged.
    pub(crate) fn register(&self, link: &Arc<LinkInner>) -> Result<(), TrustError> {
        let mut shared = self.lock();
        link.allowed_by(&shared.rules)?;
        shared.links.retain(|weak| weak.strong_count() > 0);
        shared.links.push(Arc::downgrade(link));
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        // Nothing in here leaves the state half-changed, so a panic elsewhere does not spoil it.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trust").field("rules", &self.lock().rules).finish_non_exhaustive()
    }
}

/// Whether rules still allow a member that was judged before (time apart), by a key exchange in
/// `group`.
pub(crate) fn still_allowed(
    rules: &Rules,
    protocol: Protocol,
    member: &MemberId,
    identity: &IdentityKey,
    group: Option<NamedGroup>,
) -> Result<(), TrustError> {
    let mut pins = rules.pins(protocol).iter().filter(|pin| {
        pin.cluster == member.cluster
            && pin.role == member.role
            && pin.identities.contains(identity)
            && pin.members.as_ref().is_none_or(|members| members.contains(&member.name))
    });
    match pins.next() {
        Some(pin) => check_group(group, pin.post_quantum),
        None => Err(TrustError::Withdrawn { member: member.clone() }),
    }
}

/// Refuses a key exchange that is not post-quantum where one is required.
pub(crate) fn check_group(group: Option<NamedGroup>, required: bool) -> Result<(), TrustError> {
    match group {
        Some(group) if required && !is_post_quantum(group) => {
            Err(TrustError::NotPostQuantum { group: format!("{group:?}") })
        }
        _ => Ok(()),
    }
}

/// Who the other side is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Judged {
    pub(crate) member: MemberId,
    pub(crate) identity: IdentityKey,
    pub(crate) post_quantum: bool,
}

/// Judges the certificate of whom we dialled, who must be as `pin` says. Pure.
pub(crate) fn judge_answer(
    leaf: &Leaf<'_>,
    protocol: Protocol,
    pin: &Pin,
    own: &Own,
    now: SystemTime,
) -> Result<Judged, TrustError> {
    match judge(leaf, protocol, std::slice::from_ref(pin), own, now) {
        // It was not asked for by its own name, so a peering for it would not help.
        Err(TrustError::UnknownIdentity { cluster }) => Err(TrustError::AnotherCluster {
            wanted: pin.cluster.clone(),
            pinned: keys(std::slice::from_ref(pin)),
            claimed: cluster,
        }),
        judged => judged,
    }
}

/// Judges one certificate by pins. Pure.
pub(crate) fn judge(
    leaf: &Leaf<'_>,
    protocol: Protocol,
    pins: &[Pin],
    own: &Own,
    now: SystemTime,
) -> Result<Judged, TrustError> {
    let claimed = &leaf.member.cluster;
    if protocol == Protocol::Peer {
        if own.identities.iter().any(|key| leaf.signed_by(key)) {
            return Err(TrustError::OwnIdentity);
        }
        if *claimed == own.cluster {
            let pinned = pins.iter().find_map(|pin| leaf.signer(&pin.identities).map(|_| pin));
            let pinned = pinned.map(|pin| pin.cluster.clone());
            return Err(match pinned {
                Some(pinned) => TrustError::WrongCluster { pinned, claimed: claimed.clone() },
                None => TrustError::UnknownIdentity { cluster: claimed.clone() },
            });
        }
    }
    let (identity, pins) = signer_and_pins(leaf, pins)?;
    let Some(pin) = pins.iter().find(|pin| pin.role == leaf.member.role) else {
        let (member, found) = (leaf.member.clone(), leaf.member.role);
        let wanted = pins.first().map_or(found, |pin| pin.role);
        return Err(TrustError::WrongRole { member, found, wanted });
    };
    leaf.check_validity(now)?;
    if pin.members.as_ref().is_some_and(|members| !members.contains(&leaf.member.name)) {
        return Err(TrustError::Withdrawn { member: leaf.member.clone() });
    }
    Ok(Judged { member: leaf.member.clone(), identity, post_quantum: pin.post_quantum })
}

/// The identity that signed, and the pins that hold it under the claimed cluster ID (at least one).
fn signer_and_pins<'p>(
    leaf: &Leaf<'_>,
    pins: &'p [Pin],
) -> Result<(IdentityKey, Vec<&'p Pin>), TrustError> {
    let claimed = &leaf.member.cluster;
    let signer = pins.iter().find_map(|pin| Some((leaf.signer(&pin.identities)?, pin)));
    let Some((identity, first)) = signer else {
        let pinned = keys(pins.iter().filter(|pin| pin.cluster == *claimed));
        let cluster = claimed.clone();
        return Err(if pinned.is_empty() {
            TrustError::UnknownIdentity { cluster }
        } else {
            TrustError::WrongIdentity { cluster, pinned }
        });
    };
    let fitting: Vec<&Pin> = pins
        .iter()
        .filter(|pin| pin.cluster == *claimed && pin.identities.contains(&identity))
        .collect();
    if fitting.is_empty() {
        let pinned = first.cluster.clone();
        return Err(TrustError::WrongCluster { pinned, claimed: claimed.clone() });
    }
    Ok((identity, fitting))
}

/// The identities of all these pins, each once.
fn keys<'p>(pins: impl IntoIterator<Item = &'p Pin>) -> String {
    let all = pins.into_iter().flat_map(|pin| pin.identities.iter().map(IdentityKey::to_string));
    let all: BTreeSet<String> = all.collect();
    all.into_iter().collect::<Vec<_>>().join(", ")
}
