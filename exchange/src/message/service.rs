//! Exported services: what one cluster's controller asks another's, and what comes back.
//!
//! Each question has a stream of its own, which carries one [`Ask`] there and one [`Answer`] back. It goes from
//! a controller to one of its gateways, from that to a gateway of the other cluster, and from that to its
//! controller; gateways carry answers as they are. What a cluster exports to one other is its *book*
//! ([`crate::book`]), and only its signed head makes pieces of it believed.

use std::collections::BTreeMap;

/// A question.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Ask {
    /// From a controller to its gateway: whose book. From a gateway to its controller: who asks, by the
    /// certificate of its link. Between gateways it does not count.
    #[prost(string, tag = "1")]
    pub cluster: String,
    /// Which of its links the first gateway asks by: this number, modulo how many there are.
    #[prost(uint32, tag = "2")]
    pub way: u32,
    /// What is asked; `None` is unknown, and refused.
    #[prost(oneof = "ask::Kind", tags = "3, 4")]
    pub kind: Option<ask::Kind>,
}

/// The alternatives of [`Ask`].
pub mod ask {
    /// What is asked.
    #[derive(Clone, PartialEq, Eq, prost::Oneof)]
    pub enum Kind {
        /// The newest head.
        #[prost(message, tag = "3")]
        Head(super::AskHead),
        /// Pieces of the book.
        #[prost(message, tag = "4")]
        Pieces(super::AskPieces),
    }
}

/// Asks for the newest head, and waits for one that is newer than the one held.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct AskHead {
    /// The root of the book held, 32 bytes; empty for none.
    #[prost(bytes = "vec", tag = "1")]
    pub root: Vec<u8>,
    /// The epoch of the head held; 0 for none.
    #[prost(uint64, tag = "2")]
    pub epoch: u64,
    /// The generation of the head held; 0 for none.
    #[prost(uint64, tag = "3")]
    pub generation: u64,
    /// How long to wait for a newer one, in milliseconds, 0–10000.
    #[prost(uint32, tag = "4")]
    pub wait_milliseconds: u32,
}

/// Asks for pieces of the book.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct AskPieces {
    /// The root whose index is wanted, 32 bytes; empty for none.
    #[prost(bytes = "vec", tag = "1")]
    pub index: Vec<u8>,
    /// Buckets wanted, at most 256.
    #[prost(message, repeated, tag = "2")]
    pub buckets: Vec<AskBucket>,
}

/// Asks for a bucket.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct AskBucket {
    /// Its number, 0–255.
    #[prost(uint32, tag = "1")]
    pub number: u32,
    /// Its hash, 32 bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub hash: Vec<u8>,
    /// How many of its entries the asker has got already.
    #[prost(uint32, tag = "3")]
    pub skip: u32,
}

/// What comes back.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Answer {
    /// What it says; `None` is unknown.
    #[prost(oneof = "answer::Kind", tags = "1, 2, 3, 4")]
    pub kind: Option<answer::Kind>,
}

/// The alternatives of [`Answer`].
pub mod answer {
    /// What is answered.
    #[derive(Clone, PartialEq, Eq, prost::Oneof)]
    pub enum Kind {
        /// No newer head has come in the time.
        #[prost(message, tag = "1")]
        Unchanged(super::Unchanged),
        /// A newer head.
        #[prost(message, tag = "2")]
        Head(super::News),
        /// Pieces, as many as fit; what is no longer there is left out.
        #[prost(message, tag = "3")]
        Pieces(super::Pieces),
        /// Nothing of it, and why, for a person.
        #[prost(string, tag = "4")]
        Refused(String),
    }
}

/// No newer head has come in the time.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Unchanged {}

/// A head, and how to get to it from the book that the asker holds.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct News {
    /// The head.
    #[prost(message, optional, tag = "1")]
    pub head: Option<SignedBook>,
    /// What changed since the root that the asker named. Proof is the head's root alone: where it does not come
    /// out, the changes are worth nothing and the pieces are asked for.
    #[prost(message, repeated, tag = "2")]
    pub changes: Vec<Change>,
}

/// A change of one entry: what of the former one stays at both ends, and what comes between.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Change {
    /// The service's namespace.
    #[prost(string, tag = "1")]
    pub namespace: String,
    /// Its name.
    #[prost(string, tag = "2")]
    pub name: String,
    /// The service is exported no more.
    #[prost(bool, tag = "3")]
    pub gone: bool,
    /// How many bytes stay at the front.
    #[prost(uint32, tag = "4")]
    pub front: u32,
    /// How many bytes stay at the back.
    #[prost(uint32, tag = "5")]
    pub back: u32,
    /// What comes between them.
    #[prost(bytes = "vec", tag = "6")]
    pub middle: Vec<u8>,
}

/// Pieces of a book.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Pieces {
    /// The index: the hashes of all 256 buckets, one after the other; empty when it was not asked for, or is no
    /// longer there.
    #[prost(bytes = "vec", tag = "1")]
    pub index: Vec<u8>,
    /// Buckets or parts of them.
    #[prost(message, repeated, tag = "2")]
    pub buckets: Vec<BucketPiece>,
}

/// A bucket or a part of it.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct BucketPiece {
    /// Its number.
    #[prost(uint32, tag = "1")]
    pub number: u32,
    /// How many entries come before these.
    #[prost(uint32, tag = "2")]
    pub skip: u32,
    /// Encoded [`Service`]s, in the bucket's order.
    #[prost(bytes = "vec", repeated, tag = "3")]
    pub entries: Vec<Vec<u8>>,
    /// These are the last.
    #[prost(bool, tag = "4")]
    pub last: bool,
}

/// A signed [`BookHead`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SignedBook {
    /// The encoded [`BookHead`].
    #[prost(bytes = "vec", tag = "1")]
    pub payload: Vec<u8>,
    /// The identity public key that signed, 32 bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub key: Vec<u8>,
    /// Ed25519 signature over the ASCII text `carrick book v1`, a zero byte, and the payload.
    #[prost(bytes = "vec", tag = "3")]
    pub signature: Vec<u8>,
}

/// What makes a book believed. A later one replaces the earlier.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct BookHead {
    /// The speaker's cluster ID.
    #[prost(string, tag = "1")]
    pub cluster: String,
    /// The cluster ID for which this is meant.
    #[prost(string, tag = "2")]
    pub audience: String,
    /// Grows whenever the speaker's generations begin anew.
    #[prost(uint64, tag = "3")]
    pub epoch: u64,
    /// Grows with each change inside an epoch.
    #[prost(uint64, tag = "4")]
    pub generation: u64,
    /// When it was signed, in seconds since 1970.
    #[prost(uint64, tag = "5")]
    pub issued_at: u64,
    /// From when on it is taken no more, in seconds since 1970.
    #[prost(uint64, tag = "6")]
    pub expires_at: u64,
    /// The book's root, 32 bytes.
    #[prost(bytes = "vec", tag = "7")]
    pub root: Vec<u8>,
    /// How many entries the book has.
    #[prost(uint32, tag = "8")]
    pub entries: u32,
    /// How many bytes they have together.
    #[prost(uint32, tag = "9")]
    pub bytes: u32,
}

/// An exported service: the entry of a book. Endpoints stand beside their groups, so that one that comes or
/// goes changes few bytes.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Service {
    /// Its namespace.
    #[prost(string, tag = "1")]
    pub namespace: String,
    /// Its name.
    #[prost(string, tag = "2")]
    pub name: String,
    /// When the ServiceExport was made, in seconds since 1970.
    #[prost(uint64, tag = "3")]
    pub exported_at: u64,
    /// It is reached by its pods' addresses, not by one of its own.
    #[prost(bool, tag = "4")]
    pub headless: bool,
    /// The Service's ports.
    #[prost(message, repeated, tag = "5")]
    pub ports: Vec<ServicePort>,
    /// Its families, 4 or 6, the preferred one first.
    #[prost(uint32, repeated, tag = "6")]
    pub families: Vec<u32>,
    /// Session affinity by the client's address, for so many seconds; 0 is none.
    #[prost(uint32, tag = "7")]
    pub affinity_seconds: u32,
    /// `internalTrafficPolicy: Local`.
    #[prost(bool, tag = "8")]
    pub local_only: bool,
    /// `trafficDistribution`; empty for none.
    #[prost(string, tag = "9")]
    pub traffic_distribution: String,
    /// Labels for the import.
    #[prost(btree_map = "string, string", tag = "10")]
    pub labels: BTreeMap<String, String>,
    /// Annotations for the import.
    #[prost(btree_map = "string, string", tag = "11")]
    pub annotations: BTreeMap<String, String>,
    /// Groups of endpoints.
    #[prost(message, repeated, tag = "12")]
    pub groups: Vec<ServiceGroup>,
    /// The endpoints of all groups.
    #[prost(message, repeated, tag = "13")]
    pub endpoints: Vec<ServiceEndpoint>,
    /// Which clusters serve it, as `carrick_model::ServicePolicy` is written; empty for all of them, balanced. Releases
    /// that do not know it, or not this word, take it for that.
    #[prost(string, tag = "14")]
    pub policy: String,
}

/// A port of a service or of the pods behind it.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ServicePort {
    /// Its name; empty for none.
    #[prost(string, tag = "1")]
    pub name: String,
    /// 0 TCP, 1 UDP, 2 SCTP.
    #[prost(uint32, tag = "2")]
    pub protocol: u32,
    /// Its number, 1–65535.
    #[prost(uint32, tag = "3")]
    pub number: u32,
    /// The application protocol, as Kubernetes' `appProtocol`.
    #[prost(string, optional, tag = "4")]
    pub app_protocol: Option<String>,
}

/// What a group's endpoints have in common.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ServiceGroup {
    /// The family of all its addresses is IPv6; else IPv4.
    #[prost(bool, tag = "1")]
    pub v6: bool,
    /// The pods' ports.
    #[prost(message, repeated, tag = "2")]
    pub ports: Vec<ServicePort>,
}

/// One address of one pod.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ServiceEndpoint {
    /// The address: 4 or 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub address: Vec<u8>,
    /// Its group, by its place in the list.
    #[prost(uint32, tag = "2")]
    pub group: u32,
    /// Takes no new connections.
    #[prost(bool, tag = "3")]
    pub unready: bool,
    /// Would take none, whether it terminates or not.
    #[prost(bool, tag = "4")]
    pub unserving: bool,
    /// Is about to go.
    #[prost(bool, tag = "5")]
    pub terminating: bool,
    /// The pod's host name; empty for none.
    #[prost(string, tag = "6")]
    pub hostname: String,
}
