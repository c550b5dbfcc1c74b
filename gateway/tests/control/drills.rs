//! Failover drills that the controller orders.

use carrick_exchange::message::drill::FaultOrder;
use carrick_exchange::message::member::GatewayConfig;
use carrick_gateway::dataplane::Effect;

use crate::site::{Cluster, peered};

#[tokio::test]
async fn a_drill_hits_the_tunnels_to_its_peer_and_ends_when_it_is_no_longer_ordered() {
    let (paris, osaka) = (Cluster::new("paris", 1), Cluster::new("osaka", 2));
    let (mut a, b) = peered(&paris, &osaka).await;
    let config = paris.config(2, vec![paris.peering(&osaka, &[b.address])]);
    let order = FaultOrder {
        id: "d".to_owned(),
        gateway: "gw".to_owned(),
        cluster: "osaka".to_owned(),
        outbound: true,
        loss_permille: 100,
        length_milliseconds: 60_000,
        not_after: u32::MAX.into(),
        ..FaultOrder::default()
    };
    let with = |generation, drill: Option<FaultOrder>| GatewayConfig {
        generation,
        drill: drill.map(Box::new),
        ..config.clone()
    };
    let theirs = FaultOrder { gateway: "another".to_owned(), ..order.clone() };
    a.configure(with(2, Some(theirs))).await;
    a.reports("applied", |state| state.applied == 2 && state.drill.is_none()).await;
    assert_eq!(a.plane.injected.lock().expect("plane").len(), 0, "another's drill");

    a.configure(with(3, Some(order))).await;
    a.reports("it runs", |state| {
        state.drill.as_ref().is_some_and(|drill| drill.id == "d" && drill.from > 0 && drill.to == 0)
    })
    .await;
    let fault = a.plane.injected.lock().expect("plane").last().cloned().flatten();
    let Effect::Path { tunnels, weather, .. } = fault.expect("a fault").effect else {
        panic!("paths are hit");
    };
    let ours = a.plane.last().expect("set up").forwarding.tunnels[0].id;
    assert_eq!((tunnels, weather.loss), ([ours].into(), 100));

    a.configure(with(4, None)).await;
    a.reports("it is over", |state| state.applied == 4 && state.drill.is_none()).await;
    assert_eq!(a.plane.injected.lock().expect("plane").last(), Some(&None));
}
