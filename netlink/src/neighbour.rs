//! Permanent neighbours: next hops whose Ethernet address nobody has to ask for.

use std::net::IpAddr;

use carrick_model::Mac;

use crate::codec::{Request, attributes, family, u16_at, u32_at};
use crate::error::NetlinkError;
use crate::socket::Netlink;

pub(crate) const FIXED: usize = 12;
pub(crate) const NDA_DST: u16 = 1;
pub(crate) const NDA_LLADDR: u16 = 2;
pub(crate) const NDA_IFINDEX: u16 = 8;
pub(crate) const NUD_NOARP: u16 = 0x40;
pub(crate) const NUD_PERMANENT: u16 = 0x80;

/// A permanent neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Neighbour {
    /// Its address.
    pub address: IpAddr,
    /// Its Ethernet address.
    pub mac: Mac,
}

impl Netlink {
    /// The permanent neighbours on a device.
    pub fn neighbours(&mut self, link: u32) -> Result<Vec<Neighbour>, NetlinkError> {
        let request = || {
            let mut request = Request::new(libc::RTM_GETNEIGH, libc::NLM_F_DUMP, &[0; FIXED]);
            request.u32(NDA_IFINDEX, link);
            request
        };
        self.dump("neighbours", request, |payload| parse(payload, link))
    }

    /// Makes these the only permanent neighbours on a device. Returns how much was written.
    pub fn sync_neighbours(
        &mut self,
        link: u32,
        wanted: &[Neighbour],
    ) -> Result<usize, NetlinkError> {
        let before = self.writes();
        let held = self.neighbours(link)?;
        for neighbour in wanted.iter().filter(|neighbour| !held.contains(neighbour)) {
            let flags = libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
            let fixed = header(family(neighbour.address), link, NUD_PERMANENT, 0);
            let mut request = Request::new(libc::RTM_NEWNEIGH, flags, &fixed);
            request.ip(NDA_DST, neighbour.address).attr(NDA_LLADDR, &neighbour.mac.0);
            self.write(request, || format!("set neighbour {}", neighbour.address))?;
        }
        let kept = |held: &Neighbour| wanted.iter().any(|n| n.address == held.address);
        for neighbour in held.iter().filter(|neighbour| !kept(neighbour)) {
            let fixed = header(family(neighbour.address), link, 0, 0);
            let mut request = Request::new(libc::RTM_DELNEIGH, libc::NLM_F_ACK, &fixed);
            request.ip(NDA_DST, neighbour.address);
            self.write(request, || format!("delete neighbour {}", neighbour.address))?;
        }
        Ok((self.writes() - before) as usize)
    }
}

/// `struct ndmsg`.
pub(crate) fn header(family: u8, link: u32, state: u16, flags: u8) -> [u8; FIXED] {
    let mut bytes = [0; FIXED];
    bytes[0] = family;
    bytes[4..8].copy_from_slice(&link.to_ne_bytes());
    bytes[8..10].copy_from_slice(&state.to_ne_bytes());
    bytes[10] = flags;
    bytes
}

/// `None` for one that is not permanent or not on the device.
fn parse(payload: &[u8], link: u32) -> Option<Neighbour> {
    if u32_at(payload, 4)? != link || u16_at(payload, 8)? & NUD_PERMANENT == 0 {
        return None;
    }
    let of = |kind| attributes(payload, FIXED).find(|attribute| attribute.kind == kind);
    Some(Neighbour { address: of(NDA_DST)?.ip()?, mac: of(NDA_LLADDR)?.mac()? })
}
