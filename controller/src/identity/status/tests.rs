//! What is said of our own gateways.

use carrick_exchange::message::member::{GatewayProbe, OffloadState};

use super::*;
use crate::scene::{GATEWAY_UID, Scene};

#[test]
fn what_gateways_leave_to_the_kernel_is_shown_and_a_fallback_is_no_reason_to_write_at_once() {
    let mut scene = Scene::new();
    let shown = |scene: &mut Scene, before: &ClusterIdentityStatus, settled| {
        let plan = scene.step();
        status(&scene.world, &plan, before, None, settled, scene.now)
    };
    let silent = shown(&mut scene, &Default::default(), true);
    assert_eq!(silent.gateways, [], "a release that does not say");
    let report = |scene: &mut Scene, used| {
        let member = scene.world.gateways.values_mut().next().expect("a gateway");
        let offload = |(name, used): (&str, bool)| OffloadState { name: name.to_owned(), used };
        member.state.as_mut().expect("reported").offloads =
            [("device_tcp", true), ("socket_send", used)].map(offload).into();
    };
    report(&mut scene, true);
    let first = shown(&mut scene, &silent, true);
    assert_eq!(first.gateways[0].name, "carrick-gateway-0");
    assert_eq!(first.gateways[0].offloads, ["device_tcp", "socket_send"]);
    assert!(differs_in_substance(&silent, &first), "a gateway that is new is");
    report(&mut scene, false);
    let second = shown(&mut scene, &first, true);
    assert_eq!(second.gateways[0].offloads_off, ["socket_send"]);
    assert!(second != first && !differs_in_substance(&first, &second));
    scene.world.gateways.clear();
    let restarted = shown(&mut scene, &second, false);
    assert_eq!(restarted.gateways, second.gateways, "until everybody could report");
    assert_eq!(shown(&mut scene, &second, true).gateways, []);
}

#[test]
fn a_gateway_that_does_not_answer_nodes_is_shown_with_them_and_one_past_a_bridge() {
    let mut scene = Scene::new();
    let shown = |scene: &mut Scene, before: &ClusterIdentityStatus| {
        let plan = scene.step();
        status(&scene.world, &plan, before, None, true, scene.now)
    };
    let say = |scene: &mut Scene, silent: &'static [&str]| {
        scene.agents_say(|node, state| {
            let silent = silent.contains(&node);
            state.gateways = vec![GatewayProbe {
                gateway: GATEWAY_UID.to_owned(),
                state: if silent { "Silent" } else { "Answers" }.to_owned(),
                shortcut: (node == "n1").then_some(true),
                ..GatewayProbe::default()
            }];
        });
    };
    say(&mut scene, &[]);
    let well = shown(&mut scene, &Default::default());
    assert_eq!((&well.gateways[0].silent_to, well.gateways[0].shortcut), (&vec![], Some(true)));
    say(&mut scene, &["n0"]);
    let silent = shown(&mut scene, &well);
    assert_eq!(silent.gateways[0].silent_to, ["n0"]);
    assert!(differs_in_substance(&well, &silent));
    say(&mut scene, &["n0", "n1"]);
    let more = shown(&mut scene, &silent);
    assert_eq!(more.gateways[0].silent_to, ["n0", "n1"]);
    assert!(!differs_in_substance(&silent, &more));
}
