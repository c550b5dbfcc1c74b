//! Addresses on devices.

use std::net::IpAddr;

use crate::codec::{Request, attributes, family, u32_at};
use crate::error::NetlinkError;
use crate::socket::Netlink;

const FIXED: usize = 8;

/// The kernel does not ask around whether somebody else has the address: ours are nobody else's, and one that is still
/// asked for can be no route's source.
const IFA_F_NODAD: u8 = 0x02;

/// An address on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// Number of the device.
    pub link: u32,
    /// The address.
    pub address: IpAddr,
    /// Length of its subnet in bits.
    pub length: u8,
}

impl Netlink {
    /// All addresses of all devices.
    pub fn addresses(&mut self) -> Result<Vec<Address>, NetlinkError> {
        let request = || Request::new(libc::RTM_GETADDR, libc::NLM_F_DUMP, &[0; FIXED]);
        self.dump("addresses", request, parse)
    }

    /// Gives the device these addresses and no others (IPv6 link-local ones aside). Returns how much
    /// was written.
    pub fn sync_addresses(
        &mut self,
        link: u32,
        wanted: &[(IpAddr, u8)],
    ) -> Result<usize, NetlinkError> {
        let before = self.writes();
        let held: Vec<_> = self.addresses()?.into_iter().filter(|held| held.link == link).collect();
        let wanted: Vec<_> = wanted
            .iter()
            .map(|(address, length)| Address { link, address: *address, length: *length })
            .collect();
        for missing in wanted.iter().filter(|address| !held.contains(address)) {
            let flags = libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL;
            self.change_address(libc::RTM_NEWADDR, flags, missing, "add")?;
        }
        let extra = |held: &&Address| !wanted.contains(held) && !is_link_local(held.address);
        for extra in held.iter().filter(extra) {
            self.change_address(libc::RTM_DELADDR, libc::NLM_F_ACK, extra, "delete")?;
        }
        Ok((self.writes() - before) as usize)
    }

    fn change_address(
        &mut self,
        kind: u16,
        flags: i32,
        address: &Address,
        verb: &str,
    ) -> Result<(), NetlinkError> {
        let mut fixed = [0; FIXED];
        fixed[0] = family(address.address);
        fixed[1] = address.length;
        fixed[2] = if address.address.is_ipv6() { IFA_F_NODAD } else { 0 };
        fixed[4..8].copy_from_slice(&address.link.to_ne_bytes());
        let mut request = Request::new(kind, flags, &fixed);
        request.ip(libc::IFA_LOCAL, address.address).ip(libc::IFA_ADDRESS, address.address);
        let Address { link, address, length } = address;
        self.write(request, || format!("{verb} address {address}/{length} on link number {link}"))
    }
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

fn parse(payload: &[u8]) -> Option<Address> {
    let length = *payload.get(1)?;
    let link = u32_at(payload, 4)?;
    let of = |kind| attributes(payload, FIXED).find(|a| a.kind == kind).and_then(|a| a.ip());
    // On point-to-point links IFA_ADDRESS is the other end.
    let address = of(libc::IFA_LOCAL).or_else(|| of(libc::IFA_ADDRESS))?;
    Some(Address { link, address, length })
}
