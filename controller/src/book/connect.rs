//! From what was heard of other clusters to what is made of it in this one.

use std::collections::BTreeMap;
use std::sync::Arc;

use carrick_crds::peering::Peering;
use carrick_exchange::book::Imports;
use carrick_model::ClusterId;
use tokio::sync::watch;

use super::{Heard, PeerSight, Sight};
use crate::services::consent::{imports_from, limit};
use crate::services::{RemoteServices, Remotes, Services};

/// Runs until nobody can say any more who the peers are, what they export, or how much `room` there is for it. `namespace`
/// is Carrick's own.
pub async fn connect(
    namespace: String,
    mut sight: watch::Receiver<Option<Sight>>,
    mut heard: watch::Receiver<Heard>,
    mut room: watch::Receiver<Option<usize>>,
    remotes: watch::Sender<Remotes>,
) {
    let mut taken = Taken { namespace, held: BTreeMap::new() };
    loop {
        {
            let (sight, heard) = (sight.borrow_and_update(), heard.borrow_and_update());
            let room = *room.borrow_and_update();
            let new = sight.as_ref().map(|sight| taken.remotes(sight, &heard, room));
            remotes.send_if_modified(|held| {
                let changed = *held != new;
                *held = new;
                changed
            });
        }
        let changed = tokio::select! {
            changed = sight.changed() => changed,
            changed = heard.changed() => changed,
            changed = room.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
    }
}

/// What is taken of each cluster's services, and what that was made from.
struct Taken {
    namespace: String,
    held: BTreeMap<ClusterId, Made>,
}

/// What is taken of one cluster's services.
struct Made {
    peering: Peering,
    imports: Arc<Imports>,
    limit: usize,
    taken: Arc<Services>,
}

impl Taken {
    fn remotes(
        &mut self,
        sight: &Sight,
        heard: &Heard,
        room: Option<usize>,
    ) -> BTreeMap<ClusterId, RemoteServices> {
        self.held.retain(|cluster, _| sight.contains_key(cluster));
        let one = |(cluster, peer): (&ClusterId, &PeerSight)| {
            let services = match heard.get(cluster).and_then(|heard| heard.imports.as_ref()) {
                // Where nothing may be imported from, nothing is asked.
                _ if peer.peering.imports.is_empty() => Some(Arc::default()),
                None => None,
                // Before it is known how much may be imported, nothing of it goes.
                Some(imports) => limit(&peer.peering, room)
                    .map(|limit| self.taken(cluster, &peer.peering, imports, limit)),
            };
            let access = peer.reach.access();
            (cluster.clone(), RemoteServices { services, access })
        };
        sight.iter().map(one).collect()
    }

    fn taken(
        &mut self,
        cluster: &ClusterId,
        peering: &Peering,
        imports: &Arc<Imports>,
        limit: usize,
    ) -> Arc<Services> {
        if let Some(made) = self.held.get(cluster)
            && Arc::ptr_eq(&made.imports, imports)
            && (&made.peering, made.limit) == (peering, limit)
        {
            return made.taken.clone();
        }
        let taken = imports_from(peering, &self.namespace, &imports.services, limit).services;
        let taken: Services =
            taken.into_iter().map(|(name, one)| (name.clone(), one.clone())).collect();
        let (taken, imports) = (Arc::new(taken), imports.clone());
        let made = Made { peering: peering.clone(), imports, limit, taken: taken.clone() };
        self.held.insert(cluster.clone(), made);
        taken
    }
}

#[cfg(test)]
mod tests {
    use carrick_crds::ClusterPeeringSpec;
    use carrick_crds::peering::ServicesSpec;
    use carrick_model::service::ServiceKind;
    use carrick_model::{ExportedService, ServiceName};

    use super::*;
    use crate::book::{Hearing, Reach, Word};
    use crate::scene::Peer;
    use crate::services::Access;

    fn sight(import: &[&str], reach: Reach) -> Sight {
        let import = import.iter().map(|text| (*text).to_owned()).collect();
        let services = Some(ServicesSpec { import, ..ServicesSpec::default() });
        let spec = Peer::new("osaka", &[]).spec(&["10.2.0.0/16"]);
        let peering = Peering::parse(&ClusterPeeringSpec { services, ..spec }).expect("good");
        let cluster = peering.cluster.clone();
        [(cluster, PeerSight { peering, prefixes: None, gateways: Vec::new(), reach })].into()
    }

    fn imports(namespaces: &[&str]) -> Arc<Imports> {
        let service = |namespace: &&str| {
            let name = ServiceName::new(namespace, "hello").expect("name");
            let service = ExportedService::bare(name.clone(), 1, ServiceKind::Headless);
            (name, Arc::new(service))
        };
        let services = namespaces.iter().map(service).collect();
        Arc::new(Imports { services, ..Imports::default() })
    }

    fn heard(imports: Option<Arc<Imports>>) -> Heard {
        [("osaka".parse().expect("id"), Hearing { imports, error: None })].into()
    }

    #[test]
    fn only_what_the_peering_takes_is_taken_and_silence_is_not_nothing() {
        let mut all = Taken { namespace: "carrick-system".to_owned(), held: BTreeMap::new() };
        let mut osaka = |sight: &Sight, heard: &Heard| {
            all.remotes(sight, heard, Some(1)).into_values().next().expect("a peer")
        };
        let shop = sight(&["shop"], Reach::first(Word::Works));
        let silent = osaka(&shop, &Heard::new());
        assert_eq!((silent.services, silent.access), (None, Access::Full));
        let said = heard(Some(imports(&["shop", "other"])));
        let first = osaka(&shop, &said).services.expect("heard");
        let names: Vec<&str> = first.keys().map(ServiceName::namespace).collect();
        assert_eq!(names, ["shop"]);
        let mut broken = shop.clone();
        broken.values_mut().for_each(|peer| peer.reach = Reach::first(Word::Fails));
        let down = osaka(&broken, &said);
        assert!(
            down.access == Access::Lost && Arc::ptr_eq(&down.services.expect("heard"), &first),
            "made once"
        );
        let other =
            osaka(&sight(&["other"], Reach::first(Word::Works)), &said).services.expect("heard");
        assert_eq!(other.keys().next().map(ServiceName::namespace), Some("other"));
        let two = heard(Some(imports(&["shop", "other"])));
        let one = osaka(&sight(&["*"], Reach::first(Word::Works)), &two).services.expect("heard");
        assert_eq!(one.len(), 1, "there is room for one");
        let none = osaka(&sight(&[], Reach::first(Word::Works)), &Heard::new());
        assert_eq!(none.services.expect("nothing may be imported").len(), 0);
        let unknown = all.remotes(&shop, &said, None).into_values().next().expect("a peer");
        assert_eq!(unknown.services, None, "nobody knows how much room there is");
    }
}
