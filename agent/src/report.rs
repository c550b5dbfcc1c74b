//! What the prober found, as the controller hears it.

use std::time::Duration;

use carrick_exchange::message::member::{GatewayProbe, ProbeState, ProbeTarget};

use crate::probe::gateways::Seen;
use crate::probe::prober::{Health, TargetHealth};
use crate::probe::shell::Findings;

/// Whether anything is not well.
pub fn is_alarming(findings: &Findings) -> bool {
    let mut targets = findings.clusters.iter().flat_map(|(_, targets)| targets);
    targets.any(|target| target.health != Health::Well)
}

/// One entry a gateway of ours that is watched; `shortcut` says of one on this node, by its name, whether there is
/// one to it.
pub fn gateways(seen: &[Seen], shortcut: impl Fn(&str) -> Option<bool>) -> Vec<GatewayProbe> {
    let probe = |one: &Seen| GatewayProbe {
        gateway: one.name.clone(),
        state: one.verdict.label().to_owned(),
        rtt_micros: micros(one.rtt),
        shortcut: shortcut(&one.name),
    };
    seen.iter().map(probe).collect()
}

/// One entry a cluster that is probed.
pub fn probes(findings: &Findings) -> Vec<ProbeState> {
    let state = |(cluster, targets): &(carrick_model::ClusterId, Vec<TargetHealth>)| ProbeState {
        cluster: cluster.to_string(),
        targets: targets.iter().map(target).collect(),
    };
    findings.clusters.iter().map(state).collect()
}

fn target(found: &TargetHealth) -> ProbeTarget {
    let reason = match found.health {
        Health::Well => "",
        Health::Ill(reason) => reason.as_str(),
    };
    ProbeTarget {
        address: found.target.octets().to_vec(),
        ok: found.health == Health::Well,
        reason: reason.to_owned(),
        rtt_micros: micros(found.rtt),
        detail: found.detail.clone(),
    }
}

fn micros(rtt: Option<Duration>) -> u64 {
    rtt.map_or(0, |rtt| u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::probe::prober::Reason;

    #[test]
    fn an_ill_target_alarms_and_is_told_with_its_reason() {
        let target = |health| TargetHealth {
            target: Ipv4Addr::new(240, 2, 32, 2),
            health,
            detail: String::new(),
            rtt: Some(Duration::from_millis(20)),
        };
        let id: carrick_model::ClusterId = "osaka".parse().expect("ID");
        let mut findings =
            Findings { version: 1, clusters: vec![(id, vec![target(Health::Well)])] };
        assert!(!is_alarming(&findings));
        assert!(probes(&findings)[0].targets[0].ok);
        findings.clusters[0].1.push(target(Health::Ill(Reason::LargePacketsLost)));
        assert!(is_alarming(&findings));
        let told = &probes(&findings)[0].targets[1];
        assert_eq!((told.ok, told.reason.as_str()), (false, "LargePacketsLost"));
        assert_eq!(
            (told.rtt_micros, told.address.as_slice()),
            (20_000, [240, 2, 32, 2].as_slice())
        );
    }
}
