//! Device and routes take on the MTUs that the paths turn out to have.

use std::sync::Arc;

use carrick_gateway_core::ForwardingConfig;
use carrick_gateway_core::config::MTU_RANGE;
use carrick_netlink::{LinkSettings, Netlink, NetlinkError, Route, TABLE_MAIN};
use tokio::sync::watch;

use crate::dataplane::{Dataplane, DataplaneStats, PeerForwarding, TunnelStats};
use crate::ways::{Complaints, Reasons, Ways};

/// The device's MTU in bytes while nothing is known of any path.
pub(super) const UNKNOWN: u16 = 1420;
/// The least MTU of a device and a route that carry IPv6 (RFC 8200, section 5); the kernel takes IPv6
/// away from a device that has less.
const LEAST_V6: u32 = 1280;
/// Keeps device and routes in step with what the data plane knows.
pub(super) struct Follower {
    dataplane: Arc<Dataplane>,
    /// The configured MTU, if there is one.
    fixed: watch::Receiver<Option<u16>>,
    netlink: Netlink,
    ways: Ways,
}

/// What device and routes are to be set to, in bytes.
#[derive(Debug, PartialEq, Eq)]
struct Sizes {
    device: u32,
    /// By place in the configuration.
    peers: Vec<u32>,
}

impl Follower {
    /// For the network namespace of the thread that calls it.
    pub fn new(
        dataplane: Arc<Dataplane>,
        fixed: watch::Receiver<Option<u16>>,
    ) -> Result<Self, NetlinkError> {
        Ok(Self { dataplane, fixed, netlink: Netlink::open()?, ways: Ways::default() })
    }

    /// Follows until the sender of the configured MTU is gone.
    pub async fn run(mut self) {
        let mut reasons = Reasons::new(&self.dataplane);
        let mut complaints = Complaints::default();
        loop {
            complaints.note("device and routes do not follow the paths' MTUs", self.follow());
            let goes_on = tokio::select! {
                changed = self.fixed.changed() => changed.is_ok(),
                goes_on = reasons.next() => goes_on,
            };
            if !goes_on {
                return;
            }
        }
    }

    /// Writes what differs.
    fn follow(&mut self) -> Result<(), NetlinkError> {
        self.ways.look(&mut self.netlink, &self.dataplane)?;
        let config = self.dataplane.config();
        let fixed = *self.fixed.borrow_and_update();
        let sizes = sizes(fixed, &config, &self.dataplane.stats());
        let name = self.dataplane.device();
        let settings = LinkSettings { mtu: Some(sizes.device), ..LinkSettings::default() };
        self.netlink.ensure_settings(name, &settings)?;
        let no_link = || NetlinkError::NoLink { name: name.to_owned() };
        let link = self.netlink.link(name)?.ok_or_else(no_link)?.index;
        let held = self.netlink.own_routes(TABLE_MAIN, link)?;
        let wanted: Vec<Route> =
            held.iter().filter_map(|route| resized(route, &config, &sizes)).collect();
        self.netlink.ensure_routes(&wanted).map(drop)
    }
}

/// The route with the MTU of its peer, if it has another. A route that never had one needs none as long
/// as the device's is as large.
fn resized(route: &Route, config: &ForwardingConfig, sizes: &Sizes) -> Option<Route> {
    let theirs = |peer: &PeerForwarding| peer.prefixes.contains(&route.destination);
    let of_peer = sizes.peers[config.peers.iter().position(theirs)?];
    let v6 = route.destination.address().is_ipv6();
    let mtu = if v6 { of_peer.max(LEAST_V6) } else { of_peer };
    let is_right = route.mtu.map_or(mtu >= sizes.device, |held| held == mtu);
    (!is_right).then_some(Route { mtu: Some(mtu), ..*route })
}

fn sizes(fixed: Option<u16>, config: &ForwardingConfig, stats: &DataplaneStats) -> Sizes {
    let unknown = fixed.unwrap_or(UNKNOWN);
    let most = fixed.map_or(*MTU_RANGE.end() as u32, u32::from);
    let of_peer = |peer: &PeerForwarding| {
        let tunnels = || peer.tunnels.iter().filter_map(|id| stats.tunnel(*id));
        let least = |up: bool| tunnels().filter(|t| t.up >= up).map(|t| inner(t, unknown)).min();
        least(true).or(least(false)).unwrap_or(unknown.into()).min(most)
    };
    let peers: Vec<u32> = config.peers.iter().map(of_peer).collect();
    let largest = peers.iter().copied().max().unwrap_or(UNKNOWN.into()).max(LEAST_V6);
    Sizes { device: fixed.map_or(largest, u32::from), peers }
}

/// A tunnel's largest inner packet. What the kernel says of a path that is still being searched is no more
/// than a hope.
fn inner(tunnel: &TunnelStats, unknown: u16) -> u32 {
    use crate::dataplane::PathState;
    let unknown = u32::from(unknown);
    let known = tunnel.mtu.and_then(|mtu| u32::try_from(mtu).ok());
    match (known, tunnel.path.state) {
        (None, _) => unknown,
        (Some(mtu), PathState::NotProbed | PathState::Verified) => mtu,
        (Some(mtu), _) if tunnel.path.mtu.is_some() => mtu,
        (Some(mtu), _) => mtu.min(unknown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataplane::{PathReport, PathState, TunnelId};

    fn tunnel(id: u64, up: bool, state: PathState, path: Option<u16>, mtu: usize) -> TunnelStats {
        let path = PathReport { mtu: path, state };
        TunnelStats { up, path, mtu: Some(mtu), ..TunnelStats::unknown(id) }
    }

    fn config(peers: &[&[u64]]) -> ForwardingConfig {
        let peer = |(index, ids): (usize, &&[u64])| PeerForwarding {
            cluster: format!("peer-{index}").parse().expect("a name"),
            prefixes: [format!("10.{index}.0.0/16"), format!("fd00:{index}::/32")]
                .map(|text| text.parse().expect("a prefix"))
                .into(),
            tunnels: ids.iter().map(|id| TunnelId(*id)).collect(),
            mtu: None,
        };
        let peers = peers.iter().enumerate().map(peer).collect();
        ForwardingConfig { peers, ..ForwardingConfig::default() }
    }

    fn of(fixed: Option<u16>, peers: &[&[u64]], tunnels: Vec<TunnelStats>) -> (u32, Vec<u32>) {
        let stats = DataplaneStats { tunnels, ..DataplaneStats::default() };
        let sizes = sizes(fixed, &config(peers), &stats);
        (sizes.device, sizes.peers)
    }

    use PathState::{NotProbed, Searching, Unanswered, Verified};

    #[test]
    fn the_device_is_as_large_as_the_largest_path_and_never_too_small_for_version_six() {
        let two = || {
            vec![
                tunnel(1, true, Verified, Some(9000), 8940),
                tunnel(2, true, NotProbed, Some(1280), 1220),
            ]
        };
        assert_eq!(of(None, &[&[1], &[2]], two()), (8940, vec![8940, 1220]));
        assert_eq!(of(None, &[&[2]], two()), (1280, vec![1220]));
        assert_eq!(of(Some(1400), &[&[1], &[2]], two()), (1400, vec![1400, 1220]));
        assert_eq!(of(None, &[], vec![]), (1420, vec![]));
        assert_eq!(of(None, &[&[7]], vec![]), (1420, vec![1420]));
    }

    #[test]
    fn hopes_make_nothing_larger_and_tunnels_that_are_down_nothing_smaller() {
        let hope = |state| vec![tunnel(1, true, state, None, 8940)];
        assert_eq!(of(None, &[&[1]], hope(Searching)).0, 1420);
        assert_eq!(of(Some(9000), &[&[1]], hope(Unanswered)).1, [8940]);
        let found = vec![
            tunnel(1, false, Unanswered, Some(1400), 1340),
            tunnel(2, true, Verified, Some(1500), 1440),
        ];
        assert_eq!(of(None, &[&[1, 2]], found.clone()), (1440, vec![1440]));
        assert_eq!(of(None, &[&[1]], found), (1340, vec![1340]), "it keeps what was found");
    }

    #[test]
    fn routes_get_an_mtu_where_they_need_one_and_keep_it_right() {
        let (config, sizes) = (config(&[&[1]]), Sizes { device: 8940, peers: vec![1220] });
        let route = |text: &str, mtu| Route {
            mtu,
            ..Route::unreachable(text.parse().expect("a prefix"), TABLE_MAIN, 0)
        };
        let to = |text: &str, mtu| resized(&route(text, mtu), &config, &sizes).map(|r| r.mtu);
        assert_eq!(to("10.0.0.0/16", None), Some(Some(1220)));
        assert_eq!(to("10.0.0.0/16", Some(1220)), None);
        assert_eq!(to("fd00::/32", None), Some(Some(1280)));
        assert_eq!(to("10.77.0.0/16", None), None, "nobody's");
        let equal = Sizes { device: 1440, peers: vec![1440] };
        let to = |mtu| resized(&route("10.0.0.0/16", mtu), &config, &equal).map(|r| r.mtu);
        assert_eq!((to(None), to(Some(1220)), to(Some(1440))), (None, Some(Some(1440)), None));
    }
}
