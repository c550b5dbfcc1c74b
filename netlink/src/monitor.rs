//! What changes in the kernel, as it happens: a reason to look again, never the truth itself.

use std::io;

use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use netlink_sys::{AsyncSocket as _, AsyncSocketExt as _, SocketAddr, TokioSocket};

use crate::codec::{Message, attributes, messages, u32_at};
use crate::error::NetlinkError;

const BUFFER: usize = 64 << 10;

/// Links, neighbours, and of both families addresses, routes and rules; next hops.
const ROUTE_GROUPS: [u32; 9] = [1, 3, 5, 7, 8, 9, 11, 19, 32];
const NFTABLES_GROUP: u32 = 7;

const NFPROTO_INET: u8 = 1;
const NFTA_TABLE: u16 = 1;

/// Something that changed. Our own changes come too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A device came, went or was set.
    Link,
    /// An address.
    Address,
    /// A route.
    Route,
    /// A rule.
    Rule,
    /// A neighbour or FDB entry of this device was deleted or set.
    Neighbour {
        /// Number of the device.
        link: u32,
    },
    /// A next-hop object.
    Nexthop,
    /// Something in this nft table of family `inet`.
    Nft {
        /// Its name.
        table: String,
    },
    /// The kernel had more to say than there was room for: anything may have changed.
    Overflow,
}

/// A stream of changes in the network namespace of the thread that opened it. Needs a tokio runtime.
pub struct Monitor {
    route: TokioSocket,
    nft: TokioSocket,
    route_buffer: Vec<u8>,
    nft_buffer: Vec<u8>,
}

impl Monitor {
    /// Subscribes.
    pub fn open() -> Result<Self, NetlinkError> {
        Ok(Self {
            route: subscribe(NETLINK_ROUTE, &ROUTE_GROUPS)?,
            nft: subscribe(NETLINK_NETFILTER, &[NFTABLES_GROUP])?,
            route_buffer: Vec::with_capacity(BUFFER),
            nft_buffer: Vec::with_capacity(BUFFER),
        })
    }

    /// The next batch of changes: at least one. Cancel-safe.
    pub async fn next(&mut self) -> Result<Vec<Change>, NetlinkError> {
        loop {
            self.route_buffer.clear();
            self.nft_buffer.clear();
            let changes = tokio::select! {
                got = self.route.recv(&mut self.route_buffer) => {
                    changes(got, &self.route_buffer, route_change)
                }
                got = self.nft.recv(&mut self.nft_buffer) => {
                    changes(got, &self.nft_buffer, nft_change)
                }
            }?;
            if !changes.is_empty() {
                return Ok(changes);
            }
        }
    }
}

impl std::fmt::Debug for Monitor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Monitor").finish_non_exhaustive()
    }
}

fn subscribe(protocol: isize, groups: &[u32]) -> Result<TokioSocket, NetlinkError> {
    let failed = |action| move |source| NetlinkError::Socket { action, source };
    let mut socket = TokioSocket::new(protocol).map_err(failed("open a monitor"))?;
    socket.socket_mut().bind_auto().map_err(failed("bind a monitor"))?;
    for group in groups {
        match socket.socket_mut().add_membership(*group) {
            // A kernel that lacks a group has no such objects.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
            other => other.map_err(failed("subscribe to changes"))?,
        }
    }
    socket.socket_mut().connect(&SocketAddr::new(0, 0)).map_err(failed("connect a monitor"))?;
    Ok(socket)
}

fn changes(
    got: io::Result<()>,
    buffer: &[u8],
    parse: impl Fn(&Message<'_>) -> Option<Change>,
) -> Result<Vec<Change>, NetlinkError> {
    match got {
        Ok(()) => {
            let mut changes: Vec<Change> = Vec::new();
            for change in messages(buffer).filter_map(|message| parse(&message)) {
                if !changes.contains(&change) {
                    changes.push(change);
                }
            }
            Ok(changes)
        }
        Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => Ok(vec![Change::Overflow]),
        Err(source) => Err(NetlinkError::Socket { action: "receive changes", source }),
    }
}

fn route_change(message: &Message<'_>) -> Option<Change> {
    match message.kind {
        16 | 17 => Some(Change::Link),
        20 | 21 => Some(Change::Address),
        24 | 25 => Some(Change::Route),
        28 | 29 => Some(Change::Neighbour { link: u32_at(message.payload, 4)? }),
        32 | 33 => Some(Change::Rule),
        104 | 105 => Some(Change::Nexthop),
        _ => None,
    }
}

/// Of the nftables messages only those that name a table of family `inet`.
fn nft_change(message: &Message<'_>) -> Option<Change> {
    if *message.payload.first()? != NFPROTO_INET {
        return None;
    }
    let table = attributes(message.payload, 4).find(|attribute| attribute.kind == NFTA_TABLE)?;
    Some(Change::Nft { table: table.text() })
}
