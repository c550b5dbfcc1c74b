//! The forwarding database of a VXLAN device: which outer address an inner Ethernet address is behind.

use std::net::IpAddr;

use carrick_model::Mac;

use crate::codec::{Request, attributes, u32_at};
use crate::error::NetlinkError;
use crate::neighbour::{FIXED, NDA_DST, NDA_LLADDR, NUD_NOARP, NUD_PERMANENT, header};
use crate::socket::Netlink;

const AF_BRIDGE: u8 = 7;
const NTF_SELF: u8 = 2;
const NDA_NH_ID: u16 = 13;

/// Where frames to an Ethernet address go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FdbTarget {
    /// To this outer address.
    Address(IpAddr),
    /// To the FDB next hop (usually a group) of this number.
    Nexthop(u32),
}

/// An entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FdbEntry {
    /// Inner destination.
    pub mac: Mac,
    /// Where it goes.
    pub target: FdbTarget,
}

impl Netlink {
    /// The entries of a VXLAN device.
    pub fn fdb(&mut self, link: u32) -> Result<Vec<FdbEntry>, NetlinkError> {
        let fixed = header(AF_BRIDGE, link, 0, 0);
        let request = || Request::new(libc::RTM_GETNEIGH, libc::NLM_F_DUMP, &fixed);
        self.dump("forwarding database", request, |payload| parse(payload, link))
    }

    /// Makes these the only entries of a VXLAN device; one a [`Mac`]. Returns how much was written.
    pub fn sync_fdb(&mut self, link: u32, wanted: &[FdbEntry]) -> Result<usize, NetlinkError> {
        let before = self.writes();
        let held = self.fdb(link)?;
        for entry in held.iter().filter(|entry| must_go(entry, wanted)) {
            self.delete_fdb(link, entry)?;
        }
        for entry in wanted.iter().filter(|entry| !held.contains(entry)) {
            let flags = libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
            let fixed = header(AF_BRIDGE, link, NUD_PERMANENT | NUD_NOARP, NTF_SELF);
            let mut request = Request::new(libc::RTM_NEWNEIGH, flags, &fixed);
            fill(&mut request, entry);
            self.write(request, || format!("set FDB entry {} to {:?}", entry.mac, entry.target))?;
        }
        Ok((self.writes() - before) as usize)
    }

    fn delete_fdb(&mut self, link: u32, entry: &FdbEntry) -> Result<(), NetlinkError> {
        let fixed = header(AF_BRIDGE, link, 0, NTF_SELF);
        let mut request = Request::new(libc::RTM_DELNEIGH, libc::NLM_F_ACK, &fixed);
        fill(&mut request, entry);
        match self.write(request, || format!("delete FDB entry {}", entry.mac)) {
            Err(error) if error.errno() == Some(libc::ENOENT) => Ok(()),
            other => other,
        }
    }
}

/// What is not wanted, and what the kernel cannot replace: it keeps addresses and next hops apart.
fn must_go(held: &FdbEntry, wanted: &[FdbEntry]) -> bool {
    let nexthop = |target| matches!(target, FdbTarget::Nexthop(_));
    match wanted.iter().find(|entry| entry.mac == held.mac) {
        Some(entry) => nexthop(entry.target) != nexthop(held.target),
        None => true,
    }
}

fn fill(request: &mut Request, entry: &FdbEntry) {
    request.attr(NDA_LLADDR, &entry.mac.0);
    match entry.target {
        FdbTarget::Address(address) => request.ip(NDA_DST, address),
        FdbTarget::Nexthop(id) => request.u32(NDA_NH_ID, id),
    };
}

fn parse(payload: &[u8], link: u32) -> Option<FdbEntry> {
    // Bridges answer with entries of theirs for the same device.
    if u32_at(payload, 4)? != link || payload.get(10)? & NTF_SELF == 0 {
        return None;
    }
    let of = |kind| attributes(payload, FIXED).find(|attribute| attribute.kind == kind);
    let target = match of(NDA_NH_ID) {
        Some(id) => FdbTarget::Nexthop(id.u32()?),
        None => FdbTarget::Address(of(NDA_DST)?.ip()?),
    };
    Some(FdbEntry { mac: of(NDA_LLADDR)?.mac()?, target })
}
