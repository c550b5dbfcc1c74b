//! What is said of our own gateways.

use carrick_exchange::message::member::OffloadState;

use super::*;
use crate::scene::Scene;

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
