//! From wire types to model types and back: the one place where a peer's bytes become values.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use carrick_model::{IdentityKey, MeshPrefix, Prefix, TunnelKey};

use crate::message::{WireEndpoint, WirePrefix};

/// Why a wire value is none of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// An address of neither 4 nor 16 bytes (or of 16 where only IPv4 fits).
    #[error("{field}: an address of {length} bytes")]
    Address {
        /// Which field.
        field: &'static str,
        /// How many bytes there were.
        length: usize,
    },
    /// Not a prefix, or host bits set.
    #[error("{field}: {error}")]
    Prefix {
        /// Which field.
        field: &'static str,
        /// What is wrong.
        error: String,
    },
    /// A key that is not 32 bytes long.
    #[error("{field}: a key of {length} bytes instead of 32")]
    Key {
        /// Which field.
        field: &'static str,
        /// How many bytes there were.
        length: usize,
    },
    /// Not a host and a port.
    #[error("endpoint {0:?} must be an IP address or DNS name with a port of 1-65535")]
    Endpoint(String),
    /// A name or another text that does not parse.
    #[error("{field}: {error}")]
    Text {
        /// Which field.
        field: &'static str,
        /// What is wrong.
        error: String,
    },
    /// A field that must be there is not.
    #[error("{field} is missing")]
    Missing {
        /// Which field.
        field: &'static str,
    },
}

/// Where to send: an address, or a name still to be resolved, and a UDP port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Endpoint {
    /// A known address.
    Address(SocketAddr),
    /// A DNS name and a port.
    Name(String, u16),
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}

impl TryFrom<&WireEndpoint> for Endpoint {
    type Error = WireError;

    fn try_from(wire: &WireEndpoint) -> Result<Self, WireError> {
        let bad = || {
            let host: String = wire.host.chars().take(253).collect();
            WireError::Endpoint(format!("{host}:{}", wire.port))
        };
        let port = u16::try_from(wire.port).ok().filter(|port| *port != 0).ok_or_else(bad)?;
        if let Ok(address) = wire.host.parse::<IpAddr>() {
            return Ok(Self::Address(SocketAddr::new(address, port)));
        }
        if is_dns_name(&wire.host) { Ok(Self::Name(wire.host.clone(), port)) } else { Err(bad()) }
    }
}

impl From<&Endpoint> for WireEndpoint {
    fn from(endpoint: &Endpoint) -> Self {
        match endpoint {
            Endpoint::Address(address) => {
                Self { host: address.ip().to_string(), port: address.port().into() }
            }
            Endpoint::Name(name, port) => Self { host: name.clone(), port: (*port).into() },
        }
    }
}

/// RFC 1123 labels joined by dots, at most 253 characters; not all digits (a broken IPv4 address).
fn is_dns_name(name: &str) -> bool {
    let label = |label: &str| {
        matches!(label.len(), 1..=63)
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last = name.rsplit('.').next().unwrap_or_default();
    matches!(name.len(), 1..=253)
        && name.split('.').all(label)
        && !last.bytes().all(|b| b.is_ascii_digit())
}

/// An address of 4 or 16 bytes.
pub fn address(bytes: &[u8], field: &'static str) -> Result<IpAddr, WireError> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        Ok(IpAddr::from(v4))
    } else if let Ok(v6) = <[u8; 16]>::try_from(bytes) {
        Ok(IpAddr::from(v6))
    } else {
        Err(WireError::Address { field, length: bytes.len() })
    }
}

/// An IPv4 address of 4 bytes.
pub fn ipv4(bytes: &[u8], field: &'static str) -> Result<Ipv4Addr, WireError> {
    let octets: [u8; 4] =
        bytes.try_into().map_err(|_| WireError::Address { field, length: bytes.len() })?;
    Ok(Ipv4Addr::from(octets))
}

/// The bytes of an address: 4 or 16.
pub fn address_bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// A prefix without host bits.
pub fn prefix(wire: &WirePrefix, field: &'static str) -> Result<Prefix, WireError> {
    let address = address(&wire.address, field)?;
    let bad = |error: String| WireError::Prefix { field, error };
    let length = u8::try_from(wire.length)
        .map_err(|_| bad(format!("length {} is too long", wire.length)))?;
    Prefix::new(address, length).map_err(|error| bad(error.to_string()))
}

/// Prefixes without host bits.
pub fn prefixes(wire: &[WirePrefix], field: &'static str) -> Result<Vec<Prefix>, WireError> {
    wire.iter().map(|one| prefix(one, field)).collect()
}

/// A mesh prefix (an IPv4 /20), which must be there.
pub fn mesh(wire: Option<&WirePrefix>, field: &'static str) -> Result<MeshPrefix, WireError> {
    let prefix = prefix(wire.ok_or(WireError::Missing { field })?, field)?;
    MeshPrefix::try_from(prefix)
        .map_err(|error| WireError::Prefix { field, error: error.to_string() })
}

/// An identity's public key.
pub fn identity(bytes: &[u8], field: &'static str) -> Result<IdentityKey, WireError> {
    key(bytes, field).map(IdentityKey::from_bytes)
}

/// A lane's public key.
pub fn tunnel_key(bytes: &[u8], field: &'static str) -> Result<TunnelKey, WireError> {
    key(bytes, field).map(TunnelKey::from_bytes)
}

fn key(bytes: &[u8], field: &'static str) -> Result<[u8; 32], WireError> {
    bytes.try_into().map_err(|_| WireError::Key { field, length: bytes.len() })
}

/// A text that names something: cluster, member, node.
pub fn parse<T>(text: &str, field: &'static str) -> Result<T, WireError>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|error: T::Err| WireError::Text { field, error: error.to_string() })
}

impl From<Prefix> for WirePrefix {
    fn from(prefix: Prefix) -> Self {
        Self { address: address_bytes(prefix.address()), length: prefix.length().into() }
    }
}

impl From<MeshPrefix> for WirePrefix {
    fn from(mesh: MeshPrefix) -> Self {
        mesh.prefix().into()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn endpoint(host: &str, port: u32) -> Result<Endpoint, WireError> {
        Endpoint::try_from(&WireEndpoint { host: host.to_owned(), port })
    }

    #[test]
    fn endpoints_are_addresses_or_names() {
        assert_eq!(endpoint("fd00::1", 31820).expect("address").to_string(), "[fd00::1]:31820");
        assert_eq!(
            endpoint("gw.osaka.example", 1).expect("name"),
            Endpoint::Name("gw.osaka.example".to_owned(), 1)
        );
        for (host, port) in
            [("", 1), ("1.2.3.4", 0), ("1.2.3.4", 65_536), ("1.2.3.400", 5), ("a b", 1), ("-a", 1)]
        {
            assert!(endpoint(host, port).is_err(), "{host}:{port}");
        }
    }

    #[test]
    fn host_bits_are_refused_with_the_field_named() {
        let wire = WirePrefix { address: vec![10, 1, 2, 3], length: 16 };
        let error = prefix(&wire, "pod_prefixes").expect_err("host bits").to_string();
        assert!(error.contains("pod_prefixes") && error.contains("10.1.0.0/16"), "{error}");
    }

    proptest! {
        #[test]
        fn any_bytes_parse_or_are_refused(
            bytes in prop::collection::vec(any::<u8>(), 0..40), length in any::<u32>(),
        ) {
            let wire = WirePrefix { address: bytes.clone(), length };
            if let Ok(parsed) = prefix(&wire, "p") {
                prop_assert_eq!(WirePrefix::from(parsed), wire);
            }
            prop_assert_eq!(identity(&bytes, "k").is_ok(), bytes.len() == 32);
        }
    }
}
