//! What a VXLAN device is made with; none of it can be changed later.

use std::net::IpAddr;

use crate::codec::{Attribute, Request};

const ID: u16 = 1;
const LOCAL: u16 = 4;
const LEARNING: u16 = 7;
const PORT: u16 = 15;
const LOCAL6: u16 = 17;
const DF: u16 = 29;
const DF_SET: u8 = 1;

/// A VXLAN tunnel end (RFC 7348) without learning and with the outer don't-fragment flag set: the
/// kernel's default would fragment in silence, and a full-size probe would pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Vxlan {
    /// Network identifier, 1–16777215.
    pub vni: u32,
    /// UDP port.
    pub port: u16,
    /// Outer source address.
    pub local: IpAddr,
}

impl Vxlan {
    pub(super) fn fill(&self, data: &mut Request) {
        data.u32(ID, self.vni)
            .ip(if self.local.is_ipv4() { LOCAL } else { LOCAL6 }, self.local)
            .attr(PORT, &self.port.to_be_bytes())
            .u8(LEARNING, 0)
            .u8(DF, DF_SET);
    }

    /// `None` for one that is set in another way than we do: it equals none of ours.
    pub(super) fn parse<'a>(attributes: impl Iterator<Item = Attribute<'a>>) -> Option<Self> {
        let (mut vni, mut port, mut local) = (None, None, None);
        let (mut learning, mut df) = (None, None);
        for attribute in attributes {
            match attribute.kind {
                ID => vni = attribute.u32(),
                LOCAL | LOCAL6 => local = attribute.ip(),
                PORT => port = attribute.u16().map(u16::from_be),
                LEARNING => learning = attribute.u8(),
                DF => df = attribute.u8(),
                _ => {}
            }
        }
        (learning == Some(0) && df == Some(DF_SET)).then_some(Self {
            vni: vni?,
            port: port?,
            local: local?,
        })
    }
}
