//! Routes to Carrick peers: what they have been accepted for leads to the device while a tunnel is up, and
//! behind it all that they may ever announce is unreachable, so that nothing leaves in clear.

use std::collections::BTreeSet;

use anyhow::Context as _;
use carrick_model::Prefix;
use carrick_netlink::{Netlink, PROTOCOL, Route, RouteKind, TABLE_MAIN};

use super::Config;
use super::config::CarrickPeer;
use crate::dataplane::{DataplaneStats, PeerForwarding};

/// Metric of the routes behind: any other route to the same destination goes before.
const FALLBACK_METRIC: u32 = 0xffff_0000;

/// Where mesh addresses are, of all clusters.
const MESH: &str = "240.0.0.0/4";

/// Sets routes, and remembers which.
#[derive(Debug, Default)]
pub(super) struct Routes {
    held: Vec<Route>,
}

impl Routes {
    /// Makes it so: what is missing is added before what is too much goes. A route that fails, since the
    /// host has one of its own there, keeps none of the others from being set; the next call tries again.
    pub fn apply(
        &mut self,
        file: &Config,
        carrick: &[PeerForwarding],
        stats: &DataplaneStats,
    ) -> anyhow::Result<()> {
        let mut netlink = Netlink::open()?;
        let name = &file.interface.name;
        let link =
            netlink.link(name)?.with_context(|| format!("the device {name} has vanished"))?;
        let wanted = wanted(file, carrick, stats, link.index);
        let gone: Vec<Route> =
            self.held.iter().filter(|route| !wanted.contains(route)).copied().collect();
        self.held = [wanted.clone(), gone.clone()].concat();
        let added = netlink.ensure_routes(&wanted);
        netlink.remove_routes(&gone)?;
        self.held = wanted;
        Ok(added.map(drop)?)
    }
}

/// Takes away what an earlier run has left: the routes behind.
pub(super) fn clean_up(file: &Config) -> anyhow::Result<usize> {
    let mut netlink = Netlink::open()?;
    let present = netlink.routes(TABLE_MAIN)?;
    let left: Vec<Route> =
        behind(file).into_iter().filter(|route| present.contains(route)).collect();
    netlink.remove_routes(&left)?;
    Ok(left.len())
}

fn wanted(
    file: &Config,
    carrick: &[PeerForwarding],
    stats: &DataplaneStats,
    link: u32,
) -> Vec<Route> {
    if !file.interface.routes {
        return Vec::new();
    }
    let is_up = |peer: &&PeerForwarding| {
        peer.tunnels.iter().any(|id| stats.tunnel(*id).is_some_and(|tunnel| tunnel.up))
    };
    let mut routes = behind(file);
    for peer in carrick.iter().filter(is_up) {
        let named = file.carrick_peers().find(|(_, named)| named.cluster == peer.cluster);
        let named = named.map(|(_, named)| named);
        routes.extend(peer.prefixes.iter().map(|prefix| through(file, named, *prefix, link)));
    }
    routes
}

/// What keeps everything in that a Carrick peer may announce.
fn behind(file: &Config) -> Vec<Route> {
    let accepted = file.carrick_peers().flat_map(|(_, peer)| peer.accept.iter().copied());
    let mut prefixes: BTreeSet<Prefix> = accepted.collect();
    if !prefixes.is_empty() {
        prefixes.extend(MESH.parse::<Prefix>());
    }
    prefixes.into_iter().map(|p| Route::unreachable(p, TABLE_MAIN, FALLBACK_METRIC)).collect()
}

/// A route into the device. What this host itself sends has a source that the peer takes, if we have one.
fn through(file: &Config, peer: Option<&CarrickPeer>, prefix: Prefix, link: u32) -> Route {
    let announced = peer.and_then(|peer| peer.announce.as_ref()).unwrap_or(&file.announce);
    let own = file.interface.addresses.iter().map(|net| net.addr());
    let mut own = own.filter(|address| address.is_ipv4() == prefix.address().is_ipv4());
    Route {
        destination: prefix,
        metric: if prefix.address().is_ipv4() { 0 } else { 1024 },
        table: TABLE_MAIN,
        kind: RouteKind::Unicast,
        protocol: PROTOCOL,
        gateway: None,
        link: Some(link),
        source: own.find(|address| announced.iter().any(|range| range.contains(*address))),
        onlink: false,
        mtu: None,
        advmss: None,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use carrick_gateway_core::TunnelId;

    use super::*;
    use crate::dataplane::TunnelStats;
    use crate::standalone::EXAMPLE;

    fn file(addresses: &str) -> Config {
        let text = EXAMPLE.replace("[10.9.0.1/24]", addresses);
        Config::parse(&text, Path::new("example.yaml")).expect("a good file")
    }

    fn osaka() -> PeerForwarding {
        PeerForwarding {
            cluster: "osaka".parse().expect("cluster ID"),
            prefixes: vec!["10.2.7.0/24".parse().expect("prefix")],
            tunnels: vec![TunnelId(1)],
            mtu: None,
        }
    }

    fn stats(up: bool) -> DataplaneStats {
        let tunnel = TunnelStats { up, ..TunnelStats::unknown(1) };
        DataplaneStats { tunnels: vec![tunnel], ..Default::default() }
    }

    fn kinds(routes: &[Route]) -> Vec<(String, RouteKind)> {
        routes.iter().map(|route| (route.destination.to_string(), route.kind)).collect()
    }

    #[test]
    fn accepted_ranges_are_unreachable_until_a_tunnel_to_them_is_up() {
        let file = file("[10.9.0.1/24]");
        let behind = [
            ("10.2.0.0/16".to_owned(), RouteKind::Unreachable),
            ("240.0.0.0/4".to_owned(), RouteKind::Unreachable),
        ];
        assert_eq!(kinds(&wanted(&file, &[], &stats(true), 7)), behind);
        assert_eq!(kinds(&wanted(&file, &[osaka()], &stats(false), 7)), behind);
        let up = wanted(&file, &[osaka()], &stats(true), 7);
        assert_eq!(kinds(&up)[..2], behind);
        assert_eq!(kinds(&up)[2..], [("10.2.7.0/24".to_owned(), RouteKind::Unicast)]);
        assert!(up[2].metric < up[0].metric, "the same prefix may be in both");
        let mut unrouted = file;
        unrouted.interface.routes = false;
        assert_eq!(wanted(&unrouted, &[osaka()], &stats(true), 7), []);
    }

    #[test]
    fn our_own_packets_have_a_source_that_we_announce() {
        let source = |addresses: &str| {
            wanted(&file(addresses), &[osaka()], &stats(true), 7).pop().expect("a route").source
        };
        assert_eq!(source("[10.9.0.1/24]"), None);
        // Osaka is told of 10.50.1.0/24 only.
        assert_eq!(source("[10.50.0.1/32, 10.50.1.1/32]"), "10.50.1.1".parse().ok());
    }
}
