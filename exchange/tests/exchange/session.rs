//! The rules of one connection between gateways, driven without any network.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::support::Cluster;
use carrick_exchange::message::WirePrefix;
use carrick_exchange::message::peer::{Hello, PeerMessage, Refusal, Report, peer_message::Kind};
use carrick_exchange::message::snapshot::ClusterSnapshot;
use carrick_exchange::peer::{Agreed, Established, Event, Held, Lane, Psk, Session, SessionError};
use carrick_exchange::snapshot::Version;
use carrick_model::{Prefix, Role, TunnelKey};
use proptest::prelude::*;

fn key(n: u8) -> TunnelKey {
    TunnelKey::from_bytes([n; 32])
}

fn lane(index: u32, n: u8) -> Lane {
    Lane { index, key: key(n), port: 31_821 + index as u16 }
}

/// An exporter as both ends of one connection have it.
fn exporter(connection: u8) -> impl Fn(&str, &[u8]) -> Psk {
    move |label, context| {
        let mut secret = [connection; 32];
        for (i, byte) in label.bytes().chain(context.iter().copied()).enumerate() {
            secret[i % 32] = secret[i % 32].wrapping_mul(31) ^ byte;
        }
        secret
    }
}

struct Side {
    session: Session,
    events: Vec<Event>,
}

impl Side {
    fn new(own: &Cluster, peer: &Cluster, lanes: &[Lane], held: &[Held]) -> Self {
        let session = Session::new(
            peer.pin(Role::Gateway),
            own.id.clone(),
            lanes.to_vec(),
            held.to_vec(),
            None,
            Instant::now(),
        );
        Self { session, events: Vec::new() }
    }

    fn take(&mut self, message: PeerMessage, connection: u8) -> Result<(), SessionError> {
        let event = self.session.handle_message(
            message,
            Instant::now(),
            SystemTime::now(),
            exporter(connection),
        )?;
        self.events.extend(event);
        Ok(())
    }

    fn established(&self) -> &Established {
        match &self.events[0] {
            Event::Established(established) => established,
            other => panic!("Hello comes first: {other:?}"),
        }
    }
}

/// Carries frames until both are quiet.
fn talk(a: &mut Side, b: &mut Side, connection: u8) {
    loop {
        match (a.session.poll_message(), b.session.poll_message()) {
            (None, None) => return,
            (from_a, from_b) => {
                from_a.map_or(Ok(()), |m| b.take(m, connection)).expect("b takes it");
                from_b.map_or(Ok(()), |m| a.take(m, connection)).expect("a takes it");
            }
        }
    }
}

fn held(tunnels: &[Agreed]) -> Vec<Held> {
    let one = |t: &Agreed| Held {
        lane: t.remote.index,
        own_key: t.own_key,
        remote_key: t.remote.key,
        psk: t.psk,
    };
    tunnels.iter().map(one).collect()
}

fn connect(
    clusters: (&Cluster, &Cluster),
    lanes: (&[Lane], &[Lane]),
    held: (&[Held], &[Held]),
    connection: u8,
) -> (Vec<Agreed>, Vec<Agreed>) {
    let mut a = Side::new(clusters.0, clusters.1, lanes.0, held.0);
    let mut b = Side::new(clusters.1, clusters.0, lanes.1, held.1);
    talk(&mut a, &mut b, connection);
    (a.established().tunnels.clone(), b.established().tunnels.clone())
}

#[test]
fn tunnels_are_derived_once_and_kept_over_reconnects() {
    let (paris, osaka) = (Cluster::new("paris"), Cluster::new("osaka"));
    let (ours, theirs) = ([lane(0, 1), lane(1, 2)], [lane(0, 3), lane(1, 4)]);
    let (a, b) = connect((&paris, &osaka), (&ours, &theirs), (&[], &[]), 1);
    assert_eq!(a.len(), 2);
    for (x, y) in a.iter().zip(&b) {
        assert_eq!(x.psk, y.psk, "both ends derive the same");
        assert!(!x.kept && !y.kept);
    }
    assert_ne!(a[0].psk, a[1].psk, "each pair of lanes has a key of its own");

    let (again, there) = connect((&paris, &osaka), (&ours, &theirs), (&held(&a), &held(&b)), 2);
    assert!(again.iter().chain(&there).all(|t| t.kept), "a reconnect changes nothing");
    assert_eq!(again[0].psk, a[0].psk);

    // One side was restarted: it has new lanes and knows nothing.
    let fresh = [lane(0, 5), lane(1, 6)];
    let (x, y) = connect((&paris, &osaka), (&ours, &fresh), (&held(&a), &[]), 3);
    assert!(x.iter().chain(&y).all(|t| !t.kept));
    assert_eq!(x[0].psk, y[0].psk);
    assert_ne!(x[0].psk, a[0].psk);

    // One side forgot one tunnel only.
    let (x, y) = connect((&paris, &osaka), (&ours, &theirs), (&held(&a), &held(&b[..1])), 4);
    let kept = |tunnels: &[Agreed]| tunnels.iter().map(|t| t.kept).collect::<Vec<_>>();
    assert_eq!((kept(&x), kept(&y)), (vec![true, false], vec![true, false]));
    assert_eq!(x[1].psk, y[1].psk);
}

#[test]
fn lanes_that_only_one_side_has_stay_unused() {
    let (paris, osaka) = (Cluster::new("paris"), Cluster::new("osaka"));
    let (a, b) =
        connect((&paris, &osaka), (&[lane(0, 1), lane(1, 2)], &[lane(0, 3)]), (&[], &[]), 1);
    assert_eq!((a.len(), b.len()), (1, 1));
    assert_eq!(a[0].remote, lane(0, 3));
}

fn hello(change: impl FnOnce(&mut Hello)) -> PeerMessage {
    let (paris, osaka) = (Cluster::new("paris"), Cluster::new("osaka"));
    let mut side = Side::new(&paris, &osaka, &[lane(0, 9)], &[]);
    let Some(PeerMessage { kind: Some(Kind::Hello(mut hello)) }) = side.session.poll_message()
    else {
        panic!("Hello comes first")
    };
    change(&mut hello);
    PeerMessage { kind: Some(Kind::Hello(hello)) }
}

fn side() -> Side {
    let (paris, osaka) = (Cluster::new("paris"), Cluster::new("osaka"));
    Side::new(&osaka, &paris, &[lane(0, 1)], &[])
}

#[test]
fn newer_version_is_spoken_down_to_ours_or_refused_by_name() {
    let mut fine = side();
    fine.take(hello(|h| h.version = 2), 1).expect("version 2 still speaks 1");
    assert_eq!(fine.established().version, 1);

    let newer = hello(|h| (h.version, h.oldest_version, h.release) = (9, 8, "9.1".to_owned()));
    let error = side().take(newer, 1).expect_err("too new");
    assert_eq!(error.reason(), "VersionMismatch");
    let text = error.to_string();
    assert!(text.contains("8 to 9") && text.contains("9.1") && text.contains("upgrade"), "{text}");
    assert_eq!(error.close_reason().reason(), "Refused");
}

#[test]
fn malformed_hello_is_a_violation() {
    for bad in [
        hello(|h| h.lanes[0].public_key.truncate(31)),
        hello(|h| h.lanes[0].port = 0),
        hello(|h| h.lanes[0].port = 70_000),
        hello(|h| h.lanes.push(h.lanes[0].clone())),
        hello(|h| h.lanes = vec![h.lanes[0].clone(); 65]),
        hello(|h| h.tunnels = vec![Default::default(); 65]),
    ] {
        assert_eq!(side().take(bad, 1).expect_err("malformed").reason(), "Violation");
    }
}

#[test]
fn hello_comes_first_and_once() {
    let report = PeerMessage { kind: Some(Kind::Report(Report::default())) };
    assert_eq!(side().take(report, 1), Err(SessionError::Order));
    let mut twice = side();
    twice.take(hello(|_| ()), 1).expect("first");
    assert_eq!(twice.take(hello(|_| ()), 1), Err(SessionError::Order));
}

#[test]
fn unknown_kinds_are_ignored_but_counted() {
    let mut side = side();
    side.take(hello(|_| ()), 1).expect("hello");
    let flood = (0..1000).find_map(|_| side.take(PeerMessage { kind: None }, 1).err());
    assert_eq!(flood, Some(SessionError::TooFast));
    assert_eq!(side.events.len(), 1);
}

fn snapshot(generation: u64) -> ClusterSnapshot {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    ClusterSnapshot {
        cluster: "osaka".to_owned(),
        audience: "paris".to_owned(),
        epoch: 1,
        generation,
        issued_at: since.as_secs(),
        expires_at: (since + Duration::from_secs(600)).as_secs(),
        mesh_prefix: Some("240.0.16.0/20".parse::<Prefix>().expect("prefix").into()),
        consents: true,
        ..ClusterSnapshot::default()
    }
}

#[test]
fn snapshots_cross_once_and_older_ones_do_not_count() {
    let (paris, osaka) = (Cluster::new("paris"), Cluster::new("osaka"));
    let mut a = Side::new(&paris, &osaka, &[lane(0, 1)], &[]);
    let mut b = Side::new(&osaka, &paris, &[lane(0, 2)], &[]);
    let (new, old) = (osaka.sign(&snapshot(2)), osaka.sign(&snapshot(1)));
    b.session.handle_own_snapshot(&new);
    talk(&mut a, &mut b, 1);
    b.session.handle_own_snapshot(&new);
    assert_eq!(b.session.poll_message(), None, "the same is not sent again");
    b.session.handle_own_snapshot(&old);
    talk(&mut a, &mut b, 1);
    let Event::Snapshot(taken, signed) = &a.events[1] else { panic!("a snapshot") };
    assert_eq!((taken.version, signed), (Version { epoch: 1, generation: 2 }, &new));
    assert!(matches!(&a.events[2], Event::SnapshotRefused(e) if e.reason() == "OlderSnapshot"));

    let Event::Report(told) = &b.events[1] else { panic!("a report: {:?}", b.events) };
    assert_eq!((told.error_epoch, told.error_generation), (1, 1), "about which snapshot");
    assert!(told.error.contains("1.1 of osaka is older than 1.2"), "{}", told.error);

    let report = Report { epoch: 1, generation: 2, ..Report::default() };
    a.session.handle_own_report(&report);
    a.session.handle_own_report(&report);
    talk(&mut a, &mut b, 1);
    let [Event::Report(told)] = &b.events[2..] else { panic!("one report: {:?}", b.events) };
    assert_eq!((told.generation, told.error_generation), (2, 1), "what is refused stays so");

    let newer = osaka.sign(&snapshot(3));
    b.session.handle_own_snapshot(&newer);
    talk(&mut a, &mut b, 1);
    assert_eq!(b.events[3..], [Event::Report(report)], "and is forgotten with a newer one");
}

#[test]
fn pin_that_comes_later_takes_the_snapshot_that_was_refused() {
    let (paris, osaka, rotated) =
        (Cluster::new("paris"), Cluster::new("osaka"), Cluster::new("osaka"));
    let mut a = Side::new(&paris, &osaka, &[lane(0, 1)], &[]);
    let mut b = Side::new(&osaka, &paris, &[lane(0, 2)], &[]);
    b.session.handle_own_snapshot(&rotated.sign(&snapshot(1)));
    talk(&mut a, &mut b, 1);
    assert!(matches!(a.events[1], Event::SnapshotRefused(_)), "{:?}", a.events);
    let mut pin = osaka.pin(Role::Gateway);
    assert_eq!(
        a.session.handle_pin(&pin, Instant::now(), SystemTime::now()),
        None,
        "nothing is new"
    );
    pin.identities.extend(rotated.pin(Role::Gateway).identities);
    let event = a.session.handle_pin(&pin, Instant::now(), SystemTime::now());
    assert!(matches!(event, Some(Event::Snapshot(..))), "{event:?}");
    assert_eq!(a.session.handle_pin(&pin, Instant::now(), SystemTime::now()), None);
}

#[test]
fn clock_that_is_set_later_takes_the_snapshot_that_was_refused() {
    let (paris, osaka) = (Cluster::new("paris"), Cluster::new("osaka"));
    let (now, wall) = (Instant::now(), SystemTime::now());
    let second = Duration::from_secs(1);
    for wrong in [wall - 7200 * second, wall + 7200 * second] {
        let mut a = Side::new(&paris, &osaka, &[lane(0, 1)], &[]);
        a.take(hello(|_| ()), 1).expect("hello");
        let snapshot = PeerMessage { kind: Some(Kind::Snapshot(osaka.sign(&snapshot(1)))) };
        let event = a.session.handle_message(snapshot, now, wrong, exporter(1)).expect("taken");
        assert!(matches!(event, Some(Event::SnapshotRefused(e)) if e.is_of_clocks()));
        let again = a.session.poll_timeout().expect("looked at again");
        assert!(again <= now + 2 * second, "soon");
        while a.session.poll_message().is_some() {}
        assert_eq!(a.session.handle_timeout(again - second, wall), None, "it is not time yet");
        assert_eq!(a.session.handle_timeout(again, wrong), None, "still wrong");
        assert_eq!(a.session.poll_message(), None, "which is not told again and again");
        let again = a.session.poll_timeout().expect("and again");
        let event = a.session.handle_timeout(again, wall);
        assert!(matches!(event, Some(Event::Snapshot(..))), "{event:?}");
        assert_eq!((a.session.poll_timeout(), a.session.handle_timeout(again, wall)), (None, None));
    }
}

#[test]
fn newer_snapshot_takes_the_place_of_one_that_waits_for_a_clock() {
    let (paris, osaka) = (Cluster::new("paris"), Cluster::new("osaka"));
    let (now, wall) = (Instant::now(), SystemTime::now());
    let mut a = Side::new(&paris, &osaka, &[lane(0, 1)], &[]);
    a.take(hello(|_| ()), 1).expect("hello");
    let far = ClusterSnapshot { issued_at: u64::MAX, expires_at: u64::MAX, ..snapshot(1) };
    for (content, waits) in [(far, true), (snapshot(2), false)] {
        let snapshot = PeerMessage { kind: Some(Kind::Snapshot(osaka.sign(&content))) };
        a.session.handle_message(snapshot, now, wall, exporter(1)).expect("taken");
        assert_eq!(a.session.poll_timeout().is_some(), waits);
    }
}

#[test]
fn report_is_cut_to_what_may_be_passed_on() {
    let mut side = side();
    side.take(hello(|_| ()), 1).expect("hello");
    let refusal =
        |prefix: Option<WirePrefix>, reason: &str| Refusal { prefix, reason: reason.to_owned() };
    let good: Prefix = "10.2.0.0/16".parse().expect("prefix");
    let bad = WirePrefix { address: vec![7; 100_000], length: 9 };
    let refused = vec![
        refusal(Some(good.into()), "NotAccepted"),
        refusal(Some(good.into()), &"A".repeat(41)),
        refusal(Some(good.into()), "not a word"),
        refusal(Some(bad), "NotAccepted"),
        refusal(None, "NotAccepted"),
    ];
    let error = "no\n".repeat(100_000);
    let report = Report { epoch: 1, generation: 2, refused, error, ..Report::default() };
    side.take(PeerMessage { kind: Some(Kind::Report(report)) }, 1).expect("taken");
    let Event::Report(kept) = &side.events[1] else { panic!("a report: {:?}", side.events) };
    assert_eq!(kept.refused, [refusal(Some(good.into()), "NotAccepted")]);
    assert_eq!(kept.error, "no".repeat(256));
}

#[test]
fn refused_snapshot_is_reported_to_its_sender() {
    let (paris, osaka) = (Cluster::new("paris"), Cluster::new("osaka"));
    let mut a = Side::new(&paris, &osaka, &[lane(0, 1)], &[]);
    let mut b = Side::new(&osaka, &paris, &[lane(0, 2)], &[]);
    b.session.handle_own_snapshot(&Cluster::new("osaka").sign(&snapshot(1)));
    talk(&mut a, &mut b, 1);
    let Event::Report(report) = &b.events[1] else { panic!("a report: {:?}", b.events) };
    assert!(report.error.contains("not signed"), "{}", report.error);
}

proptest! {
    #[test]
    fn random_frames_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        use carrick_exchange::message::peer::PeerMessage;
        if let Ok(message) = <PeerMessage as prost::Message>::decode(bytes.as_slice()) {
            let mut side = side();
            side.take(hello(|_| ()), 1).expect("hello");
            let _ = side.take(message, 1);
        }
    }
}
