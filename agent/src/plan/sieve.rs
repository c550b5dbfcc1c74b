//! Keeps remote prefixes from swallowing what is our own, and nothing more than that: what is left of
//! them still never leaves in clear.

use std::iter::once;

use carrick_model::{Family, Prefix, mesh};

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
        let id = &cluster.id;
        for prefix in &cluster.prefixes {
            // The form `cluster NAME: ` tells the controller that other clusters are not concerned.
            match sifted.take(prefix, &own) {
                Taken::Whole => {}
                Taken::Without(inside) => sifted.errors.push(format!(
                    "cluster {id}: {prefix} overlaps our own {inside}; it is not routed, and what is \
                     not our own of it is unreachable"
                )),
                Taken::Nothing => sifted.errors.push(format!("cluster {id}: {}", no_range(prefix))),
            }
        }
        let six = cluster.prefixes.iter().any(|prefix| prefix.family() == Family::V6);
        if six && !config.carries_six() {
            sifted.notes.push(format!(
                "cluster {id}: our own pods have no IPv6, so that its IPv6 is unreachable"
            ));
        }
    }
    for prefix in &config.unreachable {
        match sifted.take(prefix, &own) {
            Taken::Whole => {}
            Taken::Without(inside) => {
                sifted.notes.push(format!("{prefix} is unreachable but for our own {inside}"));
            }
            Taken::Nothing => sifted.errors.push(no_range(prefix)),
        }
    }
    sifted.captured.sort_unstable();
    sifted.captured.dedup();
    sifted
}

/// How much of a prefix was captured.
enum Taken {
    Whole,
    /// All but what is our own, of which this is the first.
    Without(Prefix),
    Nothing,
}

impl Sifted {
    fn take(&mut self, prefix: &Prefix, own: &[Prefix]) -> Taken {
        if prefix.is_default_route() || prefix.is_special_use() {
            return Taken::Nothing;
        }
        self.captured.extend(prefix.without(own));
        let inside = own.iter().find(|own| own.overlaps(prefix));
        inside.map_or(Taken::Whole, |inside| Taken::Without(*inside))
    }
}

fn no_range(prefix: &Prefix) -> String {
    format!("{prefix} is no range of pods; it is not routed")
}

/// What must stay as the main table has it: pods of this cluster, and the addresses by which the mesh
/// itself works.
fn own(config: &NodeConfig) -> Vec<Prefix> {
    let gateways = config.gateways.iter().map(|gateway| gateway.address);
    let mesh = [config.mesh.into(), mesh::six(config.mesh).into()];
    let addresses = once(config.node_address).chain(mesh).chain(gateways);
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
                let of_cluster = |text: &String| text.starts_with("cluster osaka: ");
                assert_eq!(told.iter().any(of_cluster), routed, "{told:?}");
            }
        }
    }

    #[test]
    fn what_no_pod_can_have_is_refused() {
        for bad in ["0.0.0.0/0", "::/0", "127.0.0.0/8", "fe80::/64"] {
            let mut config = config();
            config.unreachable = vec![prefix(bad)];
            config.clusters[0].prefixes.push(prefix(bad));
            let Sifted { captured, errors, .. } = sift(&config);
            assert!(!captured.contains(&prefix(bad)), "{bad}");
            let [routed, unreachable] = &errors[..] else { panic!("{bad}: {errors:?}") };
            assert!(routed.starts_with(&format!("cluster osaka: {bad} ")), "{routed}");
            assert!(unreachable.starts_with(bad), "of no cluster: {unreachable}");
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
