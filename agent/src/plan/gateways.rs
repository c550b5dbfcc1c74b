//! Which gateways carry a cluster's packets: what they say themselves counts before what the controller
//! last knew, those whose tunnels to it work best come first, and who says nothing is used last.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use crate::config::{Cluster, Gateway, NodeConfig};
use crate::probe::gateways::{Reached, Verdict, Verdicts};

/// How fit a gateway is, the best first. Only the best that there are are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fitness {
    /// It has a tunnel that works so well; 0 is best. Gateways call one worse at once and better after a
    /// while, so that flows need not wait here.
    Carries(u8),
    /// It has one, and leaves.
    Leaves(u8),
    /// It has one, and may fall silent again.
    Returns(u8),
    /// It had one, and has not answered since a moment.
    Silent,
}

/// The outer addresses of the gateways to use, ascending; none: the cluster is unreachable.
pub(super) fn chosen(config: &NodeConfig, cluster: &Cluster, verdicts: &Verdicts) -> Vec<IpAddr> {
    let fit = |gateway: &Gateway| Some((fitness(gateway, cluster, verdicts)?, gateway.address));
    let mut fit: Vec<(Fitness, IpAddr)> = config.gateways.iter().filter_map(fit).collect();
    fit.sort_unstable();
    fit.dedup();
    let best = fit.first().map(|(fitness, _)| *fitness);
    fit.into_iter().filter(|(of, _)| Some(*of) == best).map(|(_, address)| address).collect()
}

/// What is known of the gateways after the agent began anew: one that was not in use before (`used`, by outer
/// address; `None` when nothing was) is not, before it has answered.
pub fn remembered(
    config: &NodeConfig,
    verdicts: &Verdicts,
    used: Option<&BTreeSet<IpAddr>>,
) -> Verdicts {
    let mut verdicts = verdicts.clone();
    let Some(used) = used else { return verdicts };
    let unused = |gateway: &&Gateway| gateway.answers && !used.contains(&gateway.address);
    for gateway in config.gateways.iter().filter(unused) {
        let verdict = verdicts.entry(gateway.name.clone()).or_default();
        if *verdict == Verdict::Unknown {
            *verdict = Verdict::Silent { gone: false };
        }
    }
    verdicts
}

fn fitness(gateway: &Gateway, cluster: &Cluster, verdicts: &Verdicts) -> Option<Fitness> {
    let listed = cluster.gateways.contains(&gateway.name);
    // A gateway that is not to be watched is none of whom more is known.
    let verdict =
        gateway.mesh.and_then(|_| verdicts.get(&gateway.name)).unwrap_or(&Verdict::Unknown);
    let rank = |reach: &Option<Arc<Reached>>| match reach {
        Some(reached) => {
            reached.get(&cluster.router.octets()).copied().filter(|_| cluster.routable)
        }
        None => listed.then_some(0),
    };
    match verdict {
        Verdict::Unknown => listed.then_some(Fitness::Carries(0)),
        Verdict::Answers { reach, draining: false } => rank(reach).map(Fitness::Carries),
        Verdict::Answers { reach, draining: true } => rank(reach).map(Fitness::Leaves),
        Verdict::Returns { reach } => rank(reach).map(Fitness::Returns),
        Verdict::Silent { gone } => (listed && !gone).then_some(Fitness::Silent),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::config;

    const OSAKA: [u8; 4] = [240, 2, 32, 1];

    fn answers(reach: &[[u8; 4]], draining: bool) -> Verdict {
        let reach = reach.iter().map(|router| (*router, 0)).collect();
        Verdict::Answers { reach: Some(Arc::new(reach)), draining }
    }

    fn ranked(rank: u8, draining: bool) -> Verdict {
        Verdict::Answers { reach: Some(Arc::new([(OSAKA, rank)].into())), draining }
    }

    /// Which of the sample's two gateways are used, by the last byte of their addresses.
    fn used(listed: &[&str], a: Verdict, b: Verdict) -> Vec<u8> {
        let mut config = config();
        for (gateway, last) in config.gateways.iter_mut().zip([254, 253]) {
            gateway.mesh = Some([240, 1, 31, last].into());
        }
        config.clusters[0].gateways = listed.iter().map(|name| (*name).to_owned()).collect();
        let verdicts = [("gw-a".to_owned(), a), ("gw-b".to_owned(), b)].into();
        let last = |address: IpAddr| match address {
            IpAddr::V4(v4) => v4.octets()[3],
            IpAddr::V6(_) => 0,
        };
        chosen(&config, &config.clusters[0], &verdicts).into_iter().map(last).collect()
    }

    #[test]
    fn a_gateways_own_word_counts_before_the_controllers() {
        let (both, none): (&[&str], &[&str]) = (&["gw-a", "gw-b"], &[]);
        assert_eq!(used(both, Verdict::Unknown, Verdict::Unknown), [5, 6]);
        assert_eq!(used(both, answers(&[OSAKA], false), answers(&[], false)), [5]);
        assert_eq!(used(none, answers(&[OSAKA], false), Verdict::Unknown), [5]);
        assert_eq!(used(both, answers(&[], false), answers(&[], false)), [] as [u8; 0]);
        let many = Verdict::Answers { reach: None, draining: false };
        assert_eq!(used(&["gw-b"], many.clone(), many), [6], "as the controller says");
    }

    #[test]
    fn one_that_leaves_or_falls_silent_is_used_where_no_other_is_left() {
        let both = &["gw-a", "gw-b"];
        let (well, leaves) = (answers(&[OSAKA], false), answers(&[OSAKA], true));
        let silent = |gone| Verdict::Silent { gone };
        assert_eq!(used(both, well.clone(), leaves.clone()), [5]);
        assert_eq!(used(both, leaves.clone(), silent(false)), [5]);
        assert_eq!(used(both, leaves, answers(&[], false)), [5]);
        assert_eq!(used(both, well, silent(false)), [5]);
        assert_eq!(used(both, silent(false), silent(false)), [5, 6]);
        assert_eq!(used(both, silent(false), silent(true)), [5]);
        assert_eq!(used(both, silent(true), silent(true)), [] as [u8; 0]);
    }

    #[test]
    fn one_that_returns_is_used_where_no_other_is_left_whatever_the_controller_knew() {
        let returns = |reach: &[[u8; 4]]| match answers(reach, false) {
            Verdict::Answers { reach, .. } => Verdict::Returns { reach },
            other => other,
        };
        let silent = |gone| Verdict::Silent { gone };
        let (both, second): (&[&str], &[&str]) = (&["gw-a", "gw-b"], &["gw-b"]);
        assert_eq!(used(second, returns(&[OSAKA]), silent(true)), [5]);
        assert_eq!(used(second, returns(&[OSAKA]), silent(false)), [5], "it answers");
        assert_eq!(used(both, returns(&[OSAKA]), answers(&[OSAKA], true)), [6]);
        assert_eq!(used(both, returns(&[]), silent(false)), [6], "it reaches nobody");
        assert_eq!(used(both, Verdict::Returns { reach: None }, silent(true)), [5]);
    }

    #[test]
    fn one_whose_tunnels_are_poor_is_used_where_none_is_better() {
        let both = &["gw-a", "gw-b"];
        assert_eq!(used(both, ranked(1, false), ranked(0, false)), [6]);
        assert_eq!(used(both, ranked(1, false), ranked(2, false)), [5]);
        assert_eq!(used(both, ranked(2, false), ranked(2, false)), [5, 6]);
        assert_eq!(used(both, ranked(2, false), ranked(0, true)), [5], "that one leaves");
        assert_eq!(used(both, ranked(2, false), Verdict::Silent { gone: false }), [5]);
        assert_eq!(used(both, ranked(2, false), answers(&[], false)), [5]);
        // Of an older release nobody knows how well it does.
        assert_eq!(used(both, ranked(1, false), Verdict::Unknown), [6]);
    }

    #[test]
    fn who_is_not_peered_with_is_not_reached_whoever_says_so() {
        let mut config = config();
        config.gateways[0].mesh = Some([240, 1, 31, 254].into());
        config.clusters[0].gateways.clear();
        config.clusters[0].routable = false;
        let verdicts = [("gw-a".to_owned(), answers(&[OSAKA], false))].into();
        assert_eq!(chosen(&config, &config.clusters[0], &verdicts), [] as [IpAddr; 0]);
    }
}
