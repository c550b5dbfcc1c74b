//! Mesh addresses: each node has one, and keeps it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use carrick_model::MeshPrefix;
use carrick_model::mesh::MESH_NODES;

/// Gives each of `nodes` an address of `mesh`: the one it holds already, or else the lowest free one,
/// in the order of names. Nodes beyond [`MESH_NODES`] get none. An address that two nodes hold (a
/// status edited by hand) stays with the first.
pub fn allocate<'a>(
    mesh: &MeshPrefix,
    held: &BTreeMap<String, Ipv4Addr>,
    nodes: impl Iterator<Item = &'a String> + Clone,
) -> BTreeMap<String, Ipv4Addr> {
    let mut taken: BTreeSet<Ipv4Addr> = BTreeSet::new();
    let mut out = BTreeMap::new();
    for name in nodes.clone() {
        if let Some(address) = held.get(name).filter(|a| is_node_address(mesh, **a))
            && taken.insert(*address)
        {
            out.insert(name.clone(), *address);
        }
    }
    let mut free = (0..MESH_NODES).filter_map(|i| mesh.node(i));
    for name in nodes {
        if !out.contains_key(name)
            && let Some(address) = free.find(|address| taken.insert(*address))
        {
            out.insert(name.clone(), address);
        }
    }
    out
}

fn is_node_address(mesh: &MeshPrefix, address: Ipv4Addr) -> bool {
    let first = u32::from(mesh.router()) + 1;
    (first..first + MESH_NODES).contains(&u32::from(address))
}

#[cfg(test)]
mod tests {
    use carrick_model::{IdentityKey, Prefix};
    use proptest::prelude::*;

    use super::*;

    fn mesh() -> MeshPrefix {
        MeshPrefix::for_identity(&IdentityKey::from_bytes([1; 32]))
    }

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|s| (*s).to_owned()).collect()
    }

    #[test]
    fn a_node_keeps_its_address_when_others_come_and_go() {
        let first = allocate(&mesh(), &BTreeMap::new(), names(&["b", "c"]).iter());
        let second = allocate(&mesh(), &first, names(&["a", "c"]).iter());
        assert_eq!(first["c"], second["c"]);
        assert_eq!(second["a"], first["b"], "the lowest free address is used again");
    }

    #[test]
    fn another_prefix_makes_addresses_anew() {
        let held = BTreeMap::from([("a".to_owned(), Ipv4Addr::new(10, 0, 0, 1))]);
        let out = allocate(&mesh(), &held, names(&["a"]).iter());
        assert!(mesh().prefix().contains(out["a"].into()));
    }

    #[test]
    fn a_full_prefix_leaves_nodes_without() {
        let many: Vec<String> = (0..MESH_NODES + 2).map(|i| format!("n{i:05}")).collect();
        assert_eq!(allocate(&mesh(), &BTreeMap::new(), many.iter()).len(), MESH_NODES as usize);
    }

    proptest! {
        #[test]
        fn addresses_are_unique_inside_and_never_the_routers(
            held in prop::collection::btree_map("[a-d]", 0u32..20, 0..4),
            now in prop::collection::btree_set("[a-h]", 0..8),
        ) {
            let prefix: Prefix = mesh().prefix();
            let std::net::IpAddr::V4(base) = prefix.address() else { unreachable!("IPv4") };
            let held: BTreeMap<_, _> = held
                .into_iter()
                .map(|(n, i)| (n, Ipv4Addr::from(u32::from(base) + i)))
                .collect();
            let out = allocate(&mesh(), &held, now.iter());
            prop_assert_eq!(out.len(), now.len());
            let unique: BTreeSet<_> = out.values().collect();
            prop_assert_eq!(unique.len(), out.len());
            prop_assert!(out.values().all(|a| is_node_address(&mesh(), *a)));
        }
    }
}
