//! What the API or its DNS specification says, and no report counts.

use serde_json::json;

use super::ground::{Ground, Seen};
use super::names::two_pods;
use super::objects::{HEADLESS_PORT, PORT, headless, usual};
use super::side::Side;

pub fn the_zone_has_a_version(ground: &Ground) -> Result<Seen, String> {
    // CoreDNS says that of cluster.local; it has no other.
    ground.everywhere(|side| {
        side.says("TXT", "dns-version.clusterset.local", "NOERROR", &["1.1.0"])
    })?;
    Ok(Seen::TooLittle(
        "CoreDNS says 1.1.0, the version of cluster.local's schema, where the specification has 1.0.0",
    ))
}

pub fn srv_of_a_named_port(ground: &Ground) -> Result<Seen, String> {
    ground.paris.exports(usual())?;
    ground.everywhere(|side| {
        let record = format!("{PORT} {}", side.name());
        side.says("SRV", &format!("_tcp._tcp.{}", side.name()), "NOERROR", &[&record])?;
        side.says("SRV", &format!("_udp._udp.{}", side.name()), "NOERROR", &[&record])?;
        side.says("SRV", &format!("_udp._tcp.{}", side.name()), "NXDOMAIN", &[])
    })?;
    Ok(Seen::All)
}

pub fn srv_of_a_headless_port(ground: &Ground) -> Result<Seen, String> {
    let records = two_pods(ground)?;
    let records: Vec<&str> = records.iter().map(String::as_str).collect();
    ground.everywhere(|side| {
        side.says("SRV", &format!("_tcp._tcp.{}", side.name()), "NOERROR", &records)
    })?;
    Ok(Seen::All)
}

pub fn no_name_for_a_cluster(ground: &Ground) -> Result<Seen, String> {
    ground.paris.serve()?;
    ground.paris.exports(usual())?;
    ground.everywhere(|side| {
        side.reaches(&side.name(), PORT, &ground.paris.server())?;
        side.says("A", &format!("paris.{}", side.name()), "NXDOMAIN", &[])
    })?;
    Ok(Seen::All)
}

/// Refused, and no time-out: the derived Service is there, and nothing behind it.
pub fn without_endpoints_refused(ground: &Ground) -> Result<Seen, String> {
    ground.paris.exports(usual())?;
    ground.everywhere(|side| {
        let addresses = side.addresses()?;
        side.says("A", &side.name(), "NOERROR", &[&addresses.four])?;
        side.says("AAAA", &side.name(), "NOERROR", &[&addresses.six])?;
        addresses.hosts().iter().try_for_each(|host| side.is_refused(host, PORT))
    })?;
    Ok(Seen::All)
}

/// Connections and datagrams, by each of the two addresses.
pub fn reached_over_both_families(ground: &Ground) -> Result<Seen, String> {
    ground.paris.serve()?;
    ground.paris.exports(usual())?;
    ground.everywhere(|side| {
        side.addresses()?.hosts().iter().try_for_each(|host| {
            side.reaches(host, PORT, &ground.paris.server())?;
            side.echoes(host, PORT)
        })
    })?;
    Ok(Seen::All)
}

pub fn headless_without_endpoints(ground: &Ground) -> Result<Seen, String> {
    ground.paris.exports(headless())?;
    ground.everywhere(|side| {
        side.import("its type", |import| import["spec"]["type"] == "Headless")?;
        side.says("A", &side.name(), "NXDOMAIN", &[])
    })?;
    let paris = &ground.paris;
    paris.serve()?;
    let address = paris.pod_address(&paris.server(), true)?;
    ground.everywhere(|side| side.says("A", &side.name(), "NOERROR", &[&address]))?;
    ground.everywhere(|side| side.reaches(&side.name(), HEADLESS_PORT, &paris.server()))?;
    Ok(Seen::All)
}

/// Exported before there is a Service; it says so, and works once there is one.
pub fn exported_before_its_service(ground: &Ground) -> Result<Seen, String> {
    let paris = &ground.paris;
    paris.export(json!({}))?;
    paris.condition("Valid", "False", "NoService")?;
    paris.condition("Ready", "False", "Pending")?;
    ground.everywhere(Side::imports_nothing)?;
    paris.service(usual())?;
    paris.condition("Valid", "True", "Valid")?;
    paris.condition("Ready", "True", "Exported")?;
    paris.condition("Conflict", "False", "NoConflicts")?;
    ground.everywhere(|side| side.address().map(drop))?;
    Ok(Seen::All)
}

/// Exported where the other cluster has no such namespace: imported when it has.
pub fn exported_before_the_namespace(ground: &Ground) -> Result<Seen, String> {
    let (paris, osaka) = (&ground.paris, &ground.osaka);
    osaka.namespace_goes()?;
    paris.serve()?;
    paris.exports(usual())?;
    paris.address()?;
    osaka.imports_nothing()?;
    osaka.namespace_comes()?;
    osaka.address()?;
    osaka.reaches(&osaka.name(), PORT, &paris.server())?;
    Ok(Seen::All)
}
