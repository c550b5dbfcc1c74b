//! Files that are taken, and refusals with line and field.

use carrick_exchange::ClusterIdentity;

use super::*;

const KEY: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
const OTHER: &str = "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=";

fn good() -> String {
    format!(
        "interface:\n  name: wan0\n  addresses: [10.9.0.1/24]\nprivate_key: {KEY}\n\
         listen_port: 51820\npeers:\n- public_key: {OTHER}\n  endpoint: 192.0.2.1:51820\n  \
         allowed_prefixes:\n  - 10.9.0.2/32\n"
    )
}

fn read_text(text: &str) -> Result<Config, FileError> {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), text).expect("written");
    Config::read(&file.path().to_owned())
}

/// Replaces once in the good file and returns the refusal.
fn refused(what: &str, by: &str) -> String {
    let text = good();
    assert!(text.contains(what), "{what}");
    read_text(&text.replacen(what, by, 1)).expect_err(by).to_string()
}

#[test]
fn a_good_file_is_taken_with_defaults() {
    let config = read_text(&good()).expect("a good file");
    assert_eq!((config.interface.mtu, config.interface.routes), (None, true));
    let endpoint = Endpoint::Address("192.0.2.1:51820".parse().expect("address"));
    assert_eq!(config.plain_peers().next().expect("a peer").1.endpoint, Some(endpoint));
}

#[test]
fn the_example_is_a_good_file() {
    let config = read_text(EXAMPLE).expect("the example");
    assert!(config.metrics.is_some() && config.peers.len() == 2);
    assert_eq!(config.carrick_peers().count(), 1);
}

#[test]
fn two_peers_of_one_name_are_refused() {
    let third = "BAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQ=";
    let peer = |key: &str, name: &str, host: u8| {
        format!("- public_key: {key}\n  name: {name}\n  allowed_prefixes: [10.8.0.{host}/32]\n")
    };
    let twice = good() + &peer(third, "peer-02020202", 7);
    let error = read_text(&twice).expect_err("a name twice").to_string();
    assert!(error.contains("peers[1].name") && error.contains("peers[0]"), "{error}");
    assert!(read_text(&(good() + &peer(third, "laptop", 7))).is_ok());
}

#[test]
fn what_is_wrong_is_named_with_field_and_line() {
    let cases = [
        ("10.9.0.2/32", "10.9.0.2/24", ["peers[0].allowed_prefixes[0]", "line 10", "10.9.0.0/24"]),
        ("192.0.2.1:51820", "192.0.2.1", ["peers[0].endpoint", "line 8", "address:port"]),
        ("192.0.2.1:51820", "192.0.2.1:0", ["peers[0].endpoint", "line 8", "from 1 to"]),
        ("listen_port: 51820", "listen_port: 70000", ["listen_port", "line 5", "u16"]),
        (OTHER, "abc", ["peers[0].public_key", "line 7", "base64"]),
        ("name: wan0", "nam: wan0", ["interface", "line 2", "unknown field `nam`"]),
        ("10.9.0.1/24", "10.9.0.1.1/24", ["interface.addresses[0]", "line 3", "10.9.0.1.1/24"]),
    ];
    for (what, by, expected) in cases {
        let error = refused(what, by);
        for text in expected {
            assert!(error.contains(text), "{by}: {text:?} is not in: {error}");
        }
    }
}

#[test]
fn contradictions_are_named_with_field_and_remedy() {
    let second = format!("- public_key: {OTHER}\n  allowed_prefixes: []\npeers:");
    let error = refused("peers:", &format!("peers:\n{}", &second[..second.len() - 7]));
    assert!(error.contains("peers[1].public_key"), "{error}");
    assert!(refused("10.9.0.2/32", "0.0.0.0/0").contains("interface.routes"));
    assert!(refused(&format!("private_key: {KEY}"), "").contains("carrick-gateway key"));
    assert!(refused("name: wan0", "name: wan0\n  mtu: 500").contains("interface.mtu"));
    let both = format!("private_key: {KEY}\nprivate_key_file: /nowhere");
    assert!(refused(&format!("private_key: {KEY}"), &both).contains("private_key_file"));
}

#[test]
fn secrets_are_neither_printed_nor_quoted_in_errors() {
    let config = read_text(&good()).expect("a good file");
    assert!(!format!("{config:?}").contains("AQEB"));
    let error = refused(KEY, "AQEBnot-a-key");
    assert!(!error.contains("AQEB") && error.contains("line 4"), "{error}");
}

const PEM: &str = "|\n  -----BEGIN PRIVATE KEY-----\n  \
                   MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n  \
                   -----END PRIVATE KEY-----";
/// The public half of it (RFC 8410, section 10.3).
const OWN: &str = "ed25519:Gb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=";

/// A file with a plain peer and a Carrick one, which begins on line 16.
fn mixed() -> String {
    format!(
        "interface:\n  name: wan0\n  addresses: [10.9.0.1/24]\nprivate_key: {KEY}\n\
         listen_port: 51820\ncluster: edge-1\nidentity: {PEM}\nannounce: [10.50.0.0/16]\npeers:\n\
         - public_key: {OTHER}\n  name: laptop\n  allowed_prefixes: [10.20.0.0/16]\n\
         - carrick: osaka\n  identities: ['ed25519:{OTHER}']\n  endpoints: ['192.0.2.7:31820']\n  \
         accept: [172.20.0.0/16]\n"
    )
}

#[test]
fn plain_and_carrick_peers_mix_and_ports_follow_from_each_other() {
    let config = read_text(&mixed()).expect("a good file");
    assert_eq!((config.exchange.port, config.listen_port), (Some(51_819), 51_820));
    assert_eq!(config.identity.as_ref().expect("an identity").public().to_string(), OWN);
    let (index, osaka) = config.carrick_peers().next().expect("a Carrick peer");
    assert_eq!((index, osaka.cluster.as_str(), osaka.max_prefixes), (1, "osaka", 32));
    let everything = mixed()
        .replace("name: wan0", "name: wan0\n  routes: false")
        .replace("10.20.0.0/16", "0.0.0.0/0");
    assert!(read_text(&everything).is_ok(), "a default route leaves room for a Carrick peer");
    let exchange = mixed().replace("listen_port: 51820", "exchange: {port: 4000}");
    let config = read_text(&exchange).expect("a good file");
    assert_eq!((config.exchange.port, config.listen_port), (Some(4000), 4001));
    let start = exchange.find("- public_key").expect("the plain peer");
    let end = exchange.find("- carrick").expect("the Carrick peer");
    let alone = [&exchange[..start], &exchange[end..]].concat();
    let keyless = alone.replace(&format!("private_key: {KEY}\n"), "");
    assert!(read_text(&keyless).is_ok(), "lanes make their keys in memory");
}

#[test]
fn what_is_wrong_with_a_carrick_peer_is_named_with_field_and_line() {
    let identity = format!("ed25519:{OTHER}");
    let cases: [(&str, &str, [&str; 3]); 9] = [
        ("carrick: osaka", "carrick: Osaka", ["peers[1].carrick", "line 16", "1-63"]),
        (&identity, OTHER, ["peers[1].identities[0]", "line 17", "ed25519:"]),
        ("192.0.2.7:31820", "192.0.2.7", ["peers[1].endpoints[0]", "line 18", "port"]),
        ("172.20.0.0/16", "172.20.0.1/16", ["peers[1].accept[0]", "line 19", "172.20.0.0/16"]),
        ("  accept:", "  acept:", ["peers[1]", "line 19", "unknown field `acept`"]),
        ("  accept: [172.20.0.0/16]\n", "", ["peers[1]", "line 16", "missing field `accept`"]),
        ("carrick: osaka", "name: osaka", ["peers[1]", "line 16", "identities: only a Carrick"]),
        ("  name: laptop", "  mtu: 1400", ["peers[0]", "line 13", "mtu: only a Carrick"]),
        ("cluster: edge-1", "cluster: edge_1", ["cluster", "line 6", "edge_1"]),
    ];
    for (what, by, expected) in cases {
        let text = mixed();
        assert!(text.contains(what), "{what}");
        let error = read_text(&text.replacen(what, by, 1)).expect_err(by).to_string();
        for part in expected {
            assert!(error.contains(part), "{by}: {part:?} is not in: {error}");
        }
    }
}

#[test]
fn contradictions_around_the_exchange_are_named_with_field_and_remedy() {
    let second =
        "- carrick: lima\n  identities: ['ed25519:AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM=']\n";
    let and = |more: &str| format!("172.20.0.0/16]\n{second}{more}");
    let identity = format!("ed25519:{OTHER}");
    let cases: [(&str, &str, [&str; 2]); 21] = [
        ("cluster: edge-1\n", "", ["peers[1].carrick", "give `cluster`"]),
        ("carrick: osaka", "carrick: edge-1", ["peers[1].carrick", "our own"]),
        ("carrick: osaka", "carrick: laptop", ["peers[1].carrick", "peers[0]"]),
        (&identity, OWN, ["peers[1].identities", "our own identity"]),
        ("identity: |", "identity_file: a\nidentity: |", ["identity_file", "remove one"]),
        ("listen_port: 51820", "listen_port: 0", ["listen_port", "exchange.port"]),
        ("listen_port: 51820", "listen_port: 1", ["exchange.port", "from 1"]),
        ("cluster:", "exchange: {port: 51820}\ncluster:", ["exchange.port", "port of lane 0"]),
        ("cluster:", "exchange: {port: 51000}\ncluster:", ["exchange.port", "make it 51819"]),
        ("172.20.0.0/16", "10.20.7.0/24", ["peers[1].accept", "allowed to peers[0]"]),
        ("172.20.0.0/16", "10.0.0.0/8", ["peers[1].accept", "overlaps"]),
        ("172.20.0.0/16", "10.50.1.0/24", ["peers[1].accept", "what we announce"]),
        ("172.20.0.0/16", "10.9.0.0/25", ["peers[1].accept", "interface.addresses"]),
        ("172.20.0.0/16", "0.0.0.0/0", ["peers[1].accept", "0.0.0.0/0"]),
        ("172.20.0.0/16", "192.0.2.0/24", ["peers[1].accept", "own endpoint"]),
        ("10.50.0.0/16", "127.0.0.0/8", ["announce", "no peer takes"]),
        ("  accept:", "  max_prefixes: 0\n  accept:", ["peers[1]", "max_prefixes: must be"]),
        ("  accept:", "  lanes: 0\n  accept:", ["peers[1]", "lanes: must be"]),
        ("  accept:", "  mtu: 100\n  accept:", ["peers[1]", "mtu: must be from 1280"]),
        ("172.20.0.0/16]", &and("  accept: [172.20.1.0/24]"), ["peers[2].accept", "peers[1]"]),
        ("osaka", "osaka.", ["peers[1].carrick", "label"]),
    ];
    for (what, by, expected) in cases {
        let text = mixed();
        assert!(text.contains(what), "{what}");
        let error = read_text(&text.replacen(what, by, 1)).expect_err(by).to_string();
        for part in expected {
            assert!(error.contains(part), "{by}: {part:?} is not in: {error}");
        }
    }
    let twice = mixed() + &second.replace("lima", "osaka") + "  accept: []\n";
    assert!(read_text(&twice).expect_err("twice").to_string().contains("peers[2].carrick"));
    let shared =
        mixed() + &format!("- carrick: lima\n  identities: ['{identity}']\n  accept: []\n");
    assert!(read_text(&shared).expect_err("shared").to_string().contains("peers[2].identities"));
    assert!(read_text(&(mixed() + second + "  accept: []\n")).is_ok());
}

#[test]
fn an_identity_is_read_from_its_file_and_never_quoted() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("identity.key");
    let text = mixed().replace(&format!("identity: {PEM}"), &format!("identity_file: {path:?}"));
    let missing = read_text(&text).expect_err("no file").to_string();
    assert!(missing.contains("identity.key"), "{missing}");
    let made = crate::standalone::identity(&path).expect("made");
    let config = read_text(&text).expect("a good file");
    assert_eq!(config.identity.as_ref().expect("an identity").public(), made);
    assert!(!format!("{config:?}").contains("PRIVATE"));
    let broken = mixed().replace("MC4CAQAwBQYD", "MC4Caaaaaaaa");
    let error = read_text(&broken).expect_err("broken").to_string();
    assert!(error.contains("identity") && error.contains("line 7"), "{error}");
    assert!(!error.contains("MC4C"), "{error}");
}

#[test]
fn what_is_fixed_while_the_gateway_runs_is_named() {
    let config = |text: &str| read_text(text).expect("a good file");
    let before = config(&mixed());
    let after = |what: &str, by: &str| config(&mixed().replacen(what, by, 1));
    assert_eq!(before.needs_restart(&before), None);
    assert_eq!(before.needs_restart(&after("edge-1", "edge-2")), Some("cluster"));
    assert_eq!(before.needs_restart(&after("172.20.", "172.21.")), None);
    let other = ClusterIdentity::generate().expect("an identity").to_pem();
    let other = format!("|\n  {}", other.trim().replace('\n', "\n  "));
    let rotated = config(&mixed().replace(PEM, &other));
    assert_eq!(before.needs_restart(&rotated), Some("identity"));
}
