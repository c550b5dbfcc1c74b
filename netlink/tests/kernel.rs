//! What the kernel takes, gives back and announces, each test in a network namespace of its own.
//! Needs root.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use carrick_model::{Family, Mac, Prefix};
use carrick_netlink::{
    Change, FdbEntry, FdbTarget, LinkSettings, Monitor, Neighbour, Netlink, NetlinkError, Nexthop,
    NexthopKind, Nft, NftBody, Route, RouteKind, Rule, Vxlan,
};

const TABLE: u32 = 51_820;
const MESH: Ipv4Addr = Ipv4Addr::new(240, 1, 16, 2);
const ROUTER: Ipv4Addr = Ipv4Addr::new(240, 2, 32, 1);

/// Runs `test` on a thread with a network namespace that ends with it.
fn in_namespace(test: impl FnOnce(&mut Netlink) + Send + 'static) {
    let thread = std::thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)
            .expect("these tests make network namespaces: run them as root");
        ip("link set lo up");
        test(&mut Netlink::open().expect("netlink"));
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split(' ')).output().expect("iproute2");
    assert!(output.status.success(), "ip {arguments}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

fn prefix(text: &str) -> Prefix {
    text.parse().expect(text)
}

fn vxlan(port: u16) -> Vxlan {
    Vxlan { vni: 51_746, port, local: IpAddr::V4(Ipv4Addr::LOCALHOST) }
}

fn settings() -> LinkSettings {
    LinkSettings {
        mac: Some(Mac::of_mesh(MESH)),
        mtu: Some(1420),
        queue: Some(1700),
        up: Some(true),
        forwarding: Some(true),
        rp_filter: Some(2),
        ipv6_addresses_off: Some(true),
        ..LinkSettings::default()
    }
}

fn carrick0(netlink: &mut Netlink) -> u32 {
    let (link, _) = netlink.ensure_vxlan("carrick0", &vxlan(7789), &settings()).expect("carrick0");
    netlink.sync_addresses(link.index, &[(MESH.into(), 32)]).expect("address");
    link.index
}

#[test]
fn a_vxlan_device_is_made_once_and_mended() {
    in_namespace(|netlink| {
        let (link, wrote) =
            netlink.ensure_vxlan("carrick0", &vxlan(7789), &settings()).expect("made");
        assert!(wrote > 0 && link.up && link.rp_filter == Some(2), "{link:?}");
        let shown = ip("-d link show carrick0");
        for word in
            ["id 51746", "dstport 7789", "nolearning", "df set", "addrgenmode none", "qlen 1700"]
        {
            assert!(shown.contains(word), "{word}: {shown}");
        }
        let ensure = |netlink: &mut Netlink, port| {
            netlink.ensure_vxlan("carrick0", &vxlan(port), &settings()).expect("ensure")
        };
        assert_eq!(ensure(netlink, 7789), (link.clone(), 0));

        ip("link set carrick0 mtu 1300 txqueuelen 100 down");
        assert_eq!(ensure(netlink, 7789).0, link);
        let (moved, _) = ensure(netlink, 7790);
        assert_ne!(moved.index, link.index, "another port needs another device");
        netlink.delete_link(&moved).expect("deleted");
        assert_eq!(netlink.link("carrick0").expect("links"), None);
    });
}

#[test]
fn a_foreign_device_of_our_name_is_left_alone_and_named() {
    in_namespace(|netlink| {
        ip("link add carrick0 type bridge");
        let error =
            netlink.ensure_vxlan("carrick0", &vxlan(7789), &settings()).expect_err("a bridge");
        assert!(matches!(error, NetlinkError::Foreign { .. }), "{error}");
        assert!(error.to_string().contains("carrick0"), "{error}");
    });
}

#[test]
fn a_bridge_takes_its_ports() {
    in_namespace(|netlink| {
        let up = LinkSettings { up: Some(true), ..LinkSettings::default() };
        let (bridge, _) = netlink.ensure_bridge("br0", &up).expect("bridge");
        carrick0(netlink);
        let port = LinkSettings { master: Some(bridge.index), ..LinkSettings::default() };
        assert_eq!(netlink.ensure_settings("carrick0", &port).expect("port"), 1);
        assert_eq!(netlink.ensure_settings("carrick0", &port).expect("port"), 0);
        let link = netlink.link("carrick0").expect("links").expect("carrick0");
        assert_eq!(link.master, Some(bridge.index));
    });
}

fn mesh_route(link: u32, destination: &str) -> Route {
    Route {
        kind: RouteKind::Unicast,
        gateway: Some(ROUTER.into()),
        link: Some(link),
        source: Some(MESH.into()),
        onlink: true,
        mtu: Some(1420),
        advmss: Some(1380),
        ..Route::unreachable(prefix(destination), TABLE, 0)
    }
}

#[test]
fn routes_are_synced_and_equal_ones_are_not_touched() {
    in_namespace(|netlink| {
        let link = carrick0(netlink);
        assert_eq!(netlink.routes(TABLE).expect("empty"), []);
        let wanted = [
            mesh_route(link, "10.2.0.0/16"),
            mesh_route(link, "240.2.32.0/20"),
            Route::unreachable(prefix("10.2.0.0/16"), TABLE, 9999),
            Route::unreachable(prefix("fd00:2::/48"), TABLE, 9999),
        ];
        assert_eq!(netlink.sync_routes(TABLE, &wanted).expect("sync"), 4);
        assert_eq!(netlink.sync_routes(TABLE, &wanted).expect("again"), 0);
        let shown = ip("route show table 51820");
        assert!(shown.contains("via 240.2.32.1 dev carrick0 proto 202 src 240.1.16.2"), "{shown}");

        ip("route del 10.2.0.0/16 dev carrick0 table 51820");
        assert_eq!(netlink.sync_routes(TABLE, &wanted).expect("healed"), 1);
        ip("route add 10.9.0.0/16 dev carrick0 table 51820");
        assert_eq!(netlink.sync_routes(TABLE, &wanted).expect("foreign one removed"), 1);
        assert_eq!(netlink.sync_routes(TABLE, &wanted[2..]).expect("fewer"), 2);
        assert_eq!(netlink.sync_routes(TABLE, &[]).expect("none"), 2);
        assert_eq!(netlink.routes(TABLE).expect("empty"), []);
    });
}

#[test]
fn ipv6_has_addresses_neighbours_and_routes_at_once() {
    in_namespace(|netlink| {
        let link = carrick0(netlink);
        let address = |text: &str| text.parse::<std::net::IpAddr>().expect(text);
        let (own, router) = (address("fd63:6172:7269::f001:1002"), address("fd63:6172:7269::1"));
        let addresses = [(MESH.into(), 32), (own, 128)];
        netlink.sync_addresses(link, &addresses).expect("addresses");
        assert_eq!(netlink.sync_addresses(link, &addresses).expect("again"), 0);
        let next = [Neighbour { address: router, mac: Mac([2, 0xca, 0, 0, 0, 1]) }];
        assert_eq!(netlink.sync_neighbours(link, &next).expect("neighbour"), 1);
        assert_eq!(netlink.sync_neighbours(link, &next).expect("again"), 0);
        // The address is a route's source at once: nobody is asked whether it is taken.
        let route = Route {
            metric: 1024,
            gateway: Some(router),
            source: Some(own),
            advmss: Some(1360),
            ..mesh_route(link, "fd00:2::/48")
        };
        let wanted = [Route::unreachable(route.destination, TABLE, 9999), route];
        assert_eq!(netlink.sync_routes(TABLE, &wanted).expect("routes"), 2);
        assert_eq!(netlink.sync_routes(TABLE, &wanted).expect("again"), 0);
        let shown = ip("-6 route show table 51820");
        assert!(shown.contains("via fd63:6172:7269::1 dev carrick0 proto 202 src"), "{shown}");
        assert_eq!(netlink.sync_routes(TABLE, &wanted[..1]).expect("fewer"), 1);
    });
}

#[test]
fn rules_of_others_stay() {
    in_namespace(|netlink| {
        ip("rule add priority 40 lookup 7");
        let wanted = [
            Rule::new(39, Family::V4, Some(prefix("10.1.0.5/32")), 254),
            Rule::new(40, Family::V4, None, TABLE),
            Rule::new(40, Family::V6, None, TABLE),
        ];
        assert_eq!(netlink.sync_rules(&wanted).expect("sync"), 3);
        assert_eq!(netlink.sync_rules(&wanted).expect("again"), 0);
        ip("rule del priority 39");
        assert_eq!(netlink.sync_rules(&wanted).expect("healed"), 1);
        assert_eq!(netlink.sync_rules(&[]).expect("none"), 3);
        assert!(ip("rule show").contains("lookup 7"));
    });
}

#[test]
fn neighbours_and_fdb_groups_are_synced() {
    in_namespace(|netlink| {
        let link = carrick0(netlink);
        let neighbour = Neighbour { address: ROUTER.into(), mac: Mac::of_mesh(ROUTER) };
        assert_eq!(netlink.sync_neighbours(link, &[neighbour]).expect("sync"), 1);
        assert_eq!(netlink.sync_neighbours(link, &[neighbour]).expect("again"), 0);

        let single =
            |id, last| Nexthop::new(id, NexthopKind::Fdb(Ipv4Addr::new(10, 1, 0, last).into()));
        let group = |members: &[u32]| {
            let members = members.to_vec();
            Nexthop::new(900, NexthopKind::FdbGroup { members, resilient: true })
        };
        let both = [group(&[101, 102]), single(101, 1), single(102, 2)];
        let entry = FdbEntry { mac: Mac::of_mesh(ROUTER), target: FdbTarget::Nexthop(900) };
        assert_eq!(netlink.ensure_nexthops(&both).expect("group"), 3);
        assert_eq!(netlink.ensure_nexthops(&both).expect("again"), 0);
        assert_eq!(netlink.sync_fdb(link, &[entry]).expect("entry"), 1);
        assert_eq!(netlink.sync_fdb(link, &[entry]).expect("again"), 0);

        let one = [single(102, 2), group(&[102])];
        assert_eq!(netlink.ensure_nexthops(&one).expect("a member leaves"), 1);
        assert_eq!(netlink.sync_fdb(link, &[entry]).expect("untouched"), 0);
        assert_eq!(netlink.prune_nexthops(&one).expect("pruned"), 1);

        let plain = FdbEntry { target: FdbTarget::Address(Ipv4Addr::LOCALHOST.into()), ..entry };
        assert_eq!(netlink.sync_fdb(link, &[plain]).expect("swapped"), 2);
        assert_eq!(netlink.sync_fdb(link, &[]).expect("removed"), 1);
        netlink.prune_nexthops(&[]).expect("pruned");
        assert_eq!(netlink.nexthops().expect("none"), []);
        assert_eq!(netlink.sync_neighbours(link, &[]).expect("removed"), 1);
    });
}

#[test]
fn a_next_hop_of_others_is_not_overwritten() {
    in_namespace(|netlink| {
        ip("nexthop add id 101 via 10.9.0.1 fdb");
        let ours = Nexthop::new(101, NexthopKind::Fdb(Ipv4Addr::new(10, 1, 0, 1).into()));
        let error = netlink.ensure_nexthops(&[ours]).expect_err("taken");
        assert!(error.to_string().contains("next hop 101"), "{error}");
        assert_eq!(netlink.prune_nexthops(&[]).expect("nothing of ours"), 0);
    });
}

#[test]
fn refusals_carry_the_kernels_own_words() {
    in_namespace(|netlink| {
        let link = carrick0(netlink);
        let mut route = mesh_route(link, "10.2.0.0/16");
        route.onlink = false;
        let error = netlink.sync_routes(TABLE, &[route]).expect_err("gateway is nowhere");
        let text = error.to_string();
        assert!(text.contains("10.2.0.0/16") && text.contains("invalid gateway"), "{text}");
    });
}

#[test]
fn a_route_that_fails_does_not_keep_others_from_being_set() {
    in_namespace(|netlink| {
        let link = carrick0(netlink);
        ip("route add 10.9.0.0/16 dev carrick0 table 51820");
        let mut bad = mesh_route(link, "10.2.0.0/16");
        bad.onlink = false;
        let good = Route::unreachable(prefix("10.3.0.0/16"), TABLE, 9999);
        let error = netlink.sync_routes(TABLE, &[bad, good]).expect_err("one is refused");
        assert!(error.to_string().contains("10.2.0.0/16"), "{error}");
        assert_eq!(netlink.routes(TABLE).expect("routes"), [good], "and the foreign one is gone");
    });
}

fn body() -> NftBody {
    let sets = "counter seen { }\nset gateways { type ipv4_addr; elements = { 10.1.0.5 } }";
    let chains = "chain input {\n type filter hook input priority 0;\n ip saddr @gateways counter \
                  name seen\n}";
    NftBody { sets: sets.to_owned(), chains: chains.to_owned() }
}

fn nft(command: &str) -> String {
    let output = Command::new("nft").arg(command).output().expect("nftables");
    assert!(output.status.success(), "nft {command}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn a_table_is_applied_once_and_comes_back() {
    in_namespace(|_| {
        let (mut table, body) = (Nft::new("carrick"), body());
        assert_eq!(table.sync(&body).expect("applied"), 1);
        assert_eq!(table.sync(&body).expect("again"), 0);
        assert_eq!(table.counters(), [("seen".to_owned(), 0)]);
        for damage in ["flush chain inet carrick input", "delete table inet carrick"] {
            nft(damage);
            assert_eq!(table.sync(&body).expect("healed"), 1, "{damage}");
        }
        let bad = NftBody { chains: "chain x { nonsense }".to_owned(), ..body.clone() };
        let error = table.sync(&bad).expect_err("nonsense");
        assert!(error.to_string().contains("inet carrick"), "{error}");
        let left = nft("list ruleset");
        assert!(left.contains("@gateways") && !left.contains("-next"), "the former: {left}");
        assert_eq!(table.sync(&body).expect("mended"), 1);
        assert_eq!(table.delete().expect("deleted"), 1);
        assert_eq!(table.delete().expect("gone"), 0);
        assert_eq!(nft("list ruleset"), "");
    });
}

#[test]
fn what_one_who_was_stopped_left_is_taken_over() {
    in_namespace(|_| {
        let (mut table, body) = (Nft::new("carrick"), body());
        // The stand-in counts, and of the table only the sets are there.
        nft("table inet carrick-next { chain input { type filter hook input priority 0;\n }\n }");
        nft("table inet carrick { set gateways { type ipv4_addr; }\n }\n");
        assert_eq!(table.sync(&body).expect("applied"), 1);
        let left = nft("list ruleset");
        assert!(left.contains("@gateways") && !left.contains("-next"), "{left}");
        nft("add table inet carrick-next");
        assert_eq!(table.delete().expect("deleted"), 1);
        assert_eq!(nft("list ruleset"), "");
    });
}

#[test]
fn while_a_table_is_replaced_no_packet_finds_its_sets_empty() {
    in_namespace(|_| {
        let body = |more: &str| NftBody {
            sets: format!(
                "counter lost {{ }}\nset friends {{ type ipv4_addr; flags interval; elements = {{ \
                 127.0.0.0/8{more} }} }}"
            ),
            chains: "chain input {\n type filter hook input priority 0;\n ip saddr @friends \
                     accept\n counter name lost drop\n}"
                .to_owned(),
        };
        let bodies = [body(""), body(", 10.3.0.0/16")];
        let mut table = Nft::new("carrick");
        table.sync(&bodies[0]).expect("applied");
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        socket.connect(socket.local_addr().expect("an address")).expect("connected");
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            // Nobody reads: what is sent passes the table all the same.
            let sender = scope.spawn(|| {
                let mut sent = 0;
                while !stop.load(Ordering::Relaxed) {
                    sent += usize::from(socket.send(&[0; 8]).is_ok());
                }
                sent
            });
            for body in bodies.iter().cycle().skip(1).take(60) {
                assert_eq!(table.sync(body).expect("replaced"), 1);
            }
            stop.store(true, Ordering::Relaxed);
            assert!(sender.join().expect("the sender") > 1000);
        });
        // One that waited for its turn is counted with the last reading.
        table.sync(&bodies[0]).expect("read");
        assert_eq!(table.counters(), [("lost".to_owned(), 0)]);
    });
}

#[test]
fn changes_are_announced() {
    in_namespace(|netlink| {
        let link = carrick0(netlink);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("runtime").block_on(async {
            let mut monitor = Monitor::open().expect("monitor");
            let mut nft = Nft::new("carrick");
            netlink.sync_routes(TABLE, &[mesh_route(link, "10.2.0.0/16")]).expect("route");
            nft.sync(&body()).expect("table");
            let mut missing = vec![Change::Route, Change::Nft { table: "carrick".to_owned() }];
            let all = async {
                while !missing.is_empty() {
                    let seen = monitor.next().await.expect("changes");
                    missing.retain(|change| !seen.contains(change));
                }
            };
            let done = tokio::time::timeout(std::time::Duration::from_secs(10), all).await;
            assert!(done.is_ok(), "never announced: {missing:?}");
        });
    });
}

#[test]
fn the_way_to_an_address_is_told_with_the_mtu_of_link_and_route() {
    in_namespace(|netlink| {
        ip("link add out0 type veth peer name in0");
        ip("link set in0 up");
        ip("link set out0 mtu 1400 up");
        ip("addr add 192.0.2.1/24 dev out0");
        ip("addr add 2001:db8::1/64 dev out0 nodad");
        ip("route add 198.51.100.0/24 via 192.0.2.9 dev out0 mtu 1300");
        let address = |text: &str| text.parse::<IpAddr>().expect(text);
        let near = ["192.0.2.2", "2001:db8::2"].map(address);
        let (far, nowhere) = (address("198.51.100.1"), address("203.0.113.1"));
        let asked = near.into_iter().chain([far, nowhere, address("2001:db9::1")]).collect();
        let ways = netlink.ways_to(&asked).expect("ways");
        let index = netlink.link("out0").expect("read").expect("out0").index;
        assert_eq!(ways.keys().copied().collect::<Vec<_>>(), [near[0], far, near[1]]);
        assert!(ways.values().all(|way| way.link == index));
        assert_eq!(near.map(|near| (ways[&near].mtu, ways[&near].gateway)), [(1400, None); 2]);
        assert_eq!((ways[&far].mtu, ways[&far].gateway), (1300, Some(address("192.0.2.9"))));
        assert_eq!(ways[&far].source, Some(address("192.0.2.1")));
        ip("link set out0 mtu 1280");
        assert_eq!(netlink.ways_to(&asked).expect("ways")[&far].mtu, 1280);
        assert_eq!(netlink.writes(), 0);
    });
}

#[test]
fn sizes_of_our_own_routes_are_changed_in_place() {
    in_namespace(|netlink| {
        ip("link add out0 type veth peer name in0");
        ip("link set in0 up");
        ip("link set out0 up");
        let link = netlink.link("out0").expect("read").expect("out0").index;
        let route = |text: &str, mtu| {
            let metric = if text.contains(':') { 1024 } else { 0 };
            let unreachable = Route::unreachable(prefix(text), carrick_netlink::TABLE_MAIN, metric);
            Route { kind: RouteKind::Unicast, link: Some(link), mtu, ..unreachable }
        };
        for text in ["10.7.0.0/16", "fd07::/64"] {
            for (mtu, wrote) in
                [(None, 1), (None, 0), (Some(1300), 1), (Some(1300), 0), (None, 0), (Some(1400), 1)]
            {
                let wanted = [route(text, mtu)];
                assert_eq!(netlink.ensure_routes(&wanted).expect("set"), wrote, "{text} {mtu:?}");
            }
            let held = netlink.routes(carrick_netlink::TABLE_MAIN).expect("routes");
            let ours: Vec<_> = held.iter().filter(|r| r.destination == prefix(text)).collect();
            assert_eq!(ours, [&route(text, Some(1400))]);
        }
        ip("route add 10.9.0.0/16 dev in0 proto 202");
        ip("route add 10.10.0.0/16 dev out0");
        let own = netlink.own_routes(carrick_netlink::TABLE_MAIN, link).expect("routes");
        assert_eq!(own, ["10.7.0.0/16", "fd07::/64"].map(|text| route(text, Some(1400))));
        ip("route add 10.8.0.0/16 dev out0");
        let foreign = netlink.ensure_routes(&[route("10.8.0.0/16", Some(1300))]);
        assert!(foreign.is_err(), "what others made is not replaced");
    });
}
