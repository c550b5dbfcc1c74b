//! What `invite` prints, and when it refuses.

use carrick_crds::condition::Verdict;

use super::*;
use crate::fixture;

fn with_ranges(ranges: &[&str]) -> ClusterIdentity {
    let mut identity = fixture::identity();
    let status = identity.status.as_mut().expect("status");
    let offer = status.cluster_peering.as_mut().expect("offer");
    offer.spec.accept.pod_ranges = ranges.iter().map(|&r| r.to_owned()).collect();
    identity
}

#[test]
fn what_is_printed_can_be_applied_and_accepted() {
    let printed = invite(Some(&fixture::identity()), &InviteArgs::default()).expect("invitation");
    let peering: ClusterPeering = serde_yaml::from_str(&printed.yaml).expect("yaml");
    assert_eq!(peering.metadata.name.as_deref(), Some("paris"));
    assert!(peering.status.is_none());
    let parsed = carrick_crds::peering::Peering::parse(&peering.spec).expect("a good spec");
    assert_eq!(parsed.endpoints[0].to_string(), "192.0.2.1:31820");
    assert_eq!(
        printed.summary,
        "\
# Who applies this lets pods of cluster paris talk to all of its own pods.
#   identity  ed25519:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=
#   pods in   10.1.0.0/16
#   dialled   UDP 192.0.2.1:31820 (and its lanes on the next ports)
# Traffic flows when paris has applied the other cluster's invitation as well.
"
    );
}

#[test]
fn the_object_can_be_named() {
    let named = |name: &str| InviteArgs { name: Some(name.to_owned()), allow_broad: false };
    let printed = invite(Some(&fixture::identity()), &named("from-paris")).expect("invitation");
    assert!(printed.yaml.contains("\n  name: from-paris\n"), "{}", printed.yaml);
    assert!(matches!(
        invite(Some(&fixture::identity()), &named("Not a name")),
        Err(InviteError::Name(_))
    ));
}

#[test]
fn broad_and_public_ranges_need_a_second_thought() {
    for range in ["10.0.0.0/8", "8.8.0.0/16", "172.0.0.0/12", "fd00::/16", "2001:db8::/32"] {
        let identity = with_ranges(&["10.1.0.0/16", range]);
        let refused = invite(Some(&identity), &InviteArgs::default());
        let Err(InviteError::Broad(why)) = refused else { panic!("{range}: {refused:?}") };
        assert!(why.len() == 1 && why[0].contains(range), "{why:?}");

        let allowed = InviteArgs { allow_broad: true, name: None };
        let printed = invite(Some(&identity), &allowed).expect("invitation");
        assert!(printed.summary.contains(&why[0]), "{}", printed.summary);
    }
    for range in ["10.16.0.0/12", "192.168.0.0/16", "100.64.0.0/12", "fd00:1::/48"] {
        invite(Some(&with_ranges(&[range])), &InviteArgs::default()).expect(range);
    }
}

#[test]
fn a_cluster_without_an_offer_says_why() {
    assert_eq!(invite(None, &InviteArgs::default()), Err(InviteError::NoIdentity));

    let mut identity = fixture::identity();
    let status = identity.status.as_mut().expect("status");
    status.cluster_peering = None;
    let unknown = Verdict::no(Reason::PodRangesUnknown, "no node has a spec.podCIDR");
    fixture::set(&mut status.conditions, "Ready", unknown);
    let error = invite(Some(&identity), &InviteArgs::default()).expect_err("no offer");
    assert_eq!(
        error.to_string(),
        "ClusterIdentity `self` offers no ClusterPeering yet: \
         PodRangesUnknown: no node has a spec.podCIDR"
    );
    assert_eq!(error.remedy(), Reason::PodRangesUnknown.remedy());
}

#[test]
fn an_offer_with_a_range_that_is_none_is_refused() {
    let error = invite(Some(&with_ranges(&["ten"])), &InviteArgs::default()).expect_err("no range");
    assert!(matches!(error, InviteError::Malformed(_)), "{error}");
}
