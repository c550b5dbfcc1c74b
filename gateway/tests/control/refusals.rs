//! Peers that one side does not want, or not so.

use carrick_exchange::message::WireEndpoint;
use carrick_exchange::message::member::{GatewayConfig, PeeringConfig};
use carrick_exchange::snapshot::MAX_SKEW;
use carrick_model::Prefix;

use crate::site::{Cluster, PATIENCE, Site, peered};

/// Waits until `site` reports a failure with this reason for `peer`, and returns its text.
async fn failure(site: &mut Site, peer: &Cluster, reason: &str) -> String {
    let id = peer.id.to_string();
    site.reports(reason, |state| {
        let mut peers = state.peers.iter().filter(|p| p.cluster == id);
        peers.any(|p| p.failures.iter().any(|f| f.reason == reason))
    })
    .await;
    let failures = site.peer(peer).expect("reported").failures;
    failures.into_iter().find(|f| f.reason == reason).expect("just seen").message
}

/// Waits until a peer has told `site` of an error with its snapshot, or of none, that fits.
async fn told(site: &mut Site, what: &str, fits: impl Fn(&str) -> bool) {
    site.reports(what, |state| {
        let mut reports = state.peers.iter().filter_map(|peer| peer.report.as_ref());
        reports.any(|report| fits(&report.error))
    })
    .await;
}

#[tokio::test]
async fn silent_endpoint_is_named_with_its_port() {
    let (paris, osaka) = (Cluster::new("paris", 1), Cluster::new("osaka", 2));
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").expect("socket");
    let address = silent.local_addr().expect("address");
    let mut a = Site::start(&paris);
    a.configure(paris.config(1, vec![paris.peering(&osaka, &[address])])).await;
    let text = failure(&mut a, &osaka, "Timeout").await;
    assert!(text.contains(&address.to_string()), "{text}");
}

#[test]
fn name_that_does_not_resolve_is_named() {
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    runtime.block_on(dial_nobody());
    // The resolver's own time-out is longer than ours; nobody has to wait for its thread.
    runtime.shutdown_background();
}

async fn dial_nobody() {
    let (paris, osaka) = (Cluster::new("paris", 1), Cluster::new("osaka", 2));
    let mut a = Site::start(&paris);
    let endpoint = WireEndpoint { host: "gateway.invalid".to_owned(), port: 31_820 };
    let peering = PeeringConfig { endpoints: vec![endpoint], ..paris.peering(&osaka, &[]) };
    a.configure(paris.config(1, vec![peering])).await;
    let text = failure(&mut a, &osaka, "NameNotResolved").await;
    assert!(text.contains("gateway.invalid:31820") && text.contains("DNS"), "{text}");
}

#[tokio::test]
async fn one_sided_peering_is_unknown_there_and_connects_at_once_when_applied() {
    let (paris, osaka) = (Cluster::new("paris", 1), Cluster::new("osaka", 2));
    let (mut a, mut b) = (Site::start(&paris), Site::start(&osaka));
    b.configure(osaka.config(1, Vec::new())).await;
    a.configure(paris.config(1, vec![paris.peering(&osaka, &[b.address])])).await;
    failure(&mut a, &osaka, "UnknownIdentity").await;
    let began = std::time::Instant::now();
    b.configure(osaka.config(2, vec![osaka.peering(&paris, &[a.address])])).await;
    b.connected(&paris).await;
    a.connected(&osaka).await;
    assert!(began.elapsed() < std::time::Duration::from_millis(1500), "{:?}", began.elapsed());
    let left = a.peer(&osaka).expect("reported").failures;
    assert!(left.is_empty(), "what is over is forgotten: {left:?}");
}

#[tokio::test]
async fn wrong_identity_shows_on_both_sides() {
    let (paris, osaka) = (Cluster::new("paris", 1), Cluster::new("osaka", 2));
    let thief = Cluster::new("paris", 1);
    let (mut a, mut b) = (Site::start(&thief), Site::start(&osaka));
    a.configure(thief.config(1, vec![thief.peering(&osaka, &[b.address])])).await;
    b.configure(osaka.config(1, vec![osaka.peering(&paris, &[])])).await;
    let here = failure(&mut a, &osaka, "WrongIdentity").await;
    let there = failure(&mut b, &paris, "WrongIdentity").await;
    let pinned = paris.identity.public().to_string();
    assert!(here.contains(&pinned) && there.contains(&pinned), "{here} / {there}");
    assert_eq!(b.plane.last().expect("set up").forwarding.tunnels, []);
}

#[tokio::test]
async fn wrong_cluster_id_shows_on_both_sides_whoever_dials() {
    let (paris, osaka) = (Cluster::new("paris", 1), Cluster::new("osaka", 2));
    let oslo = Cluster::new("oslo", 3);
    for paris_dials in [true, false] {
        let (mut a, mut b) = (Site::start(&paris), Site::start(&osaka));
        let (to_b, to_a) =
            if paris_dials { (vec![b.address], vec![]) } else { (vec![], vec![a.address]) };
        let misnamed =
            PeeringConfig { cluster: oslo.id.to_string(), ..paris.peering(&osaka, &to_b) };
        a.configure(paris.config(1, vec![misnamed])).await;
        b.configure(osaka.config(1, vec![osaka.peering(&paris, &to_a)])).await;
        let here = failure(&mut a, &oslo, "WrongCluster").await;
        let there = failure(&mut b, &paris, "WrongCluster").await;
        for text in [&here, &there] {
            assert!(text.contains("spec.clusterID oslo") && text.contains("osaka"), "{text}");
        }
        assert!(there.contains("the other side refuses us"), "{there}");
    }
}

#[tokio::test]
async fn announcement_outside_accept_is_refused_and_reported_to_the_announcer() {
    let (paris, osaka) = (Cluster::new("paris", 1), Cluster::new("osaka", 2));
    let (mut a, mut b) = (Site::start(&paris), Site::start(&osaka));
    let stray: Prefix = "172.16.0.0/16".parse().expect("prefix");
    let mut snapshot = paris.snapshot(&osaka, 1);
    snapshot.pod_prefixes.push(stray.into());
    let mut greedy = paris.peering(&osaka, &[b.address]);
    greedy.snapshot = Some(paris.sign(&snapshot));
    a.configure(paris.config(1, vec![greedy])).await;
    b.configure(osaka.config(1, vec![osaka.peering(&paris, &[])])).await;
    b.connected(&paris).await;
    a.reports("refusal", |state| {
        let reports = state.peers.iter().filter_map(|peer| peer.report.as_ref());
        let mut refused = reports.flat_map(|report| &report.refused);
        refused.any(|r| r.reason == "OutsideAccept" && r.prefix == Some(stray.into()))
    })
    .await;
    let forwarding = b.plane.last().expect("set up").forwarding;
    assert_eq!(forwarding.peers[0].prefixes, [paris.pods(), paris.mesh()]);
}

#[tokio::test]
async fn snapshot_that_the_cluster_did_not_sign_is_refused_and_reported() {
    let (paris, osaka) = (Cluster::new("paris", 1), Cluster::new("osaka", 2));
    let (mut a, mut b) = (Site::start(&paris), Site::start(&osaka));
    let mut stolen = paris.peering(&osaka, &[b.address]);
    stolen.snapshot = Some(Cluster::new("paris", 1).sign(&paris.snapshot(&osaka, 9)));
    a.configure(paris.config(1, vec![stolen])).await;
    b.configure(osaka.config(1, vec![osaka.peering(&paris, &[])])).await;
    told(&mut a, "refused as a whole", |error| error.contains("not signed")).await;
    b.peer_reports(&paris, "linked", |peer| !peer.connections.is_empty()).await;
    let forwarding = b.plane.last().expect("set up").forwarding;
    assert!(forwarding.peers.is_empty() && forwarding.tunnels.is_empty());
}

#[tokio::test]
async fn snapshot_that_is_early_is_taken_once_the_clocks_agree() {
    let (paris, osaka) = (Cluster::new("paris", 1), Cluster::new("osaka", 2));
    let (mut a, mut b) = (Site::start(&paris), Site::start(&osaka));
    let mut snapshot = paris.snapshot(&osaka, 1);
    // Time itself sets it right here.
    snapshot.issued_at += MAX_SKEW.as_secs() + 3;
    snapshot.expires_at = snapshot.issued_at + 600;
    let mut early = paris.peering(&osaka, &[b.address]);
    early.snapshot = Some(paris.sign(&snapshot));
    a.configure(paris.config(1, vec![early])).await;
    b.configure(osaka.config(1, vec![osaka.peering(&paris, &[])])).await;
    told(&mut a, "refused as a whole", |error| error.contains("set the clocks")).await;
    b.connected(&paris).await;
    told(&mut a, "no longer refused", str::is_empty).await;
}

#[tokio::test]
async fn gateway_that_its_cluster_does_not_name_gets_no_tunnel() {
    let (paris, osaka) = (Cluster::new("paris", 1), Cluster::new("osaka", 2));
    let (a, mut b) = peered(&paris, &osaka).await;
    let mut withdrawn = paris.snapshot(&osaka, 2);
    withdrawn.gateways.clear();
    let mut peering = paris.peering(&osaka, &[b.address]);
    peering.snapshot = Some(paris.sign(&withdrawn));
    a.configure(paris.config(2, vec![peering])).await;
    b.disconnected(&paris).await;
    assert_eq!(b.plane.last().expect("set up").forwarding.tunnels, []);
}

#[tokio::test]
async fn peer_that_no_longer_consents_is_not_forwarded_to() {
    let (paris, osaka) = (Cluster::new("paris", 1), Cluster::new("osaka", 2));
    let (a, mut b) = peered(&paris, &osaka).await;
    let mut suspended = paris.snapshot(&osaka, 2);
    suspended.consents = false;
    let mut peering = paris.peering(&osaka, &[b.address]);
    peering.snapshot = Some(paris.sign(&suspended));
    a.configure(paris.config(2, vec![peering])).await;
    b.disconnected(&paris).await;
    assert!(b.plane.last().expect("set up").forwarding.peers.is_empty());
}

#[tokio::test]
async fn configuration_that_cannot_be_used_is_reported_and_the_last_one_stays() {
    let (paris, osaka) = (Cluster::new("paris", 1), Cluster::new("osaka", 2));
    let (mut a, _b) = peered(&paris, &osaka).await;
    let before = a.plane.last();
    let mut broken = paris.config(2, Vec::new());
    broken.mesh_prefix = None;
    a.configure(broken).await;
    a.reports("refused", |state| state.errors.iter().any(|e| e.contains("mesh_prefix"))).await;
    assert_eq!(a.plane.last(), before);
}

#[tokio::test]
async fn former_set_up_is_applied_again_after_one_that_failed() {
    let paris = Cluster::new("paris", 1);
    let mut a = Site::start(&paris);
    a.configure(paris.config(1, Vec::new())).await;
    a.reports("applied", |state| state.applied == 1).await;
    let before = a.plane.count();
    *a.plane.refuse.lock().expect("plane") = Some("no route to the node".to_owned());
    a.configure(GatewayConfig { mtu: 1400, ..paris.config(2, Vec::new()) }).await;
    a.reports("refused", |state| state.errors.iter().any(|e| e.contains("no route"))).await;
    *a.plane.refuse.lock().expect("plane") = None;
    a.configure(paris.config(3, Vec::new())).await;
    a.reports("back", |state| state.applied == 3 && state.errors.is_empty()).await;
    assert_eq!(a.plane.count(), before + 1, "what stood after the failure is not known");
    assert_eq!(a.plane.last().expect("a set-up").forwarding.mtu, 1420);
}

#[tokio::test]
async fn packet_path_that_refuses_is_reported_and_tried_again() {
    let paris = Cluster::new("paris", 1);
    let mut a = Site::start(&paris);
    *a.plane.refuse.lock().expect("plane") = Some("no /dev/net/tun".to_owned());
    a.configure(paris.config(1, Vec::new())).await;
    a.reports("refused", |state| state.errors.iter().any(|e| e.contains("/dev/net/tun"))).await;
    assert!(a.view.borrow().not_ready.is_some());
    *a.plane.refuse.lock().expect("plane") = None;
    let ready = a.view.wait_for(|view| view.not_ready.is_none());
    tokio::time::timeout(PATIENCE, ready).await.expect("in time").expect("control runs");
}
