//! Peers that want each other.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use carrick_exchange::message::member::{PeerState, PeeringConfig};
use carrick_gateway::control::plane::Setup;
use tokio::net::UdpSocket;
use tokio::sync::watch;

use crate::site::{Cluster, PATIENCE, Site, peered, read};

#[tokio::test]
async fn two_gateways_agree_on_a_tunnel_and_forward_what_is_accepted() {
    let (paris, osaka) = (Cluster::new("paris", 1), Cluster::new("osaka", 2));
    let (a, b) = peered(&paris, &osaka).await;
    let (here, there) = (a.plane.last().expect("set up"), b.plane.last().expect("set up"));
    let (ours, theirs) = (&here.forwarding.tunnels[0], &there.forwarding.tunnels[0]);
    assert_eq!(ours.psk, theirs.psk, "both ends have the same preshared key");
    assert!(ours.psk.is_some());
    assert_eq!(ours.keepalive, Some(5), "seldom enough to be quiet, often enough to count as up");
    assert_ne!(ours.remote_key, theirs.remote_key);
    let peer = &here.forwarding.peers[0];
    assert_eq!(peer.cluster, osaka.id);
    assert_eq!(peer.prefixes, [osaka.pods(), osaka.mesh()]);
    assert_eq!(peer.tunnels, [ours.id]);
    assert_eq!(here.vxlan.expect("a VXLAN").vni, 51_746);
    assert_eq!(here.forwarding.nodes.len(), 1);
    assert_eq!(a.view.borrow().not_ready, None);

    let report = a.peer(&osaka).expect("reported");
    assert_eq!(report.connections[0].gateway, osaka.gateway());
    assert!(report.snapshot.is_some(), "the controller can verify it itself");
}

#[tokio::test]
async fn tunnels_are_on_the_lanes_that_both_have_and_both_want() {
    let (paris, osaka) = (Cluster::new("paris", 1), Cluster::new("osaka", 2));
    let (a, b) = (Site::start_with(&paris, None, 3), Site::start_with(&osaka, None, 2));
    let wanting = |lanes| PeeringConfig { lanes, ..paris.peering(&osaka, &[b.address]) };
    a.configure(paris.config(1, vec![wanting(0)])).await;
    b.configure(osaka.config(1, vec![osaka.peering(&paris, &[])])).await;
    let both = async |lanes: &[u32]| {
        for site in [&a, &b] {
            site.plane
                .sets_up("the lanes agreed on", |setup| {
                    setup
                        .forwarding
                        .tunnels
                        .iter()
                        .map(|tunnel| tunnel.lane)
                        .eq(lanes.iter().copied())
                })
                .await;
        }
    };
    both(&[0, 1]).await;
    let first = a.plane.last().expect("set up").forwarding.tunnels[0].clone();
    a.configure(paris.config(2, vec![wanting(1)])).await;
    both(&[0]).await;
    a.configure(paris.config(3, vec![wanting(7)])).await;
    both(&[0, 1]).await;
    let last = a.plane.last().expect("set up").forwarding.tunnels[0].clone();
    assert_eq!(first, last, "the tunnel that is in all stays the very same");
}

#[tokio::test]
async fn equal_configuration_touches_nothing() {
    let (paris, osaka) = (Cluster::new("paris", 1), Cluster::new("osaka", 2));
    let (mut a, b) = peered(&paris, &osaka).await;
    // Reports of each other's snapshots may still be on their way.
    a.peer_reports(&osaka, "settled", |peer| peer.report.is_some()).await;
    let (applies, links) = (a.plane.count(), a.view.borrow().counts.links);
    let peering = paris.peering(&osaka, &[b.address]);
    let config = paris.config(7, vec![peering.clone()]);
    // The snapshot is signed anew in `peering`: let it be the very one that is held.
    a.configure(config.clone()).await;
    a.reports("applied 7", |state| state.applied == 7).await;
    let settled = a.plane.count();
    a.configure(carrick_exchange::message::member::GatewayConfig { generation: 8, ..config }).await;
    a.reports("applied 8", |state| state.applied == 8).await;
    assert_eq!((a.plane.count(), settled), (applies, applies));
    assert_eq!(a.view.borrow().counts.links, links, "no new link");
    drop(b);
}

#[tokio::test]
async fn withdrawal_stops_both_sides_within_a_second_and_applying_again_restores() {
    let (paris, osaka) = (Cluster::new("paris", 1), Cluster::new("osaka", 2));
    let (mut a, mut b) = peered(&paris, &osaka).await;
    let began = Instant::now();
    a.configure(paris.config(2, Vec::new())).await;
    b.disconnected(&paris).await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    let there = b.plane.last().expect("set up").forwarding;
    assert_eq!(there.tunnels, [], "nothing is left to carry packets");
    assert!(a.plane.last().expect("set up").forwarding.peers.is_empty());
    b.reports("why", |state| {
        let failures = state.peers.iter().flat_map(|peer| &peer.failures);
        failures.clone().any(|f| f.reason == "Withdrawn" || f.reason == "UnknownIdentity")
    })
    .await;

    a.configure(paris.config(3, vec![paris.peering(&osaka, &[b.address])])).await;
    let began = Instant::now();
    a.connected(&osaka).await;
    b.connected(&paris).await;
    assert!(began.elapsed() < Duration::from_millis(1500), "{:?}", began.elapsed());
}

#[tokio::test]
async fn third_cluster_does_not_disturb_two() {
    let (paris, osaka) = (Cluster::new("paris", 1), Cluster::new("osaka", 2));
    let lima = Cluster::new("lima", 3);
    let (mut a, b) = peered(&paris, &osaka).await;
    let before = a.plane.last().expect("set up").forwarding.tunnels;
    let mut c = Site::start(&lima);
    let links = b.view.borrow().counts.links;
    let peerings = vec![paris.peering(&osaka, &[b.address]), paris.peering(&lima, &[c.address])];
    a.configure(paris.config(2, peerings)).await;
    c.configure(lima.config(1, vec![lima.peering(&paris, &[a.address])])).await;
    c.connected(&paris).await;
    a.connected(&lima).await;
    let after = a.plane.last().expect("set up").forwarding;
    assert_eq!(after.tunnels.len(), 2);
    assert!(after.tunnels.contains(&before[0]), "the first tunnel is as it was");
    assert_eq!(b.view.borrow().counts.links, links);
}

/// Carries datagrams between one client and a server, while it is let.
struct Relay {
    address: SocketAddr,
    open: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

impl Relay {
    async fn to(server: SocketAddr) -> Self {
        let bind = || UdpSocket::bind("127.0.0.1:0");
        let (front, back) = (bind().await.expect("socket"), bind().await.expect("socket"));
        let (front, back) = (Arc::new(front), Arc::new(back));
        let address = front.local_addr().expect("address");
        let (open, gate) = watch::channel(true);
        let task = tokio::spawn(async move {
            let (mut client, mut up, mut down) = (None, vec![0; 2048], vec![0; 2048]);
            loop {
                tokio::select! {
                    Ok((n, from)) = front.recv_from(&mut up) => {
                        client = Some(from);
                        if *gate.borrow() {
                            // What cannot be sent is lost, as on any network.
                            let _ = back.send_to(&up[..n], server).await;
                        }
                    }
                    Ok((n, _)) = back.recv_from(&mut down) => {
                        if let Some(client) = client.filter(|_| *gate.borrow()) {
                            let _ = front.send_to(&down[..n], client).await;
                        }
                    }
                }
            }
        });
        Self { address, open, task }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tokio::test]
async fn link_that_breaks_and_comes_back_leaves_the_tunnel_alone() {
    let (paris, osaka) = (Cluster::new("paris", 1), Cluster::new("osaka", 2));
    let (mut a, mut b) = (Site::start(&paris), Site::start(&osaka));
    let relay = Relay::to(b.address).await;
    a.configure(paris.config(1, vec![paris.peering(&osaka, &[relay.address])])).await;
    b.configure(osaka.config(1, vec![osaka.peering(&paris, &[])])).await;
    a.connected(&osaka).await;
    b.connected(&paris).await;
    a.peer_reports(&osaka, "settled", |peer| peer.report.is_some()).await;
    let (before, applies) = (a.plane.last().expect("set up"), a.plane.count());

    relay.open.send_replace(false);
    let gone = a.view.wait_for(|view| view.links.values().all(|links| *links == 0));
    tokio::time::timeout(PATIENCE, gone).await.expect("in time").expect("control runs");
    a.connected(&osaka).await;
    let gone = b.view.wait_for(|view| view.links.values().all(|links| *links == 0));
    tokio::time::timeout(PATIENCE, gone).await.expect("in time").expect("control runs");

    relay.open.send_replace(true);
    let back = a.view.wait_for(|view| view.links.values().any(|links| *links == 1));
    tokio::time::timeout(PATIENCE, back).await.expect("in time").expect("control runs");
    let measured = |peer: &PeerState| peer.connections.iter().any(|c| c.rtt_micros > 0);
    a.peer_reports(&osaka, "reported again", measured).await;
    assert_eq!(a.plane.last(), Some(before), "the tunnel is the very same");
    assert_eq!(a.plane.count(), applies, "and was never touched");
}

#[tokio::test]
async fn withdrawal_that_is_lost_on_the_way_is_learned_from_the_next_refusal() {
    let (paris, osaka) = (Cluster::new("paris", 1), Cluster::new("osaka", 2));
    let (mut a, mut b) = (Site::start(&paris), Site::start(&osaka));
    let relay = Relay::to(b.address).await;
    a.configure(paris.config(1, vec![paris.peering(&osaka, &[relay.address])])).await;
    b.configure(osaka.config(1, vec![osaka.peering(&paris, &[])])).await;
    a.connected(&osaka).await;
    b.connected(&paris).await;

    relay.open.send_replace(false);
    b.configure(osaka.config(2, Vec::new())).await;
    let gone = a.view.wait_for(|view| view.links.values().all(|links| *links == 0));
    tokio::time::timeout(PATIENCE, gone).await.expect("in time").expect("control runs");
    assert_eq!(a.plane.last().expect("set up").forwarding.tunnels.len(), 1, "it knows no better");
    relay.open.send_replace(true);
    a.disconnected(&osaka).await;
    assert_eq!(a.plane.last().expect("set up").forwarding.tunnels, []);
}

#[tokio::test]
async fn restarted_gateway_goes_on_from_its_last_configuration_with_new_keys() {
    let (paris, osaka) = (Cluster::new("paris", 1), Cluster::new("osaka", 2));
    let folder = tempfile::tempdir().expect("folder");
    let (mut a, mut b) = (Site::start(&paris), Site::start_in(&osaka, Some(folder.path())));
    a.configure(paris.config(1, vec![paris.peering(&osaka, &[])])).await;
    b.configure(osaka.config(1, vec![osaka.peering(&paris, &[a.address])])).await;
    a.connected(&osaka).await;
    b.connected(&paris).await;
    let before = a.plane.last().expect("set up").forwarding.tunnels;

    b.stop().await;
    // Nobody tells it anything: its controller is away.
    let mut again = Site::start_in(&osaka, Some(folder.path()));
    again.connected(&paris).await;
    let renewed = a.state.wait_for(|_| {
        let now = a.plane.last().expect("set up").forwarding.tunnels;
        now.len() == 1 && now[0].remote_key != before[0].remote_key
    });
    tokio::time::timeout(PATIENCE, renewed).await.expect("in time").expect("control runs");
    let theirs = again.plane.last().expect("set up").forwarding.tunnels;
    let ours = a.plane.last().expect("set up").forwarding.tunnels;
    assert_eq!(ours[0].psk, theirs[0].psk);
    assert_ne!(ours[0].psk, before[0].psk, "a new process has new secrets");
}

#[tokio::test]
async fn draining_gateway_says_so_in_its_last_report() {
    let paris = Cluster::new("paris", 1);
    let a = Site::start(&paris);
    let mut state = a.state.clone();
    a.configure(paris.config(1, Vec::new())).await;
    let applied = state.wait_for(|report| read(report).is_some_and(|s| s.applied == 1));
    tokio::time::timeout(PATIENCE, applied).await.expect("in time").expect("control runs");
    a.stop().await;
    assert!(read(&state.borrow()).expect("reported").draining);
}

#[tokio::test]
async fn one_that_is_told_to_end_says_so_and_goes_on_while_it_is_used() {
    let (paris, osaka) = (Cluster::new("paris", 1), Cluster::new("osaka", 2));
    let (a, b) = peered(&paris, &osaka).await;
    a.tell_to_end();
    let draining = |setup: &Setup| {
        let forwarding = &setup.forwarding;
        let told = forwarding.host.as_ref().is_some_and(|host| host.draining);
        told && !forwarding.tunnels.is_empty()
    };
    a.plane.sets_up("draining", draining).await;
    // A packet every 50 ms, for longer than it waits for one.
    for _ in 0..40 {
        a.plane.carried.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!a.has_ended(), "it still carries packets");
    }
    a.stop().await;
    assert!(!b.plane.last().expect("set up").forwarding.tunnels.is_empty(), "the snapshot decides");
    b.stop().await;
}
