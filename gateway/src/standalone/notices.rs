//! News about Carrick peers for the log: what went wrong, each once while it stays so.

use std::collections::{BTreeMap, BTreeSet};

use carrick_exchange::message::member::{ConnectFailure, GatewayState};
use carrick_exchange::message::peer::Report;
use carrick_exchange::wire;
use carrick_model::ClusterId;

/// The most prefixes that one line names.
const NAMED: usize = 8;

/// What has been said and still holds.
#[derive(Debug, Default)]
pub(super) struct Notices {
    said: BTreeSet<String>,
}

impl Notices {
    /// The lines that are new. `told` is what peers are told of their snapshots.
    pub fn look(
        &mut self,
        state: &GatewayState,
        told: &BTreeMap<ClusterId, Report>,
    ) -> Vec<String> {
        let mut now = BTreeSet::new();
        let mut lines = Vec::new();
        let mut note = |key: String, line: String| {
            if !self.said.contains(&key) {
                lines.push(line);
            }
            now.insert(key);
        };
        for error in &state.errors {
            note(error.clone(), error.clone());
        }
        for peer in &state.peers {
            let cluster = &peer.cluster;
            for ConnectFailure { endpoint, reason, message, .. } in &peer.failures {
                let key = format!("{cluster} {endpoint} {reason}");
                note(
                    key,
                    format!("cluster {cluster}: no link with {endpoint}: {reason}: {message}"),
                );
            }
            for line in peer.report.iter().flat_map(lines_of) {
                let line = format!("cluster {cluster} does not take of what we announce: {line}");
                note(line.clone(), line);
            }
        }
        for (cluster, report) in told {
            for line in lines_of(report) {
                let line = format!("of what cluster {cluster} announces is not taken: {line}");
                note(line.clone(), line);
            }
        }
        self.said = now;
        lines
    }
}

/// What a report says is not taken.
fn lines_of(report: &Report) -> Vec<String> {
    let named = report.refused.iter().take(NAMED).filter_map(|refusal| {
        let prefix = wire::prefix(refusal.prefix.as_ref()?, "refused").ok()?;
        Some(format!("{prefix} ({})", refusal.reason))
    });
    let mut list = named.collect::<Vec<_>>().join(", ");
    if report.refused.len() > NAMED {
        list.push_str(&format!(" and {} more", report.refused.len() - NAMED));
    }
    [list, report.error.clone()].into_iter().filter(|line| !line.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use carrick_exchange::message::member::PeerState;
    use carrick_exchange::message::peer::Refusal;
    use carrick_model::Prefix;

    use super::*;

    fn state(failures: Vec<ConnectFailure>) -> GatewayState {
        let peer = PeerState { cluster: "osaka".to_owned(), failures, ..Default::default() };
        GatewayState { peers: vec![peer], ..Default::default() }
    }

    #[test]
    fn what_goes_on_is_said_once_and_again_when_it_comes_back() {
        let (mut notices, none) = (Notices::default(), BTreeMap::new());
        let failure = |at| ConnectFailure {
            endpoint: "192.0.2.2:51819".to_owned(),
            reason: "WrongIdentity".to_owned(),
            message: "another key".to_owned(),
            at,
        };
        let lines = notices.look(&state(vec![failure(1)]), &none);
        assert_eq!(lines.len(), 1);
        for part in ["osaka", "192.0.2.2:51819", "WrongIdentity", "another key"] {
            assert!(lines[0].contains(part), "{part}: {lines:?}");
        }
        assert_eq!(notices.look(&state(vec![failure(2)]), &none), [""; 0]);
        assert_eq!(notices.look(&state(Vec::new()), &none), [""; 0]);
        assert_eq!(notices.look(&state(vec![failure(9)]), &none).len(), 1);
    }

    #[test]
    fn refused_prefixes_are_named_up_to_a_number() {
        let prefix: Prefix = "10.7.0.0/16".parse().expect("prefix");
        let refusal = Refusal { prefix: Some(prefix.into()), reason: "OutsideAccept".to_owned() };
        let report = Report { refused: vec![refusal; NAMED + 3], ..Default::default() };
        let told = [("osaka".parse().expect("cluster ID"), report)].into();
        let lines = Notices::default().look(&state(Vec::new()), &told);
        assert!(lines[0].contains("10.7.0.0/16 (OutsideAccept)"), "{lines:?}");
        assert!(lines[0].contains("and 3 more") && lines[0].contains("osaka"), "{lines:?}");
    }
}
