//! Links between gateways that trust each other, on loopback.

use std::time::Duration;

use crate::support::{Cluster, address, linked, peering, socket, soon};
use carrick_exchange::book::MAX_ASK;
use carrick_exchange::message::peer::{PeerMessage, Report, peer_message::Kind};
use carrick_exchange::peer::derive;
use carrick_exchange::{Arrival, CloseReason, FrameError, Limits, Link, Protocol, Rules};
use carrick_model::{Role, TunnelKey};

fn report(generation: u64) -> PeerMessage {
    PeerMessage { kind: Some(Kind::Report(Report { generation, ..Report::default() })) }
}

#[tokio::test]
async fn frames_cross_both_ways_and_both_ends_know_each_other() {
    let (paris, osaka) = (Cluster::new("paris"), Cluster::new("osaka"));
    let (a, b) = (paris.gateway("a", &[&osaka]), osaka.gateway("b", &[&paris]));
    let (ours, theirs) = linked(&a, &b, &osaka.pin(Role::Gateway)).await;
    assert_eq!(ours.peer().to_string(), "carrick://osaka/gateway/b");
    assert_eq!(theirs.peer().to_string(), "carrick://paris/gateway/a");
    assert_eq!(theirs.identity(), &paris.identity.public());

    let (left, right) = soon(async {
        tokio::join!(
            ours.channel::<PeerMessage, PeerMessage>(),
            theirs.channel::<PeerMessage, PeerMessage>()
        )
    })
    .await;
    let ((mut left_out, mut left_in), (mut right_out, mut right_in)) =
        (left.expect("channel"), right.expect("channel"));
    right_out.send(&report(7)).await.expect("sent");
    assert_eq!(soon(left_in.receive()).await, Ok(Some(report(7))));
    left_out.send(&report(8)).await.expect("sent");
    assert_eq!(soon(right_in.receive()).await, Ok(Some(report(8))));

    ours.close(&CloseReason::Duplicate);
    assert_eq!(soon(theirs.closed()).await, CloseReason::Duplicate);
    assert_eq!(soon(right_in.receive()).await, Err(FrameError::Closed));
}

#[tokio::test]
async fn both_ends_derive_the_same_preshared_key_and_other_lanes_another() {
    let (paris, osaka) = (Cluster::new("paris"), Cluster::new("osaka"));
    let (a, b) = (paris.gateway("a", &[&osaka]), osaka.gateway("b", &[&paris]));
    let (ours, theirs) = linked(&a, &b, &osaka.pin(Role::Gateway)).await;
    let [one, two, three] = [1, 2, 3].map(|n| TunnelKey::from_bytes([n; 32]));
    let here = derive(|label, context| ours.export(label, context), &one, &two);
    let there = derive(|label, context| theirs.export(label, context), &two, &one);
    assert_eq!(here, there);
    let other = derive(|label, context| ours.export(label, context), &one, &three);
    assert_ne!(here, other);

    let (again, _theirs) = linked(&a, &b, &osaka.pin(Role::Gateway)).await;
    let fresh = derive(|label, context| again.export(label, context), &one, &two);
    assert_ne!(here, fresh, "each connection has secrets of its own");
}

#[tokio::test]
async fn key_exchange_is_post_quantum_where_it_is_required() {
    let (paris, osaka) = (Cluster::new("paris"), Cluster::new("osaka"));
    let (a, b) = (paris.gateway("a", &[&osaka]), osaka.gateway("b", &[&paris]));
    let mut pin = osaka.pin(Role::Gateway);
    pin.post_quantum = true;
    // The judgement refuses whatever was not X25519MLKEM768.
    linked(&a, &b, &pin).await;
}

#[tokio::test]
async fn removed_peer_loses_its_live_link_on_both_sides_and_stays_out() {
    let (paris, osaka) = (Cluster::new("paris"), Cluster::new("osaka"));
    let (a, b) = (paris.gateway("a", &[&osaka]), osaka.gateway("b", &[&paris]));
    let pin = osaka.pin(Role::Gateway);
    let (ours, theirs) = linked(&a, &b, &pin).await;

    b.trust().set(Rules::default());
    assert_eq!(theirs.close_reason(), Some(CloseReason::ClosedHere));
    assert_eq!(soon(ours.closed()).await, CloseReason::Withdrawn);
    let (here, there) = crate::support::reasons(&a, &b, &pin).await;
    assert_eq!((here.as_str(), there.as_str()), ("UnknownIdentity", "UnknownIdentity"));

    b.trust().set(peering(&[&paris]));
    let (ours, theirs) = linked(&a, &b, &pin).await;
    a.trust().set(Rules::default());
    assert_eq!(soon(theirs.closed()).await, CloseReason::Withdrawn);
    assert_eq!(ours.close_reason(), Some(CloseReason::ClosedHere));
    let dialled = soon(a.dial(Protocol::Peer, address(&b), &pin)).await;
    assert_eq!(dialled.expect_err("no longer a peer").reason(), "Withdrawn");
}

#[tokio::test]
async fn new_rules_that_still_allow_a_link_leave_it_alone() {
    let (paris, osaka) = (Cluster::new("paris"), Cluster::new("osaka"));
    let lima = Cluster::new("lima");
    let (a, b) = (paris.gateway("a", &[&osaka]), osaka.gateway("b", &[&paris]));
    let (ours, theirs) = linked(&a, &b, &osaka.pin(Role::Gateway)).await;
    b.trust().set(peering(&[&lima, &paris]));
    assert_eq!((ours.close_reason(), theirs.close_reason()), (None, None));

    let mut named = paris.pin(Role::Gateway);
    named.members = Some(["c".parse().expect("name")].into());
    b.trust().set(Rules { peer: vec![named], ..Rules::default() });
    assert_eq!(soon(ours.closed()).await, CloseReason::Withdrawn, "gateway a was withdrawn");
}

#[tokio::test]
async fn renewed_certificate_serves_the_next_link() {
    let (paris, osaka) = (Cluster::new("paris"), Cluster::new("osaka"));
    let (a, b) = (paris.gateway("a", &[&osaka]), osaka.gateway("b", &[&paris]));
    let pin = osaka.pin(Role::Gateway);
    let (ours, _theirs) = linked(&a, &b, &pin).await;
    a.set_credentials(paris.member("gateway", "a2")).expect("credentials");
    b.set_credentials(osaka.member("gateway", "b2")).expect("credentials");
    let (again, theirs) = linked(&a, &b, &pin).await;
    assert_eq!(again.peer().name.as_str(), "b2");
    assert_eq!(theirs.peer().name.as_str(), "a2");
    assert_eq!(ours.close_reason(), None);
}

#[tokio::test]
async fn silent_address_is_named_with_its_port_and_what_to_check() {
    let (paris, osaka) = (Cluster::new("paris"), Cluster::new("osaka"));
    let a = paris.gateway("a", &[&osaka]);
    let silent = socket();
    let remote = silent.local_addr().expect("address");
    let error = soon(a.dial(Protocol::Peer, remote, &osaka.pin(Role::Gateway))).await;
    let error = error.expect_err("nobody answers");
    assert_eq!(error.reason(), "Timeout");
    let text = error.to_string();
    assert!(text.contains(&remote.to_string()) && text.contains("firewall"), "{text}");
}

#[tokio::test]
async fn one_address_gets_its_share_of_links_and_no_more() {
    let (paris, osaka) = (Cluster::new("paris"), Cluster::new("osaka"));
    let a = paris.gateway("a", &[&osaka]);
    let limits = Limits { per_address: 2, ..Limits::default() };
    let b = osaka.limited(osaka.member("gateway", "b"), peering(&[&paris]), limits);
    let pin = osaka.pin(Role::Gateway);
    let first = linked(&a, &b, &pin).await;
    let _second = linked(&a, &b, &pin).await;
    let third = soon(a.dial(Protocol::Peer, address(&b), &pin)).await;
    assert_eq!(third.expect_err("its share is used up").reason(), "Busy");

    drop(first);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while let Err(error) = a.dial(Protocol::Peer, address(&b), &pin).await {
        assert!(tokio::time::Instant::now() < deadline, "{error}");
    }
}

#[tokio::test]
async fn random_datagrams_disturb_nobody() {
    let (paris, osaka) = (Cluster::new("paris"), Cluster::new("osaka"));
    let (a, b) = (paris.gateway("a", &[&osaka]), osaka.gateway("b", &[&paris]));
    let (ours, theirs) = linked(&a, &b, &osaka.pin(Role::Gateway)).await;
    let noise = socket();
    let mut state = 0x9e37_79b9_u32;
    for size in 0..1400_usize {
        let bytes: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .take(size)
        .collect();
        noise.send_to(&bytes, address(&b)).expect("sent");
    }
    let again = linked(&a, &b, &osaka.pin(Role::Gateway)).await;
    assert_eq!((ours.close_reason(), theirs.close_reason()), (None, None));
    assert_eq!(again.0.close_reason(), None);
}

#[tokio::test]
async fn draining_tells_the_other_end() {
    let (paris, osaka) = (Cluster::new("paris"), Cluster::new("osaka"));
    let (a, b) = (paris.gateway("a", &[&osaka]), osaka.gateway("b", &[&paris]));
    let (ours, _theirs) = linked(&a, &b, &osaka.pin(Role::Gateway)).await;
    b.drain().await;
    assert_eq!(soon(ours.closed()).await, CloseReason::Draining);
}

#[tokio::test]
async fn oversized_and_malformed_frames_end_in_typed_errors() {
    let (paris, osaka) = (Cluster::new("paris"), Cluster::new("osaka"));
    let (a, b) = (paris.gateway("a", &[&osaka]), osaka.gateway("b", &[&paris]));
    let (ours, theirs) = linked(&a, &b, &osaka.pin(Role::Gateway)).await;
    let (left, right) = soon(async {
        tokio::join!(
            ours.channel::<PeerMessage, PeerMessage>(),
            theirs.channel::<Vec<u8>, PeerMessage>()
        )
    })
    .await;
    let ((mut out, mut back), (mut odd, _in)) = (left.expect("channel"), right.expect("channel"));
    let error = "x".repeat(Protocol::Peer.max_frame());
    let big = PeerMessage { kind: Some(Kind::Report(Report { error, ..Report::default() })) };
    assert!(matches!(soon(out.send(&big)).await, Err(FrameError::TooLarge { .. })));
    // As a message of type bytes: field 1, which must hold a Hello and does not.
    odd.send(&vec![0xff; 40]).await.expect("sent");
    assert!(matches!(soon(back.receive()).await, Err(FrameError::Malformed(_))));
}

#[tokio::test]
async fn accepted_arrival_is_a_link() {
    let (paris, osaka) = (Cluster::new("paris"), Cluster::new("osaka"));
    let (a, b) = (paris.gateway("a", &[&osaka]), osaka.gateway("b", &[&paris]));
    let pin = osaka.pin(Role::Gateway);
    let dial = a.dial(Protocol::Peer, address(&b), &pin);
    let (_dialled, incoming) = soon(async { tokio::join!(dial, b.accept()) }).await;
    assert_eq!(incoming.remote, address(&a));
    assert!(matches!(incoming.result, Ok(Arrival::Link(_))));
}

/// Two linked gateways with their channels, so that questions can be asked.
async fn asking() -> (Link, Link) {
    let (paris, osaka) = (Cluster::new("paris"), Cluster::new("osaka"));
    let (a, b) = (paris.gateway("a", &[&osaka]), osaka.gateway("b", &[&paris]));
    let (ours, theirs) = linked(&a, &b, &osaka.pin(Role::Gateway)).await;
    let channels = soon(async {
        tokio::join!(
            ours.channel::<PeerMessage, PeerMessage>(),
            theirs.channel::<PeerMessage, PeerMessage>()
        )
    })
    .await;
    // They, and the exchanges, must outlive the links.
    std::mem::forget((a, b, channels.0.expect("channel"), channels.1.expect("channel")));
    (ours, theirs)
}

#[tokio::test]
async fn questions_are_answered_both_ways_beside_the_channel() {
    let (ours, theirs) = asking().await;
    for (asker, answerer) in [(&ours, &theirs), (&theirs, &ours)] {
        answerer.take_calls(2);
        let answering = async {
            for _ in 0..3 {
                let call = answerer.called().await.expect("a question");
                let (question, reply) = call.read().await.expect("read");
                let answer = [&question[..], b"!"].concat();
                reply.answer(&answer).await.expect("answered");
            }
        };
        let asking = async {
            let both = tokio::join!(asker.call(b"one"), asker.call(b"two"));
            let third = asker.call(&[7; 20_000]).await.expect("answered");
            (both.0.expect("answered"), both.1.expect("answered"), third.len())
        };
        let (answers, ()) = soon(async { tokio::join!(asking, answering) }).await;
        assert_eq!(answers, (b"one!".to_vec(), b"two!".to_vec(), 20_001));
    }
}

#[tokio::test]
async fn questions_wait_for_one_who_takes_none_and_are_bounded() {
    let (ours, theirs) = asking().await;
    let unheard = tokio::time::timeout(Duration::from_millis(50), ours.call(b"anybody?"));
    unheard.await.expect_err("an older release takes no questions");
    let large = vec![0; MAX_ASK + 1];
    let error = soon(ours.call(&large)).await.expect_err("too large");
    assert!(matches!(error, FrameError::TooLarge { limit: MAX_ASK, .. }), "{error}");

    theirs.take_calls(1);
    let mut first = Box::pin(ours.call(b"first"));
    let call = tokio::select! {
        _ = &mut first => panic!("nobody has answered"),
        call = theirs.called() => call.expect("a question"),
    };
    let (question, mut reply) = soon(call.read()).await.expect("read");
    assert_eq!(question, b"first");
    drop(first);
    soon(reply.given_up()).await;
    let answer = reply.answer(b"late").await;
    assert_eq!(answer, Err(FrameError::Closed), "the asker has taken it back");
    theirs.close(&CloseReason::Done);
    assert_eq!(soon(ours.call(b"late")).await, Err(FrameError::Closed));
}
