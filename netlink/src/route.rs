//! Routes.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::IpAddr;

use carrick_model::Prefix;

use crate::codec::{Attribute, Request, attributes, family, u32_at};
use crate::error::NetlinkError;
use crate::socket::Netlink;

pub(crate) const FIXED: usize = 12;
const RTNH_F_ONLINK: u32 = 4;
const RTAX_MTU: u16 = 2;
const RTAX_ADVMSS: u16 = 8;
const LO: u32 = 1;

/// What a route does with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RouteKind {
    /// Sends it on.
    Unicast,
    /// Drops it and tells the sender (ICMP host unreachable).
    Unreachable,
    /// Another kind, by its number (`RTN_*`).
    Other(u8),
}

/// A route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Route {
    /// Where to.
    pub destination: Prefix,
    /// Preference among routes to the same destination: the lowest wins. IPv6 routes have at least 1.
    pub metric: u32,
    /// Routing table.
    pub table: u32,
    /// What it does.
    pub kind: RouteKind,
    /// Who made it (`RTPROT_*`, [`crate::PROTOCOL`]).
    pub protocol: u8,
    /// Next hop.
    pub gateway: Option<IpAddr>,
    /// Number of the device.
    pub link: Option<u32>,
    /// Source address of packets that this host itself sends.
    pub source: Option<IpAddr>,
    /// The next hop is on the link although no address of ours says so.
    pub onlink: bool,
    /// Largest packet in bytes.
    pub mtu: Option<u32>,
    /// TCP segment size in bytes that this host announces.
    pub advmss: Option<u32>,
}

impl Route {
    /// Drops what goes to `destination` and tells the sender.
    pub fn unreachable(destination: Prefix, table: u32, metric: u32) -> Self {
        Self {
            destination,
            metric,
            table,
            kind: RouteKind::Unreachable,
            protocol: crate::PROTOCOL,
            gateway: None,
            link: None,
            source: None,
            onlink: false,
            mtu: None,
            advmss: None,
        }
    }

    /// Whether `held` is this route; an MTU that is not named may be any.
    fn is_met_by(&self, held: &Self) -> bool {
        let mtu = self.mtu.or(held.mtu);
        Self { mtu, ..*self } == *held
    }

    fn key(&self) -> (Prefix, u32) {
        (self.destination, self.metric)
    }
}

impl Netlink {
    /// All routes of one table, both families. Routes of several next hops are left out.
    pub fn routes(&mut self, table: u32) -> Result<Vec<Route>, NetlinkError> {
        self.dump_routes(table, libc::RTPROT_UNSPEC, None)
    }

    /// Those of them that lead to this device and are Carrick's.
    pub fn own_routes(&mut self, table: u32, link: u32) -> Result<Vec<Route>, NetlinkError> {
        let mut routes = self.dump_routes(table, crate::PROTOCOL, Some(link))?;
        routes.retain(|route| route.protocol == crate::PROTOCOL && route.link == Some(link));
        Ok(routes)
    }

    /// Asks for routes of one table, of one protocol and device where the kernel can tell them apart.
    fn dump_routes(
        &mut self,
        table: u32,
        protocol: u8,
        link: Option<u32>,
    ) -> Result<Vec<Route>, NetlinkError> {
        let mut all = Vec::new();
        for family in [libc::AF_INET, libc::AF_INET6] {
            let request = || {
                let mut fixed = [0; FIXED];
                (fixed[0], fixed[5]) = (family as u8, protocol);
                let mut request = Request::new(libc::RTM_GETROUTE, libc::NLM_F_DUMP, &fixed);
                request.u32(libc::RTA_TABLE, table);
                if let Some(link) = link {
                    request.u32(libc::RTA_OIF, link);
                }
                request
            };
            match self.dump("routes", request, parse) {
                Ok(routes) => all.extend(routes.into_iter().filter(|route| route.table == table)),
                // A table that never had a route, or a kernel without this family.
                Err(error) if is_absent(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }

    /// Adds those of `wanted` that are missing, and leaves all others of their tables alone. One of ours
    /// that leads to the same device and differs in its MTU is replaced in one step; an MTU that is not
    /// named may be any. A route that fails does not keep the others from being set; the first failure is
    /// returned when all is done, else how much was written.
    pub fn ensure_routes(&mut self, wanted: &[Route]) -> Result<usize, NetlinkError> {
        let before = self.writes();
        let mut held = BTreeMap::new();
        let mut failed = None;
        for route in wanted {
            let held = match held.entry(route.table) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => entry.insert(self.routes(route.table)?),
            };
            if !held.iter().any(|held| route.is_met_by(held)) {
                let mut flags = libc::NLM_F_ACK | libc::NLM_F_CREATE;
                let differs = |held: &Route| Route { mtu: route.mtu, ..*held } == *route;
                flags |=
                    if held.iter().any(differs) { libc::NLM_F_REPLACE } else { libc::NLM_F_EXCL };
                let added = self.write(request(libc::RTM_NEWROUTE, flags, route), || {
                    format!("add route {} in table {}", route.destination, route.table)
                });
                failed = failed.or(added.err());
            }
        }
        match failed {
            Some(error) => Err(error),
            None => Ok((self.writes() - before) as usize),
        }
    }

    /// Takes these away, and leaves all others of their tables alone. One that is gone already is no
    /// failure.
    pub fn remove_routes(&mut self, routes: &[Route]) -> Result<(), NetlinkError> {
        for route in routes {
            let request = request(libc::RTM_DELROUTE, libc::NLM_F_ACK, route);
            let deleted = self.write(request, || {
                format!("delete route {} in table {}", route.destination, route.table)
            });
            match deleted {
                Err(error) if error.errno() != Some(libc::ESRCH) => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Makes these the only routes of a table that is all ours, in the order given. Each must name that
    /// table. What differs is replaced in one step, so that no packet finds a gap. A route that fails
    /// does not keep the others from being set; the first failure is returned when all is done, else
    /// how much was written.
    pub fn sync_routes(&mut self, table: u32, wanted: &[Route]) -> Result<usize, NetlinkError> {
        let before = self.writes();
        let held = self.routes(table)?;
        let mut failed = None;
        for route in wanted.iter().filter(|route| !held.contains(route)) {
            let flags = libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
            let set = self.write(request(libc::RTM_NEWROUTE, flags, route), || {
                format!("set route {} in table {table}", route.destination)
            });
            failed = failed.or(set.err());
        }
        let kept = |held: &Route| wanted.iter().any(|route| route.key() == held.key());
        for route in held.iter().filter(|route| !kept(route)) {
            let request = request(libc::RTM_DELROUTE, libc::NLM_F_ACK, route);
            let deleted = self
                .write(request, || format!("delete route {} in table {table}", route.destination));
            // ESRCH: the kernel removed it meanwhile, with its device or address.
            let error = deleted.err().filter(|error| error.errno() != Some(libc::ESRCH));
            failed = failed.or(error);
        }
        match failed {
            Some(error) => Err(error),
            None => Ok((self.writes() - before) as usize),
        }
    }
}

fn is_absent(error: &NetlinkError) -> bool {
    matches!(error.errno(), Some(libc::ENOENT | libc::EOPNOTSUPP | libc::EAFNOSUPPORT))
}

fn request(kind: u16, flags: i32, route: &Route) -> Request {
    let mut fixed = [0; FIXED];
    fixed[0] = family(route.destination.address());
    fixed[1] = route.destination.length();
    fixed[5] = route.protocol;
    fixed[6] = libc::RT_SCOPE_UNIVERSE;
    if kind == libc::RTM_DELROUTE {
        fixed[6] = libc::RT_SCOPE_NOWHERE;
    } else if route.gateway.is_none() && route.kind == RouteKind::Unicast {
        fixed[6] = libc::RT_SCOPE_LINK;
    }
    fixed[7] = route.kind.number();
    if route.onlink {
        fixed[8..12].copy_from_slice(&RTNH_F_ONLINK.to_ne_bytes());
    }
    let mut request = Request::new(kind, flags, &fixed);
    request.u32(libc::RTA_TABLE, route.table).ip(libc::RTA_DST, route.destination.address());
    if route.metric != 0 {
        request.u32(libc::RTA_PRIORITY, route.metric);
    }
    if let Some(gateway) = route.gateway {
        request.ip(libc::RTA_GATEWAY, gateway);
    }
    if let Some(link) = route.link {
        request.u32(libc::RTA_OIF, link);
    }
    if let Some(source) = route.source {
        request.ip(libc::RTA_PREFSRC, source);
    }
    if route.mtu.is_some() || route.advmss.is_some() {
        request.nested(libc::RTA_METRICS, |metrics| {
            if let Some(mtu) = route.mtu {
                metrics.u32(RTAX_MTU, mtu);
            }
            if let Some(advmss) = route.advmss {
                metrics.u32(RTAX_ADVMSS, advmss);
            }
        });
    }
    request
}

impl RouteKind {
    fn number(self) -> u8 {
        match self {
            Self::Unicast => libc::RTN_UNICAST,
            Self::Unreachable => libc::RTN_UNREACHABLE,
            Self::Other(number) => number,
        }
    }

    fn of(number: u8) -> Self {
        match number {
            libc::RTN_UNICAST => Self::Unicast,
            libc::RTN_UNREACHABLE => Self::Unreachable,
            other => Self::Other(other),
        }
    }
}

pub(crate) fn parse(payload: &[u8]) -> Option<Route> {
    let v4 = i32::from(*payload.first()?) == libc::AF_INET;
    let length = *payload.get(1)?;
    let unspecified: IpAddr = if v4 { [0; 4].into() } else { [0; 16].into() };
    let mut route = Route::unreachable(Prefix::containing(unspecified, 0), 0, 0);
    route.table = u32::from(*payload.get(4)?);
    route.protocol = *payload.get(5)?;
    route.kind = RouteKind::of(*payload.get(7)?);
    route.onlink = u32_at(payload, 8)? & RTNH_F_ONLINK != 0;
    for attribute in attributes(payload, FIXED) {
        match attribute.kind {
            libc::RTA_DST => route.destination = Prefix::new(attribute.ip()?, length).ok()?,
            libc::RTA_TABLE => route.table = attribute.u32()?,
            libc::RTA_PRIORITY => route.metric = attribute.u32()?,
            libc::RTA_GATEWAY => route.gateway = attribute.ip(),
            libc::RTA_OIF => route.link = attribute.u32(),
            libc::RTA_PREFSRC => route.source = attribute.ip(),
            libc::RTA_METRICS => metrics(&attribute, &mut route),
            libc::RTA_MULTIPATH => return None,
            // An IPv6 next hop of an IPv4 route: not a route on the link.
            libc::RTA_VIA => route.gateway = Some(unspecified),
            _ => {}
        }
    }
    // IPv6 hangs them on the loopback device.
    if route.kind != RouteKind::Unicast && route.link == Some(LO) {
        route.link = None;
    }
    Some(route)
}

fn metrics(attribute: &Attribute<'_>, route: &mut Route) {
    for metric in attribute.nested() {
        match metric.kind {
            RTAX_MTU => route.mtu = metric.u32(),
            RTAX_ADVMSS => route.advmss = metric.u32(),
            _ => {}
        }
    }
}
