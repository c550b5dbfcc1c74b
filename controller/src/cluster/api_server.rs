//! Where the API server itself answers: by the EndpointSlices of the service `kubernetes`, since where
//! the control plane is no node (managed clouds) nothing else says so.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::discovery::v1::EndpointSlice;

use crate::event::Change;

/// The namespace of the service `kubernetes`.
pub const NAMESPACE: &str = "default";

/// Selects the EndpointSlices of the service `kubernetes`.
pub const SELECTOR: &str = "kubernetes.io/service-name=kubernetes";

/// The most addresses that are kept; of those beyond, the ones that were seen longest ago go.
const LIMIT: usize = 64;

/// The addresses of the API server, those that it had earlier in this term among them: an API server
/// leaves its slice while it restarts, and nothing may change because of that.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ApiServer {
    slices: BTreeMap<String, Vec<IpAddr>>,
    /// Each address once, the one seen longest ago first.
    seen: Vec<IpAddr>,
}

impl ApiServer {
    /// Takes what the watch says: addresses, by slice.
    pub fn take(&mut self, change: Change<Vec<IpAddr>>) {
        match change {
            Change::All(all) => self.slices = all.into_iter().collect(),
            Change::Set(name, addresses) => {
                self.slices.insert(name, addresses);
            }
            Change::Gone(name) => {
                self.slices.remove(&name);
            }
        }
        let now: Vec<IpAddr> = self.slices.values().flatten().copied().collect();
        let fresh = now.iter().any(|address| !self.seen.contains(address));
        if fresh {
            self.seen.retain(|address| !now.contains(address));
            self.seen.extend(now);
            self.seen.drain(..self.seen.len().saturating_sub(LIMIT));
        }
    }

    /// Whether any address is known.
    pub fn is_known(&self) -> bool {
        !self.seen.is_empty()
    }

    /// All addresses that are known.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.seen.iter().copied()
    }
}

/// The addresses in a slice; names, as slices of type FQDN have them, are left out.
pub fn addresses(slice: &EndpointSlice) -> Vec<IpAddr> {
    let all = slice.endpoints.iter().flatten().flat_map(|endpoint| &endpoint.addresses);
    let mut found: Vec<IpAddr> =
        all.filter_map(|text| text.parse().ok()).filter(|a: &IpAddr| !a.is_loopback()).collect();
    found.sort_unstable();
    found.dedup();
    found.truncate(LIMIT);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        [172, 31, 1, last].into()
    }

    fn set(server: &mut ApiServer, slice: &str, addresses: &[IpAddr]) -> Vec<IpAddr> {
        server.take(Change::Set(slice.to_owned(), addresses.to_vec()));
        let mut all: Vec<IpAddr> = server.addresses().collect();
        all.sort_unstable();
        all
    }

    #[test]
    fn a_slice_is_read_and_names_in_it_are_not() {
        let slice: EndpointSlice = serde_json::from_value(serde_json::json!({
            "addressType": "IPv4",
            "endpoints": [
                {"addresses": ["172.31.1.10"], "conditions": {"ready": true}},
                {"addresses": ["172.31.1.10", "api.example.org", "127.0.0.1"]},
                {"addresses": ["fd00::10"]},
            ],
        }))
        .expect("slice");
        assert_eq!(addresses(&slice), [ip(10), "fd00::10".parse().expect("address")]);
    }

    #[test]
    fn an_address_that_leaves_for_a_moment_stays_known() {
        let mut server = ApiServer::default();
        server.take(Change::All(Vec::new()));
        assert!(!server.is_known());
        assert_eq!(set(&mut server, "kubernetes", &[ip(10), ip(11)]), [ip(10), ip(11)]);
        let known = server.seen.clone();
        assert_eq!(set(&mut server, "kubernetes", &[ip(11)]), [ip(10), ip(11)]);
        server.take(Change::Gone("kubernetes".to_owned()));
        assert!(server.is_known());
        assert_eq!(server.seen, known, "nothing changed, not even the order");
    }

    #[test]
    fn what_is_kept_is_bounded_and_the_newest_stay() {
        let mut server = ApiServer::default();
        for last in 0..200 {
            set(&mut server, "kubernetes", &[ip(250), ip(last)]);
        }
        assert_eq!(server.addresses().count(), LIMIT);
        assert!([ip(250), ip(199), ip(150)].iter().all(|a| server.seen.contains(a)));
    }
}
