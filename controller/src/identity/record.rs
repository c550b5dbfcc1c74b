//! What the controller remembers across restarts, kept in ClusterIdentity's status.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use carrick_crds::identity::{AcceptedRange, NodeAddress, Tombstone};
use carrick_crds::{
    ClusterIdentity, ClusterIdentityStatus, FORGET_ANNOTATION, WITHDRAW_ANNOTATION,
};
use carrick_model::Prefix;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// What is remembered. Entries that cannot be read are dropped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// Each node's mesh address.
    pub mesh: BTreeMap<String, Ipv4Addr>,
    /// What ClusterPeerings accept now, and whose it is: so that a deletion is noticed even when it
    /// happens while no controller runs.
    pub accepted: BTreeMap<Prefix, String>,
    /// What was accepted once and stays unreachable: whose it was, and since when.
    pub tombstones: BTreeMap<Prefix, (String, Timestamp)>,
    /// Carrick is being removed.
    pub withdraw: bool,
    /// Tombstones inside of these are lifted: somebody says that the ranges are not remote any more.
    pub forget: Vec<Prefix>,
}

impl Record {
    /// Reads what an earlier controller wrote. A withdrawal counts only for the `installation` that it
    /// was meant for: ClusterIdentity outlives an uninstall, and the next install is wanted.
    pub fn read(identity: &ClusterIdentity, installation: Option<&str>) -> Self {
        let status = identity.status.clone().unwrap_or_default();
        let annotations = identity.metadata.annotations.as_ref();
        let forgotten = annotations.and_then(|all| all.get(FORGET_ANNOTATION));
        let forgotten = forgotten.map(String::as_str).unwrap_or_default();
        let withdrawn = annotations.and_then(|all| all.get(WITHDRAW_ANNOTATION));
        Self {
            mesh: parse(status.nodes, |node| Some((node.name, node.mesh_address.parse().ok()?))),
            accepted: parse(status.accepted, |a| Some((a.prefix.parse().ok()?, a.cluster_id))),
            tombstones: parse(status.unreachable, |t| {
                Some((t.prefix.parse().ok()?, (t.cluster_id, t.since.0)))
            }),
            withdraw: withdrawn.is_some_and(|meant| installation.is_none_or(|own| own == meant)),
            forget: forgotten.split(',').filter_map(|text| text.trim().parse().ok()).collect(),
        }
    }

    /// Puts the lasting part into a status.
    pub fn write(&self, status: &mut ClusterIdentityStatus) {
        let node = |(name, address): (&String, &Ipv4Addr)| NodeAddress {
            name: name.clone(),
            mesh_address: address.to_string(),
        };
        status.nodes = self.mesh.iter().map(node).collect();
        let accepted = |(prefix, cluster): (&Prefix, &String)| AcceptedRange {
            prefix: prefix.to_string(),
            cluster_id: cluster.clone(),
        };
        status.accepted = self.accepted.iter().map(accepted).collect();
        let tombstone = |(prefix, (cluster, since)): (&Prefix, &(String, Timestamp))| Tombstone {
            prefix: prefix.to_string(),
            cluster_id: cluster.clone(),
            since: Time(*since),
        };
        status.unreachable = self.tombstones.iter().map(tombstone).collect();
    }
}

fn parse<T, K: Ord, V>(list: Vec<T>, entry: impl Fn(T) -> Option<(K, V)>) -> BTreeMap<K, V> {
    list.into_iter().filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let record = Record {
            mesh: BTreeMap::from([("n1".to_owned(), Ipv4Addr::new(240, 0, 0, 2))]),
            accepted: BTreeMap::from([(
                "10.2.0.0/16".parse().expect("prefix"),
                "osaka".to_owned(),
            )]),
            tombstones: BTreeMap::from([(
                "10.3.0.0/16".parse().expect("prefix"),
                ("lima".to_owned(), Timestamp::from_second(5).expect("time")),
            )]),
            withdraw: false,
            forget: Vec::new(),
        };
        let mut identity = ClusterIdentity::new("self", Default::default());
        let mut status = ClusterIdentityStatus::default();
        record.write(&mut status);
        identity.status = Some(status);
        assert_eq!(Record::read(&identity, None), record);
    }

    #[test]
    fn ranges_to_forget_are_read_from_the_annotation() {
        let mut identity = ClusterIdentity::new("self", Default::default());
        let text = "10.2.0.0/16, nonsense,10.3.0.0/16".to_owned();
        identity.metadata.annotations =
            Some(BTreeMap::from([(FORGET_ANNOTATION.to_owned(), text)]));
        let read = Record::read(&identity, None).forget;
        assert_eq!(
            read.iter().map(Prefix::to_string).collect::<Vec<_>>(),
            ["10.2.0.0/16", "10.3.0.0/16"]
        );
    }

    #[test]
    fn nonsense_is_dropped_and_the_annotation_counts_for_its_installation_only() {
        let mut identity = ClusterIdentity::new("self", Default::default());
        let nonsense = NodeAddress { name: "n".to_owned(), mesh_address: "x".to_owned() };
        let nodes = vec![nonsense];
        identity.status = Some(ClusterIdentityStatus { nodes, ..Default::default() });
        identity.metadata.annotations =
            Some(BTreeMap::from([(WITHDRAW_ANNOTATION.to_owned(), "yes".to_owned())]));
        let record = Record::read(&identity, Some("yes"));
        assert!(record.mesh.is_empty() && record.withdraw);
        assert!(!Record::read(&identity, Some("another installation")).withdraw);
    }
}
