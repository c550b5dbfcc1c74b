//! The ways to a remote gateway's lanes: one beside each address of its exchange that is known.

use std::net::SocketAddr;

use carrick_exchange::snapshot::RemoteGateway;
use carrick_exchange::wire::Endpoint;
use carrick_gateway_core::PathConfig;
use carrick_gateway_core::config::MOST_ENDPOINTS;

use super::config::Peering;
use super::dialling::Dialling;
use super::peer::Known;

/// Addresses of a gateway's exchange, each with its cost.
#[derive(Debug, Default)]
pub struct Exchanges {
    addresses: Vec<(SocketAddr, u16)>,
    /// What it costs where a name led.
    named: Option<u16>,
}

/// Where lane `index` listens beside an exchange; `None` beyond the last port.
pub fn beside(exchange: SocketAddr, index: u32) -> Option<SocketAddr> {
    let port = u32::from(exchange.port()).checked_add(1)?.checked_add(index)?;
    u16::try_from(port).ok().map(|port| SocketAddr::new(exchange.ip(), port))
}

/// What is known of the gateway `entry`: the addresses that its cluster announces, and those that the
/// peering names and where it answered.
pub fn ends(entry: &RemoteGateway, peering: &Peering, dialling: &Dialling) -> Exchanges {
    let cost = |endpoint: &Endpoint| peering.costs.get(endpoint).copied().unwrap_or_default();
    let ours = peering.endpoints.iter().filter(|end| dialling.is_of(end, &entry.name));
    let mut exchanges = Exchanges::default();
    for endpoint in entry.endpoints.iter().chain(ours) {
        match endpoint {
            Endpoint::Address(address) => {
                if !exchanges.addresses.iter().any(|(known, _)| known == address) {
                    exchanges.addresses.push((*address, cost(endpoint)));
                }
            }
            Endpoint::Name(..) => exchanges.named = Some(cost(endpoint)),
        }
    }
    exchanges
}

impl Exchanges {
    /// The paths to lane `index`, the `best` endpoint first. Their numbers depend on the addresses alone, so
    /// that a path stays what it is whichever is the best.
    pub fn paths(&self, best: SocketAddr, known: &Known, index: u32) -> Vec<PathConfig> {
        let all =
            self.addresses.iter().filter_map(|(end, cost)| Some((beside(*end, index)?, *cost)));
        let mut all: Vec<(SocketAddr, u16)> = all.collect();
        all.sort_by_key(|(_, cost)| *cost);
        all.truncate(MOST_ENDPOINTS);
        if !all.iter().any(|(end, _)| *end == best) {
            let by_name = known.dialled && beside(known.remote, index) == Some(best);
            all.truncate(MOST_ENDPOINTS - 1);
            all.push((best, self.named.filter(|_| by_name).unwrap_or_default()));
        }
        let paths =
            (0..).zip(all).map(|(number, (endpoint, cost))| PathConfig { number, endpoint, cost });
        let (first, others): (Vec<_>, Vec<_>) = paths.partition(|path| path.endpoint == best);
        [first, others].concat()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use carrick_exchange::Pin;
    use carrick_exchange::peer::{DialRole, Established};
    use carrick_model::{IdentityKey, Role};

    use super::*;

    fn key() -> IdentityKey {
        IdentityKey::from_bytes([3; 32])
    }

    fn address(text: &str) -> SocketAddr {
        text.parse().expect(text)
    }

    fn peering(endpoints: &[(&str, u16)]) -> Peering {
        let parse = |(text, cost): &(&str, u16)| {
            let end = text.parse().map(Endpoint::Address);
            (end.unwrap_or_else(|_| Endpoint::Name((*text).to_owned(), 31_820)), *cost)
        };
        let cluster = "osaka".parse().expect("cluster ID");
        Peering {
            pin: Pin::new(cluster, vec![key()], Role::Gateway),
            endpoints: endpoints.iter().map(|one| parse(one).0).collect(),
            accept: Vec::new(),
            max_prefixes: 1,
            snapshot: None,
            keepalive: None,
            lanes: None,
            mtu: None,
            detection: Duration::from_millis(300),
            costs: endpoints.iter().map(parse).filter(|(_, cost)| *cost > 0).collect(),
        }
    }

    fn known(remote: &str) -> Known {
        let established = Established { version: 1, release: String::new(), tunnels: Vec::new() };
        Known {
            established,
            remote: address(remote),
            dialled: true,
            identity: key(),
            post_quantum: true,
        }
    }

    /// The paths to lane 0 with what is announced, what the peering names and what of that has answered.
    fn paths(
        announced: &[&str],
        named: &[(&str, u16)],
        answered: &[usize],
        best: &str,
    ) -> Vec<String> {
        let entry = RemoteGateway {
            name: "g".parse().expect("name"),
            endpoints: announced.iter().map(|end| Endpoint::Address(address(end))).collect(),
        };
        let peering = peering(named);
        let (mut dialling, now) = (Dialling::new(DialRole::AtOnce), Instant::now());
        let wanted = peering.endpoints.iter().map(|end| (end.clone(), None)).collect();
        dialling.retarget(&wanted, true, now);
        for index in answered {
            dialling.connected(&peering.endpoints[*index], &entry.name, now);
        }
        let best = address(best);
        let ends = ends(&entry, &peering, &dialling);
        let exchange = SocketAddr::new(best.ip(), best.port() - 1);
        let paths = ends.paths(best, &known(&exchange.to_string()), 0);
        paths.iter().map(|p| format!("{} {} {}", p.number, p.endpoint, p.cost)).collect()
    }

    #[test]
    fn every_address_that_is_known_to_be_the_gateways_is_a_path_with_its_cost() {
        let announced = &["192.0.2.1:31820", "10.9.0.1:31820"];
        let named = &[("192.0.2.1:31820", 100), ("10.9.0.1:31820", 10), ("198.51.100.1:31820", 5)];
        let expected = ["1 192.0.2.1:31821 100", "0 10.9.0.1:31821 10"];
        assert_eq!(paths(announced, named, &[0], "192.0.2.1:31821"), expected);
        let expected = ["1 10.9.0.1:31821 10", "0 198.51.100.1:31821 5", "2 192.0.2.1:31821 100"];
        assert_eq!(paths(announced, named, &[0, 2], "10.9.0.1:31821"), expected);
    }

    #[test]
    fn where_a_name_led_has_the_names_cost_and_is_among_the_paths_however_many_there_are() {
        let one = paths(&[], &[("gw.osaka.example", 7)], &[0], "192.0.2.9:31821");
        assert_eq!(one, ["0 192.0.2.9:31821 7"]);
        let many: Vec<String> = (1..9).map(|n| format!("192.0.2.{n}:31820")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let paths = paths(&many, &[], &[], "203.0.113.1:31821");
        assert_eq!((paths.len(), paths[0].as_str()), (MOST_ENDPOINTS, "4 203.0.113.1:31821 0"));
    }

    #[test]
    fn ports_end_at_the_last_one() {
        assert_eq!(beside(address("192.0.2.1:65534"), 0), Some(address("192.0.2.1:65535")));
        assert_eq!(beside(address("192.0.2.1:65535"), 0), None);
        assert_eq!(beside(address("192.0.2.1:1"), u32::MAX), None);
    }
}
