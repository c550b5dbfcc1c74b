//! Slices, and connections that are made by name.

use std::collections::BTreeSet;

use serde_json::json;

use super::ground::{Ground, Seen};
use super::objects::{PORT, port, usual, with_ports};
use super::side::Side;
use crate::common::check;

/// Nothing leads to what is not exported: not its name, and not the address that it had while it was.
pub fn not_exported(ground: &Ground) -> Result<Seen, String> {
    let paris = &ground.paris;
    paris.serve()?;
    paris.service(usual())?;
    ground.everywhere(|side| side.says("A", &side.name(), "NXDOMAIN", &[]))?;
    // That the same connection succeeds while it is exported shows that its failure is no fault of the means.
    paris.export(json!({}))?;
    let of = |side: &Side| side.addresses().map(|both| both.hosts());
    let hosts = [of(paris)?, of(&ground.osaka)?];
    for (side, hosts) in ground.both().into_iter().zip(&hosts) {
        hosts.iter().try_for_each(|host| side.reaches(host, PORT, &paris.server()))?;
    }
    paris.unexport()?;
    ground.everywhere(Side::gone)?;
    for (side, hosts) in ground.both().into_iter().zip(&hosts) {
        hosts.iter().try_for_each(|host| side.cannot_reach(host, PORT))?;
    }
    Ok(Seen::All)
}

pub fn slices(ground: &Ground) -> Result<Seen, String> {
    ground.paris.serve()?;
    ground.paris.exports(usual())?;
    ground.everywhere(|side| {
        let slices = side.slices("paris", 1)?;
        let by = |slice: &serde_json::Value| {
            let by = &slice["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"];
            by.as_str().unwrap_or_default().to_owned()
        };
        let ours = slices.iter().map(by).all(|by| {
            !by.is_empty() && !by.starts_with("endpointslice") // the built-in controllers
        });
        check(ours, || format!("{}: {slices:?}", side.id()))?;
        let types: BTreeSet<_> =
            slices.iter().filter_map(|slice| slice["addressType"].as_str()).collect();
        check(types == BTreeSet::from(["IPv4", "IPv6"]), || format!("{}: {types:?}", side.id()))
    })?;
    ground.paris.unexport()?;
    ground.everywhere(Side::gone)?;
    Ok(Seen::All)
}

pub fn reached_by_name(ground: &Ground) -> Result<Seen, String> {
    ground.paris.serve()?;
    ground.paris.exports(usual())?;
    ground.everywhere(|side| {
        side.reaches(&side.name(), PORT, &ground.paris.server())?;
        side.echoes(&side.name(), PORT)
    })?;
    Ok(Seen::All)
}

/// The other cluster has a Service of the same name, with a pod, and does not export it.
pub fn only_the_exporter_serves(ground: &Ground) -> Result<Seen, String> {
    ground.everywhere(Side::serve)?;
    ground.everywhere(|side| side.service(with_ports(&[port("tcp", "TCP", PORT)])))?;
    ground.paris.export(json!({}))?;
    ground.everywhere(|side| {
        side.slices("paris", 1)?;
        side.reaches(&side.name(), PORT, &ground.paris.server())
    })?;
    // Its own name still means its own pod.
    let own = ground.osaka.name_in("cluster.local");
    ground.osaka.reaches(&own, PORT, &ground.osaka.server())?;
    Ok(Seen::All)
}
