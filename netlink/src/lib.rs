//! Links, routes, rules, neighbours, FDB entries, next hops and nft tables, as gateway and agent set
//! them.
//!
//! Every `sync_*` and `ensure_*` reads what the kernel has, changes only what differs, and returns how
//! much it wrote: a call that finds everything as it should be writes nothing. Nothing is remembered
//! between calls, so what others delete comes back with the next one.
//!
//! Requests are answered while they are sent, without waiting on anyone outside the kernel; that is why
//! the calls are not `async`. A [`Netlink`] acts in the network namespace of the thread that opened it.

pub mod address;
pub mod bridge;
mod codec;
pub mod error;
pub mod fdb;
pub mod link;
pub mod monitor;
pub mod neighbour;
pub mod nexthop;
pub mod nft;
pub mod route;
pub mod rule;
mod socket;
pub mod way;

pub use address::Address;
pub use bridge::BridgePort;
pub use error::NetlinkError;
pub use fdb::{FdbEntry, FdbTarget};
pub use link::{Link, LinkKind, LinkSettings, Vxlan};
pub use monitor::{Change, Monitor};
pub use neighbour::Neighbour;
pub use nexthop::{GroupSupport, Nexthop, NexthopKind};
pub use nft::{Nft, NftBody, NftError};
pub use route::{Route, RouteKind};
pub use rule::Rule;
pub use socket::Netlink;
pub use way::Way;

/// What marks routes, rules and next hops as Carrick's in the kernel (`proto 202`).
pub const PROTOCOL: u8 = 202;

/// Routing table `main`.
pub const TABLE_MAIN: u32 = 254;
