//! A way around the CNI's bridge for what nodes send to a gateway of this node.
//!
//! Linux cuts large packets inside VXLAN before they enter a bridge, because a bridge cannot be asked whether
//! its ports would take them whole. Each then goes by itself over the bridge, the cable and the gateway's
//! own VXLAN, which is most of what pod to pod costs. What is about to enter the bridge for a gateway is
//! therefore handed to the gateway's port at once, uncut. Routing, filters and the neighbour's Ethernet
//! address are behind it by then. Where the kernel cannot do that (before Linux 5.17), or where pods are not
//! behind a bridge, packets go as they went.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::IpAddr;

use carrick_netlink::{BridgePort, Netlink, NetlinkError, Nft, NftBody, NftError};

/// Our nft table of devices' chains: `netdev carrick`.
const TABLE: &str = "carrick";

/// Where each gateway is behind a bridge.
type Ports = BTreeMap<IpAddr, BridgePort>;

/// The shortcuts on this node.
#[derive(Debug)]
pub struct Shortcuts {
    nft: Nft,
    /// What was made last; `None` when that is not known: a former agent's may stand.
    made: Option<Ports>,
    /// What was in the way last.
    obstacle: Option<String>,
}

/// Why there are none. Packets then go as they always did.
#[derive(Debug, thiserror::Error)]
enum Obstacle {
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    #[error(transparent)]
    Nft(#[from] NftError),
}

impl Shortcuts {
    /// None yet.
    pub fn new() -> Self {
        Self { nft: Nft::netdev(TABLE), made: None, obstacle: None }
    }

    /// How many gateways are reached past a bridge.
    pub fn count(&self) -> usize {
        self.made.as_ref().map_or(0, Ports::len)
    }

    /// Whether the gateway with this outer address is.
    pub fn leads_to(&self, gateway: IpAddr) -> bool {
        self.made.as_ref().is_some_and(|made| made.contains_key(&gateway))
    }

    /// Makes those to these gateways as bridges know them now, for UDP to `port`, and no others. Whether the
    /// kernel still has them is seen if `full`. What is in the way is logged once and is no failure. Returns
    /// how much was written.
    pub fn sync(
        &mut self,
        netlink: &mut Netlink,
        gateways: &[IpAddr],
        port: u16,
        full: bool,
    ) -> usize {
        if self.obstacle.is_some() && !full {
            return 0;
        }
        let synced = self.try_sync(netlink, gateways, port, full);
        let obstacle = synced.as_ref().err().map(Obstacle::to_string);
        if let Some(obstacle) = obstacle.as_ref().filter(|new| self.obstacle.as_ref() != Some(new))
        {
            tracing::warn!(obstacle, "what nodes send to gateways here is cut at the bridge");
        }
        self.obstacle = obstacle;
        synced.unwrap_or(0)
    }

    fn try_sync(
        &mut self,
        netlink: &mut Netlink,
        gateways: &[IpAddr],
        port: u16,
        full: bool,
    ) -> Result<usize, Obstacle> {
        let ports = find(netlink, gateways)?;
        let known = self.made.as_ref() == Some(&ports);
        if known && (ports.is_empty() || !full) {
            return Ok(0);
        }
        self.made = None;
        let writes = match ports.is_empty() {
            true => self.nft.delete()?,
            false => {
                let chains = render(&ports, port);
                self.nft.sync(&NftBody { sets: String::new(), chains })?
            }
        };
        if writes > 0 {
            tracing::info!(?ports, "gateways here are reached past the bridge");
        }
        self.made = Some(ports);
        Ok(writes)
    }
}

impl Default for Shortcuts {
    fn default() -> Self {
        Self::new()
    }
}

fn find(netlink: &mut Netlink, gateways: &[IpAddr]) -> Result<Ports, NetlinkError> {
    if gateways.is_empty() {
        return Ok(Ports::new());
    }
    let links = netlink.links()?;
    let mut ports = Ports::new();
    for gateway in gateways {
        let found = netlink.bridge_port_to(*gateway, &links)?;
        ports.extend(found.filter(has_plain_names).map(|port| (*gateway, port)));
    }
    Ok(ports)
}

/// Whether both names can be written in nft's language.
fn has_plain_names(port: &BridgePort) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    [&port.bridge, &port.port].into_iter().all(|name| name.chars().all(plain))
}

/// One chain a bridge.
fn render(ports: &Ports, port: u16) -> String {
    let bridges: BTreeSet<&str> = ports.values().map(|port| port.bridge.as_str()).collect();
    let mut text = String::new();
    for (number, bridge) in bridges.into_iter().enumerate() {
        let _ = writeln!(text, "chain shortcut{number} {{");
        let _ = writeln!(
            text,
            "  type filter hook egress device \"{bridge}\" priority filter; policy accept;"
        );
        for (address, to) in ports.iter().filter(|(_, to)| to.bridge == bridge) {
            let family = if address.is_ipv4() { "ip" } else { "ip6" };
            let to = &to.port;
            let _ = writeln!(text, "  {family} daddr {address} udp dport {port} fwd to \"{to}\"");
        }
        let _ = writeln!(text, "}}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(bridge: &str, port: &str) -> BridgePort {
        BridgePort { bridge: bridge.to_owned(), port: port.to_owned() }
    }

    #[test]
    fn each_bridge_has_a_chain_with_the_gateways_behind_it() {
        let address = |text: &str| text.parse::<IpAddr>().expect(text);
        let ports = Ports::from([
            (address("10.1.0.5"), port("cni0", "veth5")),
            (address("fd00::5"), port("cni0", "veth5")),
            (address("10.9.0.6"), port("other", "veth6")),
        ]);
        let text = render(&ports, 7789);
        assert_eq!(text.matches("hook egress").count(), 2, "{text}");
        assert!(text.contains("  ip daddr 10.1.0.5 udp dport 7789 fwd to \"veth5\"\n"), "{text}");
        assert!(text.contains("  ip6 daddr fd00::5 udp dport 7789 fwd to \"veth5\"\n"), "{text}");
    }

    #[test]
    fn names_that_nft_would_misread_are_left_out() {
        assert!(has_plain_names(&port("br-1.2", "veth_3")));
        for name in ["x\"y", "x y", "x;y", "x{"] {
            assert!(!has_plain_names(&port("cni0", name)), "{name}");
        }
    }
}
