//! Ports of a bridge.

use super::header;
use crate::codec::{Attribute, Request, attributes, u32_at};
use crate::error::NetlinkError;
use crate::socket::Netlink;

const FIXED: usize = 16;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const IFLA_INFO_SLAVE_DATA: u16 = 5;
const IFLA_BRPORT_LEARNING: u16 = 8;

/// A port as the kernel has it.
struct Port {
    index: u32,
    name: String,
    learning: Option<u8>,
}

impl Netlink {
    /// Whether a bridge learns source addresses from this port of it. Without learning, it hands every
    /// frame to all other ports, and no sender can draw another's frames to itself. Returns how much
    /// was written.
    pub fn ensure_learning(&mut self, name: &str, learning: bool) -> Result<usize, NetlinkError> {
        let request = || Request::new(libc::RTM_GETLINK, libc::NLM_F_DUMP, &header(0, 0, 0));
        let ports = self.dump("links", request, parse)?;
        let port = ports.into_iter().find(|port| port.name == name);
        let Some(port) = port else {
            return Err(NetlinkError::NoLink { name: name.to_owned() });
        };
        if port.learning == Some(learning.into()) {
            return Ok(0);
        }
        // The kernel changes ports by RTM_NEWLINK only.
        let fixed = header(port.index, 0, 0);
        let mut request = Request::new(libc::RTM_NEWLINK, libc::NLM_F_ACK, &fixed);
        request.nest(libc::IFLA_LINKINFO, |info| {
            info.text(IFLA_INFO_SLAVE_KIND, "bridge");
            info.nest(IFLA_INFO_SLAVE_DATA, |data| {
                data.u8(IFLA_BRPORT_LEARNING, learning.into());
            });
        });
        self.write(request, || format!("set learning of bridge port {name} to {learning}"))?;
        Ok(1)
    }
}

fn parse(payload: &[u8]) -> Option<Port> {
    let of = |kind| attributes(payload, FIXED).find(|attribute| attribute.kind == kind);
    let name = of(libc::IFLA_IFNAME)?.text();
    let learning = of(libc::IFLA_LINKINFO).and_then(|info| learning(&info));
    Some(Port { index: u32_at(payload, 4)?, name, learning })
}

fn learning(info: &Attribute<'_>) -> Option<u8> {
    let of = |kind| info.nested().find(|attribute| attribute.kind == kind);
    if of(IFLA_INFO_SLAVE_KIND)?.text() != "bridge" {
        return None;
    }
    let data = of(IFLA_INFO_SLAVE_DATA)?;
    data.nested().find(|attribute| attribute.kind == IFLA_BRPORT_LEARNING)?.u8()
}
