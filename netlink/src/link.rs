//! Network devices: VXLAN, bridge, and settings of any.

mod parse;
mod port;
mod vxlan;

use carrick_model::Mac;

pub use vxlan::Vxlan;

use crate::codec::Request;
use crate::error::NetlinkError;
use crate::socket::Netlink;

/// `IPV4_DEVCONF_FORWARDING`.
pub(crate) const DEVCONF_FORWARDING: u16 = 1;
/// `IPV4_DEVCONF_RP_FILTER`.
pub(crate) const DEVCONF_RP_FILTER: u16 = 8;

pub(crate) const IFLA_INFO_KIND: u16 = 1;
pub(crate) const IFLA_INFO_DATA: u16 = 2;
pub(crate) const IFLA_INET_CONF: u16 = 1;
pub(crate) const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
pub(crate) const ADDR_GEN_NONE: u8 = 1;

/// A network device as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its Ethernet address, if it is an Ethernet device.
    pub mac: Option<Mac>,
    /// Largest packet in bytes.
    pub mtu: u32,
    /// How many packets wait for the device, or for who reads a TAP or TUN, at most.
    pub queue: u32,
    /// Administratively up.
    pub up: bool,
    /// Number of the bridge that it is a port of.
    pub master: Option<u32>,
    /// What it is.
    pub kind: LinkKind,
    /// IPv4 forwarding from it (`None` when the device has no IPv4).
    pub forwarding: Option<bool>,
    /// IPv4 reverse-path filter: 0 off, 1 strict, 2 loose.
    pub rp_filter: Option<u32>,
    /// The kernel makes no IPv6 link-local address for it. `None` when there is no IPv6.
    pub ipv6_addresses_off: Option<bool>,
}

/// What a device is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkKind {
    /// A VXLAN tunnel end.
    Vxlan(Vxlan),
    /// A bridge.
    Bridge,
    /// Another software device, by its kernel name (`veth`, `tun`, `dummy`, ...).
    Software(String),
    /// A device without a kind: hardware, loopback.
    Plain,
}

impl LinkKind {
    /// Whether it is a VXLAN tunnel end, set in whatever way.
    pub fn is_vxlan(&self) -> bool {
        self.name() == "vxlan"
    }

    fn name(&self) -> &str {
        match self {
            Self::Vxlan(_) => "vxlan",
            Self::Bridge => "bridge",
            Self::Software(name) => name,
            Self::Plain => "plain",
        }
    }
}

/// How a device should be set; `None` leaves what there is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LinkSettings {
    /// Ethernet address.
    pub mac: Option<Mac>,
    /// Largest packet in bytes.
    pub mtu: Option<u32>,
    /// How many packets wait for the device, or for who reads a TAP or TUN, at most.
    pub queue: Option<u32>,
    /// Administratively up or down.
    pub up: Option<bool>,
    /// Port of this bridge (`Some(0)`: of none).
    pub master: Option<u32>,
    /// IPv4 forwarding from it.
    pub forwarding: Option<bool>,
    /// IPv4 reverse-path filter: 0 off, 1 strict, 2 loose. The kernel takes the larger of this and
    /// `all`.
    pub rp_filter: Option<u32>,
    /// Whether the kernel leaves it without IPv6 link-local address.
    pub ipv6_addresses_off: Option<bool>,
}

impl Netlink {
    /// All devices.
    pub fn links(&mut self) -> Result<Vec<Link>, NetlinkError> {
        let request = || Request::new(libc::RTM_GETLINK, libc::NLM_F_DUMP, &header(0, 0, 0));
        self.dump("links", request, parse::link)
    }

    /// The device of this name.
    pub fn link(&mut self, name: &str) -> Result<Option<Link>, NetlinkError> {
        Ok(self.links()?.into_iter().find(|link| link.name == name))
    }

    /// Makes the device a VXLAN with these parameters and settings, anew if it differs in what cannot
    /// be changed. Returns the device and how much was written.
    pub fn ensure_vxlan(
        &mut self,
        name: &str,
        vxlan: &Vxlan,
        settings: &LinkSettings,
    ) -> Result<(Link, usize), NetlinkError> {
        self.ensure(name, &LinkKind::Vxlan(*vxlan), settings)
    }

    /// Makes the device a bridge with these settings.
    pub fn ensure_bridge(
        &mut self,
        name: &str,
        settings: &LinkSettings,
    ) -> Result<(Link, usize), NetlinkError> {
        self.ensure(name, &LinkKind::Bridge, settings)
    }

    fn ensure(
        &mut self,
        name: &str,
        kind: &LinkKind,
        settings: &LinkSettings,
    ) -> Result<(Link, usize), NetlinkError> {
        let before = self.writes();
        match self.link(name)? {
            Some(link) if link.kind == *kind => {}
            Some(link) if link.kind.name() == kind.name() => {
                self.delete_link(&link)?;
                self.add_link(name, kind, settings)?;
            }
            Some(link) => {
                let what = format!("link {name} ({})", link.kind.name());
                return Err(NetlinkError::Foreign { what });
            }
            None => self.add_link(name, kind, settings)?,
        }
        self.ensure_settings(name, settings)?;
        let link =
            self.link(name)?.ok_or_else(|| NetlinkError::NoLink { name: name.to_owned() })?;
        Ok((link, (self.writes() - before) as usize))
    }

    /// Sets what differs on an existing device of any kind. Returns how much was written.
    pub fn ensure_settings(
        &mut self,
        name: &str,
        settings: &LinkSettings,
    ) -> Result<usize, NetlinkError> {
        let no_link = || NetlinkError::NoLink { name: name.to_owned() };
        let link = self.link(name)?.ok_or_else(no_link)?;
        let differing = settings.differing(&link);
        if differing == LinkSettings::default() {
            return Ok(0);
        }
        let (flags, mask) = up_flags(differing.up);
        let fixed = header(link.index, flags, mask);
        let mut request = Request::new(libc::RTM_SETLINK, libc::NLM_F_ACK, &fixed);
        differing.fill(&mut request);
        self.write(request, || format!("set link {name} to {differing:?}"))?;
        Ok(1)
    }

    /// Removes a device.
    pub fn delete_link(&mut self, link: &Link) -> Result<(), NetlinkError> {
        let request = Request::new(libc::RTM_DELLINK, libc::NLM_F_ACK, &header(link.index, 0, 0));
        self.write(request, || format!("delete link {}", link.name))
    }

    fn add_link(
        &mut self,
        name: &str,
        kind: &LinkKind,
        settings: &LinkSettings,
    ) -> Result<(), NetlinkError> {
        let flags = libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL;
        let mut request = Request::new(libc::RTM_NEWLINK, flags, &header(0, 0, 0));
        request.text(libc::IFLA_IFNAME, name);
        if let Some(mac) = settings.mac {
            request.attr(libc::IFLA_ADDRESS, &mac.0);
        }
        if let Some(mtu) = settings.mtu {
            request.u32(libc::IFLA_MTU, mtu);
        }
        request.nest(libc::IFLA_LINKINFO, |info| {
            info.text(IFLA_INFO_KIND, kind.name());
            if let LinkKind::Vxlan(vxlan) = kind {
                info.nest(IFLA_INFO_DATA, |data| vxlan.fill(data));
            }
        });
        self.write(request, || format!("add {} link {name}", kind.name()))
    }
}

impl LinkSettings {
    /// What of these is not so on `link`.
    fn differing(&self, link: &Link) -> Self {
        fn unless<T: PartialEq>(wanted: Option<T>, is: Option<T>) -> Option<T> {
            if wanted == is { None } else { wanted }
        }
        Self {
            mac: unless(self.mac, link.mac),
            mtu: unless(self.mtu, Some(link.mtu)),
            queue: unless(self.queue, Some(link.queue)),
            up: unless(self.up, Some(link.up)),
            master: unless(self.master, Some(link.master.unwrap_or(0))),
            forwarding: unless(self.forwarding, link.forwarding),
            rp_filter: unless(self.rp_filter, link.rp_filter),
            // Without IPv6 there is nothing to switch off.
            ipv6_addresses_off: link
                .ipv6_addresses_off
                .and_then(|is| unless(self.ipv6_addresses_off, Some(is))),
        }
    }

    fn fill(&self, request: &mut Request) {
        if let Some(mac) = self.mac {
            request.attr(libc::IFLA_ADDRESS, &mac.0);
        }
        if let Some(mtu) = self.mtu {
            request.u32(libc::IFLA_MTU, mtu);
        }
        if let Some(queue) = self.queue {
            request.u32(libc::IFLA_TXQLEN, queue);
        }
        if let Some(master) = self.master {
            request.u32(libc::IFLA_MASTER, master);
        }
        if self.forwarding.is_none()
            && self.rp_filter.is_none()
            && self.ipv6_addresses_off.is_none()
        {
            return;
        }
        request.nest(libc::IFLA_AF_SPEC, |spec| {
            if self.forwarding.is_some() || self.rp_filter.is_some() {
                spec.nest(libc::AF_INET as u16, |inet| {
                    inet.nest(IFLA_INET_CONF, |conf| {
                        if let Some(forwarding) = self.forwarding {
                            conf.u32(DEVCONF_FORWARDING, forwarding.into());
                        }
                        if let Some(rp_filter) = self.rp_filter {
                            conf.u32(DEVCONF_RP_FILTER, rp_filter);
                        }
                    });
                });
            }
            if let Some(off) = self.ipv6_addresses_off {
                let mode = if off { ADDR_GEN_NONE } else { 0 };
                spec.nest(libc::AF_INET6 as u16, |inet6| {
                    inet6.u8(IFLA_INET6_ADDR_GEN_MODE, mode);
                });
            }
        });
    }
}

fn up_flags(up: Option<bool>) -> (u32, u32) {
    let bit = libc::IFF_UP as u32;
    match up {
        Some(true) => (bit, bit),
        Some(false) => (0, bit),
        None => (0, 0),
    }
}

/// `struct ifinfomsg`.
fn header(index: u32, flags: u32, mask: u32) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes[8..12].copy_from_slice(&flags.to_ne_bytes());
    bytes[12..16].copy_from_slice(&mask.to_ne_bytes());
    bytes
}
