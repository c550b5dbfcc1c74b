//! Bridges that others made: behind which port an address is now, as far as the bridge has learned.

use std::net::IpAddr;

use carrick_model::Mac;

use crate::codec::{Request, attributes, u16_at, u32_at};
use crate::error::NetlinkError;
use crate::link::{Link, LinkKind};
use crate::neighbour::{FIXED, NDA_DST, NDA_LLADDR, NUD_PERMANENT, header};
use crate::socket::Netlink;

const AF_BRIDGE: u8 = 7;
const NDA_MASTER: u16 = 9;

/// A way over a bridge.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BridgePort {
    /// Name of the bridge.
    pub bridge: String,
    /// Name of the port's device.
    pub port: String,
}

impl Netlink {
    /// The port that frames to `address` leave by, if this host reaches it over a bridge and the port is one
    /// end of a virtual cable (veth), so that nobody but the address's owner is behind it. `None` also while
    /// the bridge has not heard of the address, which may change without notice.
    pub fn bridge_port_to(
        &mut self,
        address: IpAddr,
        links: &[Link],
    ) -> Result<Option<BridgePort>, NetlinkError> {
        let of = |index| links.iter().find(|link| link.index == index);
        let Some(route) = self.look_up(address)?.filter(|route| route.gateway.is_none()) else {
            return Ok(None);
        };
        let bridge = route.link.and_then(of).filter(|link| link.kind == LinkKind::Bridge);
        let Some(bridge) = bridge else { return Ok(None) };
        let Some(mac) = self.mac_of(address, bridge.index)? else { return Ok(None) };
        let port = self.port_towards(mac, bridge.index)?.and_then(of).filter(|port| {
            port.master == Some(bridge.index) && port.kind == LinkKind::Software("veth".to_owned())
        });
        let (bridge, port) = (&bridge.name, port.map(|port| &port.name));
        Ok(port.map(|port| BridgePort { bridge: bridge.clone(), port: port.clone() }))
    }

    /// The Ethernet address of a neighbour, while the kernel knows it.
    fn mac_of(&mut self, address: IpAddr, link: u32) -> Result<Option<Mac>, NetlinkError> {
        let request = || {
            let mut request = Request::new(libc::RTM_GETNEIGH, libc::NLM_F_DUMP, &[0; FIXED]);
            request.u32(crate::neighbour::NDA_IFINDEX, link);
            request
        };
        let found = self.dump("neighbours", request, |payload| {
            let of = |kind| attributes(payload, FIXED).find(|attribute| attribute.kind == kind);
            let is_it = u32_at(payload, 4)? == link && of(NDA_DST)?.ip()? == address;
            if is_it { of(NDA_LLADDR)?.mac() } else { None }
        })?;
        Ok(found.first().copied())
    }

    /// The number of the port from which a bridge has heard of `mac`.
    fn port_towards(&mut self, mac: Mac, bridge: u32) -> Result<Option<u32>, NetlinkError> {
        let request = || {
            let fixed = header(AF_BRIDGE, 0, 0, 0);
            let mut request = Request::new(libc::RTM_GETNEIGH, libc::NLM_F_DUMP, &fixed);
            request.u32(NDA_MASTER, bridge);
            request
        };
        let found = self.dump("forwarding database", request, |payload| {
            let of = |kind| attributes(payload, FIXED).find(|attribute| attribute.kind == kind);
            // A permanent entry is the port's own address.
            let learned = u16_at(payload, 8)? & NUD_PERMANENT == 0
                && of(NDA_MASTER)?.u32()? == bridge
                && of(NDA_LLADDR)?.mac()? == mac;
            if learned { u32_at(payload, 4) } else { None }
        })?;
        Ok(found.first().copied())
    }
}
