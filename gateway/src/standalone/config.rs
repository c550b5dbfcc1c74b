//! The file of a standalone gateway: parsed whole, or refused with line and field.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use carrick_gateway_core::SecretKey;
use carrick_gateway_core::config::MTU_RANGE;
use carrick_model::{ClusterId, Prefix, TunnelKey};
use ipnet::IpNet;
use serde::de::Visitor;
use serde::{Deserialize, Deserializer};

use crate::dataplane::Offloads;

/// How many lanes there may be.
const LANES: std::ops::RangeInclusive<u16> = 1..=16;

/// A file with every field, commented.
pub const EXAMPLE: &str = include_str!("example.yaml");

/// Why a configuration file is refused.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It could not be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is no YAML, or a field is wrong. The message names field and line.
    #[error("{path}: {source}")]
    Yaml {
        /// The file.
        path: PathBuf,
        /// What is wrong where.
        source: serde_yaml::Error,
    },
    /// Fields contradict each other.
    #[error("{path}: {field}: {problem}")]
    Field {
        /// The file.
        path: PathBuf,
        /// The field, e.g. `peers[1].allowed_prefixes`.
        field: String,
        /// What is wrong with it, and what to do.
        problem: String,
    },
}

/// A standalone gateway's configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The TUN device.
    pub interface: Interface,
    /// Our private key in base64, as `carrick-gateway key` makes it.
    #[serde(default, deserialize_with = "optional_secret")]
    pub private_key: Option<Secret>,
    /// A file that holds it instead.
    #[serde(default)]
    pub private_key_file: Option<PathBuf>,
    /// The UDP port to listen on; 0 or nothing lets the kernel choose.
    #[serde(default)]
    pub listen_port: u16,
    /// How many lanes, 1–16: threads, each with a UDP port of its own from `listen_port` on.
    #[serde(default = "one")]
    pub lanes: u16,
    /// Whom we talk to.
    #[serde(default)]
    pub peers: Vec<Peer>,
    /// Where metrics and health are served over HTTP; nowhere by default.
    #[serde(default, deserialize_with = "optional_text")]
    pub metrics: Option<SocketAddr>,
    /// What may be left to the kernel; all that it has, by default.
    #[serde(default)]
    pub offloads: OffloadSwitches,
}

/// Switches of [`Offloads`], each on unless said otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OffloadSwitches {
    /// TCP streams cross the device uncut.
    pub device_tcp: bool,
    /// UDP trains cross the device uncut.
    pub device_udp: bool,
    /// The kernel cuts what we send.
    pub socket_send: bool,
    /// The kernel merges what we receive.
    pub socket_receive: bool,
}

impl Default for OffloadSwitches {
    fn default() -> Self {
        Self { device_tcp: true, device_udp: true, socket_send: true, socket_receive: true }
    }
}

impl From<OffloadSwitches> for Offloads {
    fn from(switches: OffloadSwitches) -> Self {
        let OffloadSwitches { device_tcp, device_udp, socket_send, socket_receive } = switches;
        Self { device_tcp, device_udp, socket_send, socket_receive }
    }
}

/// The TUN device.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interface {
    /// Its name, 1–15 bytes.
    pub name: String,
    /// Its addresses, each with the length of its subnet.
    #[serde(default, deserialize_with = "texts")]
    pub addresses: Vec<IpNet>,
    /// Its MTU in bytes, 1280–9000.
    #[serde(default = "default_mtu")]
    pub mtu: u16,
    /// Whether to route every allowed prefix into it.
    #[serde(default = "yes")]
    pub routes: bool,
}

/// A remote WireGuard peer.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peer {
    /// A name for logs: an RFC 1123 label.
    #[serde(default, deserialize_with = "optional_text")]
    pub name: Option<ClusterId>,
    /// Its public key.
    #[serde(deserialize_with = "text")]
    pub public_key: TunnelKey,
    /// The preshared key in base64.
    #[serde(default, deserialize_with = "optional_secret")]
    pub preshared_key: Option<Secret>,
    /// A file that holds it instead.
    #[serde(default)]
    pub preshared_key_file: Option<PathBuf>,
    /// Where it listens, `address:port` or `name:port`; nothing when it dials us.
    #[serde(default, deserialize_with = "optional_text")]
    pub endpoint: Option<Endpoint>,
    /// What is routed to it, and the only sources that may come from it.
    #[serde(deserialize_with = "texts")]
    pub allowed_prefixes: Vec<Prefix>,
    /// The lane that it lives on, from 0: what it sends must come to that lane's port.
    #[serde(default)]
    pub lane: u16,
    /// Seconds between keepalives; 0 or nothing is off.
    #[serde(default)]
    pub keepalive: Option<u16>,
}

/// 32 secret bytes, written in base64; never printed.
#[derive(Clone)]
pub struct Secret([u8; 32]);

/// Where a peer listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// An address.
    Address(SocketAddr),
    /// A name and a port, to be resolved at start.
    Name(String, u16),
}

fn default_mtu() -> u16 {
    1420
}

fn one() -> u16 {
    1
}

fn yes() -> bool {
    true
}

/// A value written as text. It is parsed where the text is read, so that an error names its own line;
/// it repeats the text unless that is a secret.
struct Text<T, const SECRET: bool>(T);

struct TextVisitor<T, const SECRET: bool>(PhantomData<T>);

impl<T: FromStr<Err: fmt::Display>, const SECRET: bool> Visitor<'_> for TextVisitor<T, SECRET> {
    type Value = Text<T, SECRET>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
        text.parse().map(Text).map_err(|error| {
            if SECRET { E::custom(error) } else { E::custom(format_args!("{text:?}: {error}")) }
        })
    }
}

impl<'de, T: FromStr<Err: fmt::Display>, const SECRET: bool> Deserialize<'de> for Text<T, SECRET> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_str(TextVisitor(PhantomData))
    }
}

fn text<'de, T, D>(from: D) -> Result<T, D::Error>
where
    T: FromStr<Err: fmt::Display>,
    D: Deserializer<'de>,
{
    Text::<T, false>::deserialize(from).map(|text| text.0)
}

fn optional_text<'de, T, D>(from: D) -> Result<Option<T>, D::Error>
where
    T: FromStr<Err: fmt::Display>,
    D: Deserializer<'de>,
{
    Ok(Option::<Text<T, false>>::deserialize(from)?.map(|text| text.0))
}

fn optional_secret<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Secret>, D::Error> {
    Ok(Option::<Text<Secret, true>>::deserialize(from)?.map(|text| text.0))
}

fn texts<'de, T, D>(from: D) -> Result<Vec<T>, D::Error>
where
    T: FromStr<Err: fmt::Display>,
    D: Deserializer<'de>,
{
    Ok(Vec::<Text<T, false>>::deserialize(from)?.into_iter().map(|text| text.0).collect())
}

impl FromStr for Secret {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = STANDARD.decode(text.trim()).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or("a key must be 32 bytes in base64 (44 characters)")
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("secret")
    }
}

impl Secret {
    /// The bytes.
    pub fn bytes(&self) -> [u8; 32] {
        self.0
    }

    /// As the private key of a lane.
    pub fn key(&self) -> SecretKey {
        SecretKey::from_bytes(self.0)
    }
}

impl FromStr for Endpoint {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = "an endpoint must be address:port or name:port, with a port from 1 to 65535";
        if let Ok(address) = text.parse::<SocketAddr>() {
            return if address.port() == 0 { Err(bad) } else { Ok(Self::Address(address)) };
        }
        let (name, port) = text.rsplit_once(':').ok_or(bad)?;
        let fits = !name.is_empty()
            && name.len() <= 253
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b));
        match port.parse() {
            Ok(port) if fits && port != 0 => Ok(Self::Name(name.to_owned(), port)),
            _ => Err(bad),
        }
    }
}

impl Peer {
    /// Its name; without one, a name that its key gives it.
    pub(super) fn label(&self) -> String {
        let [a, b, c, d, ..] = self.public_key.as_bytes();
        let from_key = || format!("peer-{a:02x}{b:02x}{c:02x}{d:02x}");
        self.name.as_ref().map_or_else(from_key, ToString::to_string)
    }
}

impl Config {
    /// Reads and checks the file, and the key files that it names.
    pub fn read(path: &PathBuf) -> Result<Self, FileError> {
        let mut config = Self::parse(&read(path)?, path)?;
        config.private_key = take_secret(config.private_key, config.private_key_file.as_ref())?;
        for peer in &mut config.peers {
            let inline = peer.preshared_key.take();
            peer.preshared_key = take_secret(inline, peer.preshared_key_file.as_ref())?;
        }
        Ok(config)
    }

    /// Checks the text of the file at `path`, without the key files that it names.
    pub fn parse(text: &str, path: &Path) -> Result<Self, FileError> {
        let path = path.to_owned();
        let config: Self = match serde_yaml::from_str(text) {
            Ok(config) => config,
            Err(source) => return Err(FileError::Yaml { path, source }),
        };
        match config.check() {
            Ok(()) => Ok(config),
            Err((field, problem)) => Err(FileError::Field { path, field, problem }),
        }
    }

    /// The first field that differs and is fixed while the gateway runs.
    pub(super) fn needs_restart(&self, other: &Self) -> Option<&'static str> {
        let key = |config: &Self| config.private_key.as_ref().map(Secret::bytes);
        [
            ("interface.name", self.interface.name != other.interface.name),
            ("listen_port", self.listen_port != other.listen_port),
            ("lanes", self.lanes != other.lanes),
            ("private_key", key(self) != key(other)),
            ("metrics", self.metrics != other.metrics),
            ("offloads", self.offloads != other.offloads),
        ]
        .into_iter()
        .find_map(|(field, differs)| differs.then_some(field))
    }

    /// What no single field shows; the field at fault and what is wrong with it.
    fn check(&self) -> Result<(), (String, String)> {
        let refuse = |field: &str, problem: &str| Err((field.to_owned(), problem.to_owned()));
        if !MTU_RANGE.contains(&usize::from(self.interface.mtu)) {
            let (low, high) = (MTU_RANGE.start(), MTU_RANGE.end());
            return refuse("interface.mtu", &format!("must be from {low} to {high}"));
        }
        if !LANES.contains(&self.lanes) {
            let (low, high) = (LANES.start(), LANES.end());
            return refuse("lanes", &format!("must be from {low} to {high}"));
        }
        if self.listen_port != 0 && self.listen_port.checked_add(self.lanes - 1).is_none() {
            return refuse("listen_port", "the last lane's port would be beyond 65535");
        }
        match (&self.private_key, &self.private_key_file) {
            (Some(_), Some(_)) => {
                return refuse("private_key_file", "private_key is given too; remove one of them");
            }
            (None, None) => {
                let hint = "missing; `carrick-gateway key` makes one (or give private_key_file)";
                return refuse("private_key", hint);
            }
            _ => {}
        }
        self.check_peers()
    }

    fn check_peers(&self) -> Result<(), (String, String)> {
        let mut keys = BTreeMap::new();
        let mut labels = BTreeMap::new();
        let mut prefixes = BTreeMap::new();
        for (index, peer) in self.peers.iter().enumerate() {
            let field = |name: &str| format!("peers[{index}].{name}");
            if peer.lane >= self.lanes {
                let problem = format!("{} is no lane: there are {}, from 0", peer.lane, self.lanes);
                return Err((field("lane"), problem));
            }
            if let Some(first) = keys.insert(peer.public_key, index) {
                let problem = format!("is that of peers[{first}] too; merge the two");
                return Err((field("public_key"), problem));
            }
            if let Some(first) = labels.insert(peer.label(), index) {
                let problem = format!("{} is the name of peers[{first}] too", peer.label());
                return Err((field("name"), problem));
            }
            if peer.preshared_key.is_some() && peer.preshared_key_file.is_some() {
                let problem = "preshared_key is given too; remove one of them".to_owned();
                return Err((field("preshared_key_file"), problem));
            }
            for prefix in &peer.allowed_prefixes {
                if let Some(first) = prefixes.insert(*prefix, index) {
                    let problem =
                        format!("{prefix} is that of peers[{first}] too; only one can have it");
                    return Err((field("allowed_prefixes"), problem));
                }
                if prefix.is_default_route() && self.interface.routes {
                    let problem = format!(
                        "{prefix} would capture the tunnel's own packets; set interface.routes to \
                         false and add routes that leave the peer's endpoint out"
                    );
                    return Err((field("allowed_prefixes"), problem));
                }
            }
        }
        Ok(())
    }
}

fn read(path: &PathBuf) -> Result<String, FileError> {
    std::fs::read_to_string(path).map_err(|source| FileError::Read { path: path.clone(), source })
}

fn take_secret(
    inline: Option<Secret>,
    file: Option<&PathBuf>,
) -> Result<Option<Secret>, FileError> {
    let Some(path) = file else { return Ok(inline) };
    let problem = |problem: &str| FileError::Field {
        path: path.clone(),
        field: "content".to_owned(),
        problem: problem.to_owned(),
    };
    read(path)?.parse().map(Some).map_err(problem)
}

#[cfg(test)]
mod tests {
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
        assert_eq!((config.interface.mtu, config.interface.routes), (1420, true));
        let endpoint = Endpoint::Address("192.0.2.1:51820".parse().expect("address"));
        assert_eq!(config.peers[0].endpoint, Some(endpoint));
    }

    #[test]
    fn the_example_is_a_good_file() {
        let config = read_text(EXAMPLE).expect("the example");
        assert!(config.metrics.is_some() && config.peers.len() == 2);
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
            (
                "10.9.0.2/32",
                "10.9.0.2/24",
                ["peers[0].allowed_prefixes[0]", "line 10", "10.9.0.0/24"],
            ),
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
}
