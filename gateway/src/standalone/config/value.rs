//! Values of the file: each is parsed where its text is read, so that an error names its own line.

use std::fmt;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use carrick_exchange::ClusterIdentity;
use carrick_exchange::identity::IdentityError;
use carrick_exchange::message::WireEndpoint;
use carrick_exchange::wire::{self, WireError};
use carrick_gateway_core::SecretKey;
use carrick_model::prefix::PrefixError;
use carrick_model::{IdentityKey, MeshPrefix, Prefix};
use serde::de::Visitor;
use serde::{Deserialize, Deserializer};

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

/// A value written as text. It is parsed where the text is read, so that an error names its own line;
/// it repeats the text unless that is a secret.
struct Text<T, const SECRET: bool>(T);

/// The most characters of a text and of what is wrong with it that an error repeats.
const MOST_WORDS: usize = 400;

/// As much of an error as a person reads.
fn bounded(words: &str) -> String {
    match words.char_indices().nth(MOST_WORDS) {
        Some((end, _)) => format!("{}…", &words[..end]),
        None => words.to_owned(),
    }
}

struct TextVisitor<T, const SECRET: bool>(PhantomData<T>);

impl<T: FromStr<Err: fmt::Display>, const SECRET: bool> Visitor<'_> for TextVisitor<T, SECRET> {
    type Value = Text<T, SECRET>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
        text.parse().map(Text).map_err(|error| {
            if SECRET {
                E::custom(error)
            } else {
                E::custom(bounded(&format!("{text:?}: {error}")))
            }
        })
    }
}

impl<'de, T: FromStr<Err: fmt::Display>, const SECRET: bool> Deserialize<'de> for Text<T, SECRET> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_str(TextVisitor(PhantomData))
    }
}

pub(super) fn optional_text<'de, T, D>(from: D) -> Result<Option<T>, D::Error>
where
    T: FromStr<Err: fmt::Display>,
    D: Deserializer<'de>,
{
    Ok(Option::<Text<T, false>>::deserialize(from)?.map(|text| text.0))
}

pub(super) fn optional_secret<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<Secret>, D::Error> {
    Ok(Option::<Text<Secret, true>>::deserialize(from)?.map(|text| text.0))
}

pub(super) fn texts<'de, T, D>(from: D) -> Result<Vec<T>, D::Error>
where
    T: FromStr<Err: fmt::Display>,
    D: Deserializer<'de>,
{
    Ok(Vec::<Text<T, false>>::deserialize(from)?.into_iter().map(|text| text.0).collect())
}

pub(super) fn optional_texts<'de, T, D>(from: D) -> Result<Option<Vec<T>>, D::Error>
where
    T: FromStr<Err: fmt::Display>,
    D: Deserializer<'de>,
{
    texts(from).map(Some)
}

pub(super) fn optional_identity<'de, D>(from: D) -> Result<Option<Identity>, D::Error>
where
    D: Deserializer<'de>,
{
    Ok(Option::<Text<Identity, true>>::deserialize(from)?.map(|text| text.0))
}

pub(super) fn optional_mesh<'de, D>(from: D) -> Result<Option<MeshPrefix>, D::Error>
where
    D: Deserializer<'de>,
{
    Ok(Option::<Text<Mesh, false>>::deserialize(from)?.map(|text| text.0.0))
}

pub(super) fn dials<'de, D>(from: D) -> Result<Vec<wire::Endpoint>, D::Error>
where
    D: Deserializer<'de>,
{
    Ok(texts(from)?.into_iter().map(|dial: Dial| dial.0).collect())
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

/// A cluster's private identity key, written as PEM; never printed.
#[derive(Clone)]
pub struct Identity(Arc<ClusterIdentity>);

impl Identity {
    /// The key.
    pub fn key(&self) -> &Arc<ClusterIdentity> {
        &self.0
    }

    /// Its public half: what peers pin.
    pub fn public(&self) -> IdentityKey {
        self.0.public()
    }
}

impl FromStr for Identity {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        ClusterIdentity::from_pem(text).map(|key| Self(Arc::new(key)))
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "identity {}", self.public())
    }
}

/// Where an exchange listens, as peers are told it.
pub(super) struct Dial(pub wire::Endpoint);

impl FromStr for Dial {
    type Err = WireError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || WireError::Endpoint(text.chars().take(253).collect());
        let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = bare.unwrap_or(host).to_owned();
        let port = port.parse().map_err(|_| bad())?;
        wire::Endpoint::try_from(&WireEndpoint { host, port }).map(Self)
    }
}

/// The IPv4 /20 of a cluster's mesh addresses.
struct Mesh(MeshPrefix);

impl FromStr for Mesh {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let prefix: Prefix = text.parse().map_err(|error: PrefixError| error.to_string())?;
        MeshPrefix::try_from(prefix).map(Self).map_err(|error| error.to_string())
    }
}
