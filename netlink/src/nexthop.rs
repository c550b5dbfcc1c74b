//! Next-hop objects for VXLAN forwarding databases, and groups of them.
//!
//! An FDB entry that names a group lets the kernel spread flows by the hash of the inner packet, and
//! one message changes the group. Resilient groups move only the flows of a member that goes.

use std::net::IpAddr;

use crate::codec::{Request, attributes, family, u16_at};
use crate::error::NetlinkError;
use crate::socket::Netlink;

const RTM_NEWNEXTHOP: u16 = 104;
const RTM_DELNEXTHOP: u16 = 105;
const RTM_GETNEXTHOP: u16 = 106;

const FIXED: usize = 8;
const NHA_ID: u16 = 1;
const NHA_GROUP: u16 = 2;
const NHA_GROUP_TYPE: u16 = 3;
const NHA_GATEWAY: u16 = 6;
const NHA_FDB: u16 = 11;
const NHA_RES_GROUP: u16 = 12;
const NHA_RES_GROUP_BUCKETS: u16 = 1;
const GROUP_PLAIN: u16 = 0;
const GROUP_RESILIENT: u16 = 1;
const BUCKETS: u16 = 128;

/// What kind of groups a kernel has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GroupSupport {
    /// No next hops in forwarding databases (before 5.8).
    None,
    /// Groups by hash threshold: a member that goes moves other flows too.
    Plain,
    /// Resilient groups (5.13).
    Resilient,
}

impl GroupSupport {
    /// Of the kernel that runs, by its release number.
    pub fn of_this_kernel() -> Self {
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self::of_release(&release)
    }

    fn of_release(release: &str) -> Self {
        let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
        let mut next = || numbers.next().and_then(Result::ok).unwrap_or(0);
        match (next(), next()) {
            version if version >= (5, 13) => Self::Resilient,
            version if version >= (5, 8) => Self::Plain,
            _ => Self::None,
        }
    }
}

/// A next-hop object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nexthop {
    /// Its number, unique in the network namespace; not 0.
    pub id: u32,
    /// What it is.
    pub kind: NexthopKind,
    /// Who made it ([`crate::PROTOCOL`]).
    pub protocol: u8,
}

/// What a next-hop object is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NexthopKind {
    /// An outer address for forwarding databases.
    Fdb(IpAddr),
    /// A group of such, by number, sorted, all of one weight.
    FdbGroup {
        /// The members' numbers.
        members: Vec<u32>,
        /// Whether it is a resilient group.
        resilient: bool,
    },
    /// Something that we do not make.
    Other,
}

impl Nexthop {
    /// One of ours.
    pub fn new(id: u32, kind: NexthopKind) -> Self {
        Self { id, kind, protocol: crate::PROTOCOL }
    }

    /// Whether it is a group.
    pub fn is_group(&self) -> bool {
        matches!(self.kind, NexthopKind::FdbGroup { .. })
    }
}

impl Netlink {
    /// All next-hop objects.
    pub fn nexthops(&mut self) -> Result<Vec<Nexthop>, NetlinkError> {
        let request = || Request::new(RTM_GETNEXTHOP, libc::NLM_F_DUMP, &[0; FIXED]);
        match self.dump("next hops", request, parse) {
            Err(error) if error.errno() == Some(libc::EOPNOTSUPP) => Ok(Vec::new()),
            other => other,
        }
    }

    /// Makes or changes these, members before groups. Returns how much was written.
    pub fn ensure_nexthops(&mut self, wanted: &[Nexthop]) -> Result<usize, NetlinkError> {
        let before = self.writes();
        let held = self.nexthops()?;
        let mut missing: Vec<_> = wanted.iter().filter(|nexthop| !held.contains(nexthop)).collect();
        missing.sort_by_key(|nexthop| nexthop.is_group());
        for nexthop in missing {
            let there = held.iter().find(|held| held.id == nexthop.id);
            if let Some(foreign) = there.filter(|there| there.protocol != crate::PROTOCOL) {
                let what = format!("next hop {}", foreign.id);
                return Err(NetlinkError::Foreign { what });
            }
            // The kernel changes neither a group into a single one nor one sort of group into another.
            if let Some(there) = there.filter(|there| !replaceable(there, nexthop)) {
                self.delete_nexthop(there.id)?;
            }
            self.set_nexthop(nexthop)?;
        }
        Ok((self.writes() - before) as usize)
    }

    /// Sets one without a look at what is there: if it is there, it must be of the same sort, and a group's
    /// members must be there.
    pub fn set_nexthop(&mut self, nexthop: &Nexthop) -> Result<(), NetlinkError> {
        let flags = libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
        self.write(request(flags, nexthop), || {
            format!("set next hop {} to {:?}", nexthop.id, nexthop.kind)
        })
    }

    /// Deletes those of ours that are not wanted, groups before members. Do this after the FDB
    /// entries that used them are gone. Returns how much was written.
    pub fn prune_nexthops(&mut self, wanted: &[Nexthop]) -> Result<usize, NetlinkError> {
        let before = self.writes();
        let wanted = |id| wanted.iter().any(|nexthop: &Nexthop| nexthop.id == id);
        let mut extra: Vec<_> = self.nexthops()?;
        extra.retain(|nexthop| nexthop.protocol == crate::PROTOCOL && !wanted(nexthop.id));
        extra.sort_by_key(|nexthop| !nexthop.is_group());
        for nexthop in extra {
            self.delete_nexthop(nexthop.id)?;
        }
        Ok((self.writes() - before) as usize)
    }

    fn delete_nexthop(&mut self, id: u32) -> Result<(), NetlinkError> {
        let mut request = Request::new(RTM_DELNEXTHOP, libc::NLM_F_ACK, &[0; FIXED]);
        request.u32(NHA_ID, id);
        match self.write(request, || format!("delete next hop {id}")) {
            Err(error) if error.errno() == Some(libc::ENOENT) => Ok(()),
            other => other,
        }
    }
}

fn replaceable(held: &Nexthop, wanted: &Nexthop) -> bool {
    use NexthopKind::{Fdb, FdbGroup};
    match (&held.kind, &wanted.kind) {
        (Fdb(a), Fdb(b)) => a.is_ipv4() == b.is_ipv4(),
        (FdbGroup { resilient: a, .. }, FdbGroup { resilient: b, .. }) => a == b,
        _ => false,
    }
}

fn request(flags: i32, nexthop: &Nexthop) -> Request {
    let mut fixed = [0; FIXED];
    fixed[2] = nexthop.protocol;
    if let NexthopKind::Fdb(address) = nexthop.kind {
        fixed[0] = family(address);
    }
    let mut request = Request::new(RTM_NEWNEXTHOP, flags, &fixed);
    request.u32(NHA_ID, nexthop.id);
    match &nexthop.kind {
        NexthopKind::Fdb(address) => {
            request.ip(NHA_GATEWAY, *address);
        }
        NexthopKind::FdbGroup { members, resilient } => {
            // struct nexthop_grp: number, weight - 1, and three bytes of zero.
            let member = |id: &u32| [id.to_ne_bytes(), [0; 4]].concat();
            request.attr(NHA_GROUP, &members.iter().flat_map(member).collect::<Vec<_>>());
            let kind = if *resilient { GROUP_RESILIENT } else { GROUP_PLAIN };
            request.u16(NHA_GROUP_TYPE, kind);
            if *resilient {
                request.nested(NHA_RES_GROUP, |group| {
                    group.u16(NHA_RES_GROUP_BUCKETS, BUCKETS);
                });
            }
        }
        NexthopKind::Other => {}
    }
    request.attr(NHA_FDB, &[]);
    request
}

fn parse(payload: &[u8]) -> Option<Nexthop> {
    let of = |kind| attributes(payload, FIXED).find(|attribute| attribute.kind == kind);
    let mut nexthop = Nexthop::new(of(NHA_ID)?.u32()?, NexthopKind::Other);
    nexthop.protocol = *payload.get(2)?;
    if of(NHA_FDB).is_none() {
        return Some(nexthop);
    }
    if let Some(group) = of(NHA_GROUP) {
        let member = |bytes: &[u8]| {
            let id = crate::codec::u32_at(bytes, 0)?;
            (u16_at(bytes, 4)? == 0).then_some(id)
        };
        let members: Option<Vec<u32>> = group.value.chunks_exact(8).map(member).collect();
        if let Some(mut members) = members {
            members.sort_unstable();
            let kind = of(NHA_GROUP_TYPE).and_then(|kind| kind.u16());
            let resilient = kind == Some(GROUP_RESILIENT);
            nexthop.kind = NexthopKind::FdbGroup { members, resilient };
        }
    } else if let Some(address) = of(NHA_GATEWAY).and_then(|gateway| gateway.ip()) {
        nexthop.kind = NexthopKind::Fdb(address);
    }
    Some(nexthop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_is_known_by_its_release() {
        for (release, support) in [
            ("6.18.44-fc", GroupSupport::Resilient),
            ("5.13.0", GroupSupport::Resilient),
            ("5.12.19-generic", GroupSupport::Plain),
            ("5.4.0-1", GroupSupport::None),
            ("odd", GroupSupport::None),
        ] {
            assert_eq!(GroupSupport::of_release(release), support, "{release}");
        }
    }
}
