//! Which clusters serve, and how they take turns.

use super::*;

fn wanting(policy: &str, export: ExportedService) -> ExportedService {
    ExportedService { policy: policy.parse().expect("policy"), ..export }
}

/// Paris and osaka export the service by this policy.
fn both(policy: &str) -> World {
    let mut world = World::new().exporting();
    let service = wanting(policy, exported(5, 80, "10.1.0.5"));
    world.own = Some(Ok(Discovered { service, places: BTreeMap::new(), surplus: 0 }));
    let mut world = world.hears("osaka", Some(wanting(policy, exported(6, 80, "10.2.0.5"))));
    world.settle();
    world
}

fn wish(world: &mut World, policy: &str) {
    world.held.import.as_mut().expect("an import").policy = Some(policy.parse());
}

fn deletions(writes: &BTreeMap<What, Write>) -> usize {
    writes.values().filter(|write| matches!(write, Write::Delete(_))).count()
}

#[test]
fn what_this_cluster_wants_counts_more_than_what_exports_want() {
    let mut world = both("PreferLocal");
    assert_eq!(world.sources(), ["paris"]);
    wish(&mut world, "Failover: osaka, paris");
    world.settle();
    assert_eq!(world.sources(), ["osaka"]);
    world.held.import.as_mut().expect("an import").policy = None;
    world.settle();
    assert_eq!(world.sources(), ["paris"]);
}

#[test]
fn whoever_could_serve_on_leaves_after_the_next_has_come_and_the_dead_at_once() {
    let mut world = both("PreferLocal");
    wish(&mut world, "Failover: osaka, paris");
    let writes = world.plan().writes;
    assert_eq!(
        (writes.keys().filter(|w| matches!(w, What::Slice(_))).count(), deletions(&writes)),
        (1, 0)
    );
    world.settle();
    // Of a last resort nobody knows whether it begins or ends.
    for access in [Access::LastResort, Access::Lost] {
        world.remote("osaka").access = access;
        let writes = world.plan().writes;
        assert_eq!((writes.len(), deletions(&writes)), (2, 1), "{writes:?}");
    }
    world.settle();
    assert_eq!(world.sources(), ["paris"]);
}

#[test]
fn a_wish_that_nobody_understands_is_answered_and_all_serve() {
    let mut world = both("PreferLocal");
    wish(&mut world, "Nearest");
    world.settle();
    let mut sources = world.sources();
    sources.sort_unstable();
    assert_eq!(sources, ["osaka", "paris"]);
    let conditions = |world: &World| world.held.import.as_ref().expect("import").conditions.clone();
    let said = conditions(&world);
    let said = said.iter().find(|held| held.type_ == "carrick.dev/PolicyAccepted").expect("said");
    assert_eq!((said.status.as_str(), said.reason.as_str()), ("False", "InvalidPolicy"));
    world.held.import.as_mut().expect("an import").policy = None;
    world.settle();
    assert_eq!(conditions(&world).len(), 1, "nothing is left of it");
}

#[test]
fn after_a_start_the_policy_stands_although_its_cluster_has_not_spoken() {
    let mut world = World::new().exporting();
    world = world.hears("osaka", Some(wanting("PreferLocal", exported(1, 80, "10.2.0.5"))));
    world = world.hears("lima", Some(exported(9, 80, "10.3.0.5")));
    world.settle();
    assert_eq!(world.sources(), ["paris"], "the oldest export decides");
    assert_eq!(world.said("Conflict"), ("True", "PolicyConflict"));
    world.remote("osaka").services = None;
    assert_eq!(world.plan().writes, BTreeMap::new());
    world.remote("osaka").access = Access::Lost;
    assert_eq!(world.plan().writes, BTreeMap::new());
}

#[test]
fn a_cluster_without_a_ready_pod_is_in_no_slice() {
    let mut idle = exported(6, 80, "10.2.0.5");
    let mut world = World::new().hears("osaka", Some(idle.clone()));
    world.settle();
    (idle.groups[0].endpoints[0].ready, idle.groups[0].endpoints[0].serving) = (false, false);
    let mut world = world.hears("osaka", Some(idle));
    world.settle();
    assert_eq!(world.sources(), [""; 0]);
    assert!(world.held.derived.is_some(), "clients are refused by its address");
}

#[test]
fn a_cluster_that_is_just_back_serves_only_where_no_other_does() {
    let mut world = both("Balanced");
    world.remote("osaka").access = Access::Lost;
    world.settle();
    world.remote("osaka").access = Access::LastResort;
    assert_eq!(world.plan().writes, BTreeMap::new(), "paris serves");
    world.own = None;
    world.export = None;
    world.settle();
    assert_eq!(world.sources(), ["osaka"]);
    world.remote("osaka").access = Access::Full;
    assert_eq!(world.plan().writes, BTreeMap::new(), "it is written already");
}
