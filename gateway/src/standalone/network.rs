//! The device's MTU, addresses and routes.

use anyhow::Context as _;
use carrick_model::Prefix;
use carrick_netlink::{LinkSettings, Netlink, Route, RouteKind};

use super::Config;
use super::mtu::UNKNOWN;
use crate::dataplane::DEVICE_QUEUE;

/// Sets what the file asks for, on a new device.
pub(super) fn set_up(config: &Config) -> anyhow::Result<()> {
    set(config, Some(config.interface.mtu.unwrap_or(UNKNOWN)))
}

/// Without an MTU, the device keeps the one that it has: somebody follows the paths with it.
fn set(config: &Config, mtu: Option<u16>) -> anyhow::Result<()> {
    let interface = &config.interface;
    let name = &interface.name;
    let mut netlink = Netlink::open()?;
    let settings = LinkSettings {
        mtu: mtu.map(u32::from),
        queue: Some(DEVICE_QUEUE),
        up: Some(true),
        ipv6_addresses_off: Some(true),
        ..LinkSettings::default()
    };
    netlink.ensure_settings(name, &settings)?;
    let link = netlink.link(name)?.with_context(|| format!("the device {name} has vanished"))?;
    let addresses = interface.addresses.iter().map(|net| (net.addr(), net.prefix_len()));
    let mesh = config.mesh_address().map(|address| (address.into(), 32));
    let addresses: Vec<_> = addresses.chain(mesh).collect();
    netlink.sync_addresses(link.index, &addresses).context("interface.addresses")?;
    if interface.routes {
        netlink.ensure_routes(&routes(config, link.index)).context("peers[].allowed_prefixes")?;
    }
    Ok(())
}

/// Goes from one file to another: routes that are no longer asked for are taken away.
pub(super) fn change(before: &Config, after: &Config) -> anyhow::Result<()> {
    let mut netlink = Netlink::open()?;
    let name = &after.interface.name;
    let link = netlink.link(name)?.with_context(|| format!("the device {name} has vanished"))?;
    let wanted = if after.interface.routes { routes(after, link.index) } else { Vec::new() };
    let mut gone = if before.interface.routes { routes(before, link.index) } else { Vec::new() };
    gone.retain(|route| !wanted.contains(route));
    netlink.remove_routes(&gone).context("peers[].allowed_prefixes")?;
    set(after, after.interface.mtu)
}

/// Routes to what the plain peers have, except what the interface's own subnets already lead there.
fn routes(config: &Config, link: u32) -> Vec<Route> {
    let connected: Vec<Prefix> = config
        .interface
        .addresses
        .iter()
        .map(|net| Prefix::containing(net.addr(), net.prefix_len()))
        .collect();
    let prefixes = config.plain_peers().flat_map(|(_, peer)| &peer.allowed_prefixes);
    prefixes
        .filter(|prefix| !connected.iter().any(|subnet| subnet.covers(prefix)))
        .map(|prefix| Route {
            destination: *prefix,
            metric: if prefix.address().is_ipv4() { 0 } else { 1024 },
            table: carrick_netlink::TABLE_MAIN,
            kind: RouteKind::Unicast,
            protocol: carrick_netlink::PROTOCOL,
            gateway: None,
            link: Some(link),
            source: None,
            onlink: false,
            mtu: None,
            advmss: None,
        })
        .collect()
}
