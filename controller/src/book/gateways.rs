//! The links of our gateways, as far as questions go by them.

use std::collections::BTreeMap;
use std::sync::Arc;

use carrick_exchange::Link;
use carrick_model::MemberName;
use tokio::sync::watch;

/// The gateways that are linked: one link each, the newest. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Gateways(Arc<watch::Sender<BTreeMap<MemberName, Link>>>);

/// A link's place among the gateways', given back on drop.
#[derive(Debug)]
pub struct Place {
    gateways: Gateways,
    link: Link,
}

impl Gateways {
    /// A gateway's link is up, and its channel is there.
    pub fn enter(&self, link: &Link) -> Place {
        self.0.send_modify(|links| {
            links.insert(link.peer().name.clone(), link.clone());
        });
        Place { gateways: self.clone(), link: link.clone() }
    }

    /// The links, and what tells of changes.
    pub fn watch(&self) -> watch::Receiver<BTreeMap<MemberName, Link>> {
        self.0.subscribe()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let name = &self.link.peer().name;
        self.gateways.0.send_if_modified(|links| {
            let ours = links.get(name).is_some_and(|held| held.id() == self.link.id());
            ours && links.remove(name).is_some()
        });
    }
}
