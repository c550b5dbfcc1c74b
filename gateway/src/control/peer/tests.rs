//! What becomes of a peer's gateways and their tunnels.

use carrick_exchange::Pin;
use carrick_exchange::peer::Lane;
use carrick_model::{MeshPrefix, Prefix, Role, TunnelKey};

use super::*;

fn endpoint_of(endpoints: &[&str], remote: &str, dialled: bool) -> String {
    let parse = |text: &&str| Endpoint::Address(text.parse().expect("address"));
    let entry = RemoteGateway {
        name: "g".parse().expect("name"),
        endpoints: endpoints.iter().map(parse).collect(),
    };
    let key = TunnelKey::from_bytes([1; 32]);
    let remote_lane = Lane { index: 1, key, port: 40_000 };
    let agreed = Agreed { remote: remote_lane, own_key: key, psk: [0; 32], kept: false };
    let established = Established { version: 1, release: String::new(), tunnels: vec![agreed] };
    let remote = remote.parse().expect("address");
    let identity = IdentityKey::from_bytes([3; 32]);
    let known = Known { established, remote, dialled, identity, post_quantum: true };
    lane_endpoint(&entry, &known, &agreed).to_string()
}

fn peering(port: u16) -> Peering {
    Peering {
        pin: Pin::new(
            "osaka".parse().expect("cluster ID"),
            vec![IdentityKey::from_bytes([3; 32])],
            Role::Gateway,
        ),
        endpoints: vec![Endpoint::Address(([192, 0, 2, 1], port).into())],
        accept: Vec::new(),
        max_prefixes: 1,
        snapshot: None,
        keepalive: None,
        lanes: None,
        mtu: None,
        detection: Duration::from_millis(300),
        costs: BTreeMap::new(),
    }
}

#[test]
fn what_was_corrected_counts_as_failed_no_longer() {
    let mut peer = Peer::new(peering(9), &IdentityKey::from_bytes([4; 32]));
    peer.failures.note("192.0.2.1:9", "Timeout", "no answer", std::time::SystemTime::now());
    peer.reconfigure(peering(9));
    assert_eq!(peer.failures.list().len(), 1, "nothing was corrected");
    peer.reconfigure(peering(31_820));
    assert_eq!(peer.failures.list(), []);

    assert_ne!(peer.dialling.role(), DialRole::AtOnce, "their key is the lower one");
    let mut rotated = peering(31_820);
    rotated.pin.identities.insert(0, IdentityKey::from_bytes([5; 32]));
    peer.reconfigure(rotated);
    assert_eq!(peer.dialling.role(), DialRole::AtOnce, "their new key is the higher one");
}

#[test]
fn tunnels_of_a_classical_key_exchange_end_when_post_quantum_becomes_required() {
    let key = TunnelKey::from_bytes([1; 32]);
    let lane = |index| Lane { index, key, port: 40_000 };
    let tunnel = |index, post_quantum| Tunnel {
        id: TunnelId(u64::from(index)),
        agreed: Agreed { remote: lane(index), own_key: key, psk: [0; 32], kept: false },
        endpoint: ([192, 0, 2, 1], 9).into(),
        paths: Vec::new(),
        post_quantum,
    };
    let established = Established { version: 1, release: String::new(), tunnels: Vec::new() };
    let known = |post_quantum| Known {
        established: established.clone(),
        remote: ([192, 0, 2, 1], 9).into(),
        dialled: true,
        identity: IdentityKey::from_bytes([3; 32]),
        post_quantum,
    };
    for (link, oldest_tunnel) in [(true, true), (true, false), (false, true)] {
        let mut peer = Peer::new(peering(9), &IdentityKey::from_bytes([4; 32]));
        let tunnels = [(0, tunnel(0, oldest_tunnel)), (1, tunnel(1, true))].into();
        let gateway = Gateway { known: Some(known(link)), tunnels, ..Gateway::default() };
        peer.gateways.insert("g".parse().expect("name"), gateway);
        let left = |peer: &Peer| peer.gateways.values().map(|g| g.tunnels.len()).sum::<usize>();
        peer.reconfigure(peering(9));
        assert_eq!(left(&peer), 2, "nothing is required");
        let mut required = peering(9);
        required.pin.post_quantum = true;
        peer.reconfigure(required);
        assert_eq!(left(&peer), if link && oldest_tunnel { 2 } else { 0 });
    }
}

#[test]
fn gateway_counts_only_once_its_cluster_names_it() {
    let key = IdentityKey::from_bytes([3; 32]);
    let mut peer = Peer::new(peering(9), &IdentityKey::from_bytes([4; 32]));
    peer.failures.note("192.0.2.1:9", "Timeout", "no answer", std::time::SystemTime::now());
    let report = Report { epoch: 7, ..Report::default() };
    let mesh: Prefix = "240.2.16.0/20".parse().expect("prefix");
    for named in [false, true] {
        let entry = RemoteGateway { name: "g".parse().expect("name"), endpoints: Vec::new() };
        let snapshot = VerifiedSnapshot {
            cluster: "osaka".parse().expect("cluster ID"),
            version: Version { epoch: 1, generation: u64::from(named) },
            gateways: if named { vec![entry] } else { Vec::new() },
            pod_prefixes: Vec::new(),
            mesh: MeshPrefix::try_from(mesh).expect("a /20"),
            nodes: Vec::new(),
            consents: true,
            drills: false,
            drill: String::new(),
            issued_at: std::time::SystemTime::now(),
            expires_at: std::time::SystemTime::now(),
        };
        let signed = SignedSnapshot { key: key.as_bytes().to_vec(), ..SignedSnapshot::default() };
        let changed = peer
            .take_snapshot(snapshot, SignedSnapshot { payload: vec![u8::from(named)], ..signed });
        assert!(changed);
        let gateway = Gateway { said: Some(report.clone()), fresh: true, ..Gateway::default() };
        peer.gateways.insert("g".parse().expect("name"), gateway);
        peer.settle(&mut TunnelIds::default(), Instant::now());
        assert_eq!(peer.report, named.then(|| report.clone()));
        assert_eq!(peer.failures.list().is_empty(), named);
    }
}

#[test]
fn lanes_are_beside_the_exchange_that_is_known_to_be_reachable() {
    let announced = &["192.0.2.1:31820", "[2001:db8::1]:31820"];
    assert_eq!(endpoint_of(announced, "198.51.100.9:5000", true), "198.51.100.9:5002");
    assert_eq!(endpoint_of(announced, "192.0.2.1:777", false), "192.0.2.1:31822");
    assert_eq!(endpoint_of(announced, "[2001:db8::7]:777", false), "[2001:db8::1]:31822");
    assert_eq!(endpoint_of(announced, "198.51.100.9:777", false), "192.0.2.1:31822");
    assert_eq!(endpoint_of(&[], "198.51.100.9:777", false), "198.51.100.9:40000");
}
