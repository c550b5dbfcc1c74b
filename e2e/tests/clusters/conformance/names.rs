//! What DNS says of imports, and what it still says of a cluster's own Services.

use serde_json::json;

use super::ground::{Ground, Seen};
use super::objects::{HEADLESS_PORT, PORT, headless, of_both_families, port, usual, with_ports};
use super::side::{Addresses, Side};

pub fn addresses(ground: &Ground) -> Result<Seen, String> {
    ground.paris.exports(usual())?;
    ground.everywhere(|side| {
        let Addresses { four, six } = side.addresses()?;
        side.says("A", &side.name(), "NOERROR", &[&four])?;
        side.says("AAAA", &side.name(), "NOERROR", &[&six])
    })?;
    Ok(Seen::All)
}

/// Two ports have one number.
pub fn one_srv_record(ground: &Ground) -> Result<Seen, String> {
    ground.paris.exports(usual())?;
    ground.everywhere(|side| {
        let record = format!("{PORT} {}", side.name());
        side.says("SRV", &side.name(), "NOERROR", &[&record])
    })?;
    Ok(Seen::All)
}

pub fn cluster_local_is_local(ground: &Ground) -> Result<Seen, String> {
    let (paris, osaka) = (&ground.paris, &ground.osaka);
    ground.everywhere(Side::serve)?;
    let spec = || with_ports(&[port("tcp", "TCP", PORT)]);
    let own = paris.name_in("cluster.local");
    let local = |side: &Side| {
        let service = side.object("service", "hello")?;
        let address = service["spec"]["clusterIP"].as_str().unwrap_or_default().to_owned();
        side.says("A", &own, "NOERROR", &[&address])?;
        side.reaches(&own, PORT, &side.server())
    };
    paris.exports(spec())?;
    osaka.address()?;
    local(paris)?;
    osaka.says("A", &own, "NXDOMAIN", &[])?;
    osaka.service(spec())?;
    ground.everywhere(local)?;
    Ok(Seen::All)
}

/// Of three pods one is not ready.
pub fn headless_is_its_ready_pods(ground: &Ground) -> Result<Seen, String> {
    let paris = &ground.paris;
    let mut late = paris.pod_spec();
    // Nothing listens there.
    late["containers"][0]["readinessProbe"]["tcpSocket"]["port"] = json!(9);
    for (name, spec) in [("one", paris.pod_spec()), ("two", paris.pod_spec()), ("late", late)] {
        paris.pod(name, spec)?;
    }
    let [one, two] = [paris.pod_addresses("one")?, paris.pod_addresses("two")?];
    paris.pod_address("late", false)?;
    paris.exports(of_both_families(headless()))?;
    ground.everywhere(|side| {
        side.says("A", &side.name(), "NOERROR", &[&one.four, &two.four])?;
        side.says("AAAA", &side.name(), "NOERROR", &[&one.six, &two.six])
    })?;
    Ok(Seen::All)
}

pub fn a_pod_by_its_name(ground: &Ground) -> Result<Seen, String> {
    let address = ground.paris.stateful_set_of_service()?;
    ground.paris.export(json!({}))?;
    ground.everywhere(|side| {
        let name = format!("hello-0.paris.{}", side.name());
        side.says("A", &name, "NOERROR", &[&address])?;
        side.reaches(&name, HEADLESS_PORT, "hello-0")
    })?;
    Ok(Seen::All)
}

/// One pod has a host name, the other has none.
pub fn headless_srv(ground: &Ground) -> Result<Seen, String> {
    let records = two_pods(ground)?;
    let records: Vec<&str> = records.iter().map(String::as_str).collect();
    ground.everywhere(|side| side.says("SRV", &side.name(), "NOERROR", &records))?;
    Ok(Seen::All)
}

/// Exports a headless Service of two pods, and gives their SRV records.
pub fn two_pods(ground: &Ground) -> Result<[String; 2], String> {
    let paris = &ground.paris;
    let mut named = paris.pod_spec();
    named["hostname"] = json!("alpha");
    named["subdomain"] = json!("hello");
    paris.pod("named", named)?;
    paris.pod("bare", paris.pod_spec())?;
    paris.pod_address("named", true)?;
    let dashed = paris.pod_address("bare", true)?.replace(['.', ':'], "-");
    paris.exports(headless())?;
    let name = paris.name();
    Ok(["alpha", &dashed].map(|host| format!("{HEADLESS_PORT} {host}.paris.{name}")))
}
