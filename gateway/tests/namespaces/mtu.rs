//! Two gateways whose path narrows where neither sees it: device, routes and senders follow what it carries.
#![expect(unsafe_code, reason = "DF is a socket option that no crate here wraps")]

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use crate::standalone::{Running, file, keys, start};
use crate::support::{Namespace, echo, eventually, transfer, within};

const V4: [&str; 2] = ["10.9.1.1", "10.9.2.1"];
const V6: [&str; 2] = ["fd09:1::1", "fd09:2::1"];

/// left, router, router, right: three cables, of which the middle one may be the narrowest.
struct Path {
    ends: [Namespace; 2],
    routers: [Namespace; 2],
}

impl Path {
    /// Cables of `outer` bytes at the ends, and of `middle` bytes between the routers.
    fn new(outer: u32, middle: u32) -> Self {
        let path = Self {
            ends: [Namespace::new(), Namespace::new()],
            routers: [Namespace::new(), Namespace::new()],
        };
        let [left, right] = &path.ends;
        let [near, far] = &path.routers;
        left.cable(("net0", "192.0.2.2/24"), near, ("end0", "192.0.2.1/24"));
        near.cable(("mid0", "203.0.113.1/24"), far, ("mid0", "203.0.113.2/24"));
        far.cable(("end0", "198.51.100.1/24"), right, ("net0", "198.51.100.2/24"));
        for (namespace, device, address) in [
            (left, "net0", "2001:db8:1::2/64"),
            (near, "end0", "2001:db8:1::1/64"),
            (near, "mid0", "2001:db8:2::1/64"),
            (far, "mid0", "2001:db8:2::2/64"),
            (far, "end0", "2001:db8:3::1/64"),
            (right, "net0", "2001:db8:3::2/64"),
        ] {
            namespace.ip(&format!("addr add {address} dev {device} nodad"));
        }
        for (namespace, v4, v6) in [
            (left, "192.0.2.1", "2001:db8:1::1"),
            (near, "203.0.113.2", "2001:db8:2::2"),
            (far, "203.0.113.1", "2001:db8:2::1"),
            (right, "198.51.100.1", "2001:db8:3::1"),
        ] {
            namespace.ip(&format!("route add default via {v4}"));
            namespace.ip(&format!("-6 route add default via {v6}"));
        }
        for router in &path.routers {
            assert!(router.succeeds("sysctl -q -w net.ipv4.ip_forward=1"));
            assert!(router.succeeds("sysctl -q -w net.ipv6.conf.all.forwarding=1"));
            router.ip(&format!("link set end0 mtu {outer}"));
        }
        path.ends.iter().for_each(|end| end.ip(&format!("link set net0 mtu {outer}")));
        path.narrow(middle);
        // Handshakes that wait for neighbours to be found would all arrive at once and cross.
        for [from, to] in [["192.0.2.2", "198.51.100.2"], ["2001:db8:1::2", "2001:db8:3::2"]] {
            let [left, right] = &path.ends;
            eventually("the underlay carries", || echo(left, from, right, to, 100).is_some());
        }
        path
    }

    /// Sets the MTU of the cable between the routers.
    fn narrow(&self, mtu: u32) {
        self.routers.iter().for_each(|router| router.ip(&format!("link set mid0 mtu {mtu}")));
    }

    /// Makes the routers silent about what is too big for them.
    fn black_hole(&self) {
        for router in &self.routers {
            for line in [
                "nft add table inet silence",
                "nft add chain inet silence out { type filter hook output priority 0 ; }",
                "nft add rule inet silence out icmp type destination-unreachable drop",
                "nft add rule inet silence out icmpv6 type packet-too-big drop",
            ] {
                assert!(router.succeeds(line), "{line}");
            }
        }
    }

    /// Starts a gateway at each end. `peer` is added to what each says of the other, `interface` to what
    /// it says of its device.
    fn run(&self, v6: bool, interface: &str, peer: &str) -> [Running; 2] {
        let both = [keys(), keys()];
        let endpoints =
            if v6 { ["[2001:db8:1::2]", "[2001:db8:3::2]"] } else { ["192.0.2.2", "198.51.100.2"] };
        [0, 1].map(|end: usize| {
            let (own, other) = (end + 1, 2 - end);
            let config = file(&format!(
                "interface:\n  name: wan0\n  addresses: [10.9.{own}.1/32, 'fd09:{own}::1/128']\n{interface}\
                 private_key: {}\nlisten_port: 51820\nmetrics: 127.0.0.1:9586\npeers:\n\
                 - name: other\n  public_key: {}\n  endpoint: '{}:51820'\n  keepalive: 5\n{peer}  \
                 allowed_prefixes: [10.9.{other}.0/24, 'fd09:{other}::/64']\n",
                both[end].private,
                both[1 - end].public,
                endpoints[1 - end],
            ));
            start(&self.ends[end], &config)
        })
    }

    /// Whether an end's device and routes have these MTUs; the route's is none where the device's counts.
    fn follows(&self, end: usize, device: u32, v4: Option<u32>) -> bool {
        let other = 2 - end;
        let shown =
            |line: &str| String::from_utf8_lossy(&self.ends[end].output(line).stdout).into_owned();
        let route = shown(&format!("ip route show 10.9.{other}.0/24"));
        shown("ip link show wan0").contains(&format!(" mtu {device} "))
            && match v4 {
                Some(mtu) => route.contains(&format!(" mtu {mtu}")),
                None => !route.contains(" mtu ") || route.contains(&format!(" mtu {device}")),
            }
    }

    fn crosses(&self, [from, to]: [&str; 2], size: usize) -> bool {
        echo(&self.ends[0], from, &self.ends[1], to, size).is_some()
    }

    /// Sends one packet of `size` bytes that must not be fragmented.
    fn send_whole(&self, [from, to]: [&str; 2], size: usize) -> io::Result<()> {
        let address = |text: &str| text.parse::<IpAddr>().expect("address");
        let socket = self.ends[0].inside(|| whole_only(address(from)));
        let headers = if address(from).is_ipv4() { 28 } else { 48 };
        let to = SocketAddr::new(address(to), 9);
        socket.send_to(&vec![7; size - headers], to)?;
        // What Linux is told of a packet counts only while the packet's socket is there.
        socket.set_read_timeout(Some(Duration::from_millis(20)))?;
        let _nothing = socket.recv(&mut [0]);
        Ok(())
    }

    fn is_refused(&self, addresses: [&str; 2], size: usize) -> bool {
        let sent = self.send_whole(addresses, size);
        sent.is_err_and(|error| error.raw_os_error() == Some(libc::EMSGSIZE))
    }
}

/// A socket whose packets have DF, and which hears of smaller paths.
fn whole_only(address: IpAddr) -> UdpSocket {
    let socket = UdpSocket::bind((address, 0)).expect("a socket");
    let (level, name, value) = match address {
        IpAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DO),
        IpAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DO),
    };
    // SAFETY: the descriptor is open, and the pointer and length are those of a live c_int.
    let set =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), 4) };
    assert_eq!(set, 0, "DF");
    socket
}

const PROBES: &str = "  probes: true\n";

/// Checks that both ends follow a path of `mtu` bytes, and that everything crosses or is told.
fn follows(mtu: u32, v6: bool, silent: bool) {
    let path = Path::new(mtu.max(1500), mtu);
    if silent {
        path.black_hole();
    }
    let _gateways = path.run(v6, "", PROBES);
    let inner = mtu - if v6 { 80 } else { 60 };
    let (device, route) = (inner.max(1280), Some(inner).filter(|inner| *inner < 1280));
    for end in [0, 1] {
        eventually("device and routes follow", || path.follows(end, device, route));
    }
    let size = inner as usize;
    assert!(path.crosses(V4, size), "{mtu}: the full size");
    assert!(path.crosses(V6, size.max(1280)), "{mtu}: the full size of version 6");
    assert!(path.is_refused(V4, size + 1), "{mtu}: one byte more");
    assert!(path.is_refused(V6, size.max(1280) + 1), "{mtu}: one byte more of version 6");
    assert!(path.send_whole(V4, size).is_ok() && path.send_whole(V6, 1280).is_ok());
    for [from, to] in [V4, V6] {
        let [left, right] = &path.ends;
        assert_eq!(transfer(left, from, right, to, 2_000_000).0, 2_000_000);
        assert_eq!(transfer(right, to, left, from, 2_000_000).0, 2_000_000);
    }
}

#[test]
fn an_underlay_of_1280_is_followed() {
    follows(1280, false, false);
}

#[test]
fn an_underlay_of_1280_of_version_six_is_followed() {
    follows(1280, true, false);
}

#[test]
fn an_underlay_of_1400_is_followed_though_nobody_tells_of_it() {
    follows(1400, false, true);
}

#[test]
fn an_underlay_of_1500_is_followed() {
    follows(1500, false, false);
}

#[test]
fn an_underlay_of_9000_is_followed() {
    follows(9000, false, true);
    follows(9000, true, false);
}

#[test]
fn a_path_that_shrinks_and_grows_while_running_is_followed() {
    let path = Path::new(1500, 1500);
    path.black_hole();
    let _gateways = path.run(false, "", PROBES);
    eventually("the path is known", || path.follows(0, 1440, None));
    assert!(path.crosses(V4, 1440));
    path.narrow(1400);
    eventually("the smaller path is known", || {
        // What is lost for its size makes the gateway look.
        path.send_whole(V4, 1440).is_err() || path.follows(0, 1340, None)
    });
    eventually("the device follows", || path.follows(0, 1340, None));
    assert!(path.is_refused(V4, 1341) && path.crosses(V4, 1340));
    // A local change is seen at once, a distant one within a minute.
    path.ends[0].ip("link set net0 mtu 1300");
    eventually("the smaller link is known", || path.follows(0, 1280, Some(1240)));
    path.ends[0].ip("link set net0 mtu 1500");
    eventually("the larger link is known", || path.follows(0, 1340, None));
    path.narrow(1500);
    within(Duration::from_secs(75), "the larger path is known", || path.follows(0, 1440, None));
    assert!(path.crosses(V4, 1440));
}

#[test]
fn a_configured_mtu_is_the_most_and_routes_follow_below_it() {
    let path = Path::new(1500, 1280);
    let _gateways = path.run(false, "  mtu: 1400\n", PROBES);
    for end in [0, 1] {
        eventually("the route follows", || path.follows(end, 1400, Some(1220)));
    }
    assert!(path.crosses(V4, 1220) && path.crosses(V6, 1280));
    assert!(path.is_refused(V4, 1221));
}

#[test]
fn a_plain_peer_is_followed_by_what_the_kernel_learns() {
    let path = Path::new(1500, 1400);
    let _gateways = path.run(false, "", "");
    eventually("the local link is known", || path.follows(0, 1440, None));
    eventually("a packet crosses", || path.crosses(V4, 100));
    assert!(!path.crosses(V4, 1440), "a router on the way says that this is too big");
    within(Duration::from_secs(25), "what it said is known", || path.follows(0, 1340, None));
    assert!(path.crosses(V4, 1340));
}

#[test]
fn what_is_too_big_behind_the_far_gateway_is_told_through_the_tunnel() {
    let path = Path::new(1500, 1500);
    let _gateways = path.run(false, "", PROBES);
    let (right, host) = (&path.ends[1], Namespace::new());
    right.cable(("lan0", "10.9.2.65/26"), &host, ("net0", "10.9.2.66/26"));
    host.ip("route add default via 10.9.2.65");
    assert!(right.succeeds("sysctl -q -w net.ipv4.ip_forward=1"));
    right.ip("link set lan0 mtu 1300");
    host.ip("link set net0 mtu 1300");
    let to = ["10.9.1.1", "10.9.2.66"];
    let crosses = |size| echo(&path.ends[0], to[0], &host, to[1], size).is_some();
    eventually("the path is known", || path.follows(0, 1440, None));
    eventually("a packet crosses", || crosses(100));
    assert!(path.send_whole(to, 1440).is_ok(), "nobody knows better yet");
    eventually("the sender is told", || path.is_refused(to, 1301));
    assert!(crosses(1300));
}
