//! `RTM_NEWLINK` as a [`Link`].

use super::{
    ADDR_GEN_NONE, DEVCONF_FORWARDING, DEVCONF_RP_FILTER, IFLA_INET_CONF, IFLA_INET6_ADDR_GEN_MODE,
    IFLA_INFO_DATA, IFLA_INFO_KIND, Link, LinkKind, Vxlan,
};
use crate::codec::{Attribute, attributes, u32_at};

const FIXED: usize = 16;

pub(super) fn link(payload: &[u8]) -> Option<Link> {
    let index = u32_at(payload, 4)?;
    let flags = u32_at(payload, 8)?;
    let mut link = Link {
        index,
        name: String::new(),
        mac: None,
        mtu: 0,
        queue: 0,
        up: flags & libc::IFF_UP as u32 != 0,
        master: None,
        kind: LinkKind::Plain,
        forwarding: None,
        rp_filter: None,
        ipv6_addresses_off: None,
    };
    for attribute in attributes(payload, FIXED) {
        match attribute.kind {
            libc::IFLA_IFNAME => link.name = attribute.text(),
            libc::IFLA_ADDRESS => link.mac = attribute.mac(),
            libc::IFLA_MTU => link.mtu = attribute.u32()?,
            libc::IFLA_TXQLEN => link.queue = attribute.u32()?,
            libc::IFLA_MASTER => link.master = attribute.u32(),
            libc::IFLA_LINKINFO => link.kind = kind(&attribute),
            libc::IFLA_AF_SPEC => families(&attribute, &mut link),
            _ => {}
        }
    }
    Some(link)
}

fn kind(info: &Attribute<'_>) -> LinkKind {
    let of = |kind| info.nested().find(|attribute| attribute.kind == kind);
    let name = of(IFLA_INFO_KIND).map(|attribute| attribute.text()).unwrap_or_default();
    match name.as_str() {
        "" => LinkKind::Plain,
        "bridge" => LinkKind::Bridge,
        "vxlan" => of(IFLA_INFO_DATA)
            .and_then(|data| Vxlan::parse(data.nested()))
            .map_or(LinkKind::Software(name), LinkKind::Vxlan),
        _ => LinkKind::Software(name),
    }
}

fn families(spec: &Attribute<'_>, link: &mut Link) {
    for family in spec.nested() {
        match i32::from(family.kind) {
            libc::AF_INET => {
                let conf = family.nested().find(|attribute| attribute.kind == IFLA_INET_CONF);
                let at = |n: u16| conf.and_then(|c| u32_at(c.value, (usize::from(n) - 1) * 4));
                link.forwarding = at(DEVCONF_FORWARDING).map(|value| value != 0);
                link.rp_filter = at(DEVCONF_RP_FILTER);
            }
            libc::AF_INET6 => {
                let mode = family.nested().find(|a| a.kind == IFLA_INET6_ADDR_GEN_MODE);
                link.ipv6_addresses_off = mode.and_then(|m| m.u8()).map(|m| m == ADDR_GEN_NONE);
            }
            _ => {}
        }
    }
}
