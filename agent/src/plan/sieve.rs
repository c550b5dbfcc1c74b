//! Keeps remote prefixes from swallowing what is our own, and nothing more than that: what is left of
//! them still never leaves in clear.

use std::iter::once;

use carrick_model::{Family, Prefix};

use crate::config::NodeConfig;

/// What passed, and what is to be said about it.
#[derive(Debug, Default)]
pub(super) struct Sifted {
    /// All prefixes that packets may leave to by the mesh only. Sorted.
    pub(super) captured: Vec<Prefix>,
    /// What is left out and should not be.
    pub(super) errors: Vec<String>,
    /// What else a person may want to know.
    pub(super) notes: Vec<String>,
}

/// Looks at every remote prefix of `config`.
pub(super) fn sift(config: &NodeConfig) -> Sifted {
    let own = own(config);
    let mut sifted = Sifted::default();
    for cluster in &config.clusters {
        for prefix in &cluster.prefixes {
            if let Some(inside) = sifted.take(prefix, &own) {
                sifted.errors.push(format!(
                    "{prefix} of cluster {} overlaps our own {inside}; it is not routed, and what \
                     is not our own of it is unreachable",
                    cluster.id
                ));
            }
        }
        if cluster.prefixes.iter().any(|prefix| prefix.family() == Family::V6) {
            let id = &cluster.id;
            sifted
                .notes
                .push(format!("IPv6 prefixes of cluster {id} are unreachable: not carried"));
        }
    }
    for prefix in &config.unreachable {
        if let Some(inside) = sifted.take(prefix, &own) {
            let note = format!("{prefix} is unreachable but for our own {inside}");
            sifted.notes.push(note);
        }
    }
    sifted.captured.sort_unstable();
    sifted.captured.dedup();
    sifted
}

impl Sifted {
    /// Captures what of `prefix` is not our own; the result is the first part that is.
    fn take(&mut self, prefix: &Prefix, own: &[Prefix]) -> Option<Prefix> {
        if prefix.is_default_route() || prefix.is_special_use() {
            self.errors.push(format!("{prefix} is no range of pods; it is not routed"));
            return None;
        }
        self.captured.extend(prefix.without(own));
        own.iter().find(|own| own.overlaps(prefix)).copied()
    }
}

/// What must stay as the main table has it: pods of this cluster, and the addresses by which the mesh
/// itself works.
fn own(config: &NodeConfig) -> Vec<Prefix> {
    let gateways = config.gateways.iter().map(|gateway| gateway.address);
    let addresses = once(config.node_address).chain(once(config.mesh.into())).chain(gateways);
    config.pod_prefixes.iter().copied().chain(addresses.map(Prefix::host)).collect()
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::samples::{config, prefix};

    #[test]
    fn what_is_our_own_is_never_captured_and_the_rest_is() {
        for (wide, rest) in [
            ("10.1.0.0/16", None),
            ("10.1.7.0/24", None),
            ("10.0.0.0/8", Some("10.77.0.9")),
            ("192.0.2.0/24", Some("192.0.2.12")),
            ("240.1.0.0/16", Some("240.1.16.3")),
        ] {
            for routed in [false, true] {
                let mut config = config();
                config.unreachable.clear();
                let into = &mut config.unreachable;
                if routed { &mut config.clusters[0].prefixes } else { into }.push(prefix(wide));
                let sifted = sift(&config);
                for own in own(&config) {
                    let captured = sifted.captured.iter().find(|prefix| prefix.overlaps(&own));
                    assert_eq!(captured, None, "{wide}: {own}");
                }
                let holds = |address: IpAddr| sifted.captured.iter().any(|p| p.contains(address));
                assert!(rest.is_none_or(|rest| holds(rest.parse().expect(rest))), "{wide}");
                let (told, silent) = match routed {
                    true => (&sifted.errors, &sifted.notes),
                    false => (&sifted.notes, &sifted.errors),
                };
                assert!(told.iter().any(|text| text.contains(wide)), "{told:?}");
                assert_eq!(silent, &[] as &[String], "{wide}");
            }
        }
    }

    #[test]
    fn what_no_pod_can_have_is_refused() {
        for bad in ["0.0.0.0/0", "::/0", "127.0.0.0/8", "fe80::/64"] {
            let mut config = config();
            config.unreachable = vec![prefix(bad)];
            let sifted = sift(&config);
            assert!(!sifted.captured.contains(&prefix(bad)), "{bad}");
            assert!(sifted.errors.iter().any(|text| text.contains(bad)), "{:?}", sifted.errors);
        }
    }

    #[test]
    fn a_routed_prefix_that_is_cut_has_no_mesh_route() {
        let mut config = config();
        config.clusters[0].prefixes.push(prefix("10.0.0.0/8"));
        let plan = crate::plan::Plan::new(&config, carrick_netlink::GroupSupport::Resilient);
        let routed: Vec<Prefix> = plan.mesh_routes.iter().map(|route| route.destination).collect();
        assert_eq!(routed, [prefix("10.2.0.0/16"), prefix("240.2.32.0/20")]);
    }
}
