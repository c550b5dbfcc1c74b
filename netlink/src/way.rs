//! How packets to an address leave this host now: what a route look-up says, learned path MTUs included.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::codec::{Request, family};
use crate::error::NetlinkError;
use crate::route::{self, RouteKind};
use crate::socket::Netlink;

/// How packets to one address leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Way {
    /// Number of the device.
    pub link: u32,
    /// Next hop; `None` when the address is on the link.
    pub gateway: Option<IpAddr>,
    /// Source address that the kernel would choose.
    pub source: Option<IpAddr>,
    /// Largest packet in bytes: the device's, the route's, or what ICMP said of the path in the last
    /// minutes, whichever is least.
    pub mtu: u32,
}

impl Netlink {
    /// The way to each of these addresses; those that none leads to are left out.
    pub fn ways_to(
        &mut self,
        addresses: &BTreeSet<IpAddr>,
    ) -> Result<BTreeMap<IpAddr, Way>, NetlinkError> {
        if addresses.is_empty() {
            return Ok(BTreeMap::new());
        }
        let links = self.links()?;
        let mut ways = BTreeMap::new();
        for address in addresses {
            let Some(route) = self.look_up(*address)? else { continue };
            let Some(link) = links.iter().find(|link| Some(link.index) == route.link) else {
                continue;
            };
            let mtu = route.mtu.map_or(link.mtu, |mtu| mtu.min(link.mtu));
            let (gateway, source) = (route.gateway, route.source);
            ways.insert(*address, Way { link: link.index, gateway, source, mtu });
        }
        Ok(ways)
    }

    /// The route that a packet of this host to `address` would take; `None` when none leads there.
    pub(crate) fn look_up(
        &mut self,
        address: IpAddr,
    ) -> Result<Option<route::Route>, NetlinkError> {
        let mut fixed = [0; route::FIXED];
        fixed[0] = family(address);
        fixed[1] = if address.is_ipv4() { 32 } else { 128 };
        let mut request = Request::new(libc::RTM_GETROUTE, 0, &fixed);
        request.ip(libc::RTA_DST, address);
        let found = self.ask(request, || format!("route to {address}"), route::parse);
        match found {
            Ok(route) => Ok(route.filter(|route| route.kind == RouteKind::Unicast)),
            Err(error) if error.errno().is_some_and(leads_nowhere) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn leads_nowhere(errno: i32) -> bool {
    matches!(
        errno,
        libc::ENETUNREACH
            | libc::EHOSTUNREACH
            | libc::EACCES
            | libc::EINVAL
            | libc::EAFNOSUPPORT
            | libc::EOPNOTSUPP
    )
}
