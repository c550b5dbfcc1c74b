//! What an export makes, in both clusters, and what it takes along.

use serde_json::{Value, json};

use super::ground::{Ground, Seen};
use super::objects::{headless, usual, with};
use super::side::Side;
use crate::common::{check, holds};
use crate::world::Outcome;

/// The clusters that an import names.
pub fn clusters(import: &Value) -> Vec<&str> {
    let all = import["status"]["clusters"].as_array().into_iter().flatten();
    let mut names: Vec<_> = all.filter_map(|one| one["cluster"].as_str()).collect();
    names.sort_unstable();
    names
}

/// Exports this from paris, and waits until both imports have these fields.
fn carried(ground: &Ground, spec: Value, fields: &[(&str, Value)]) -> Result<Seen, String> {
    ground.paris.exports(spec)?;
    let names: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
    let has = |import: &Value| fields.iter().all(|(name, value)| import["spec"][*name] == *value);
    ground.everywhere(|side| side.import(&names.join(", "), has).map(drop))?;
    Ok(Seen::All)
}

pub fn lives_with_its_last_export(ground: &Ground) -> Result<Seen, String> {
    ground.both_export(usual(), usual())?;
    let of = |side: &Side, wanted: &[&str]| {
        side.import(&format!("clusters {wanted:?}"), |import| clusters(import) == wanted)
    };
    let uid = |import: Value| import["metadata"]["uid"].clone();
    let before = ground.both().map(|side| of(side, &["osaka", "paris"]).map(uid));
    ground.paris.unexport()?;
    for (side, before) in ground.both().into_iter().zip(before) {
        let (before, after) = (before?, uid(of(side, &["osaka"])?));
        check(before == after, || format!("{}: {before} became {after}", side.id()))?;
    }
    ground.osaka.unexport()?;
    ground.everywhere(Side::gone)?;
    Ok(Seen::All)
}

/// An export makes an import of a type in both clusters, and unexporting takes it away.
fn comes_and_goes(ground: &Ground, spec: Value, type_: &str) -> Result<Seen, String> {
    ground.paris.exports(spec)?;
    ground.paris.condition("Valid", "True", "Valid")?;
    ground.everywhere(|side| {
        side.import(type_, |import| import["spec"]["type"] == type_).map(drop)
    })?;
    ground.paris.unexport()?;
    ground.everywhere(Side::gone)?;
    Ok(Seen::All)
}

pub fn clusterset_ip_comes_and_goes(ground: &Ground) -> Result<Seen, String> {
    comes_and_goes(ground, usual(), "ClusterSetIP")
}

pub fn headless_comes_and_goes(ground: &Ground) -> Result<Seen, String> {
    comes_and_goes(ground, headless(), "Headless")
}

pub fn headless_has_no_address(ground: &Ground) -> Result<Seen, String> {
    ground.paris.exports(headless())?;
    ground.everywhere(|side| {
        side.import("Ready", |import| holds(import, "Ready", "True"))?;
        let import = side.import("its type", |import| import["spec"]["type"] == "Headless")?;
        let none = import["spec"]["ips"].as_array().is_none_or(Vec::is_empty);
        check(none, || format!("{}: {import}", side.id()))
    })?;
    Ok(Seen::All)
}

pub fn session_affinity(ground: &Ground) -> Result<Seen, String> {
    let config = json!({ "clientIP": { "timeoutSeconds": 10 } });
    let fields = [("sessionAffinity", json!("ClientIP")), ("sessionAffinityConfig", config)];
    carried(ground, usual(), &fields)
}

pub fn internal_traffic_policy(ground: &Ground) -> Result<Seen, String> {
    let local = json!("Local");
    let spec = with(usual(), "internalTrafficPolicy", local.clone());
    carried(ground, spec, &[("internalTrafficPolicy", local)])
}

pub fn traffic_distribution(ground: &Ground) -> Result<Seen, String> {
    let close = json!("PreferClose");
    let spec = with(usual(), "trafficDistribution", close.clone());
    carried(ground, spec, &[("trafficDistribution", close)])
}

pub fn an_address_a_family(ground: &Ground) -> Result<Seen, String> {
    ground.paris.exports(usual())?;
    let service = ground.paris.object("service", "hello")?;
    let families = service["spec"]["ipFamilies"].clone();
    let count = families.as_array().map_or(0, Vec::len);
    check(count == 2, || format!("the Service has not both families: {service}"))?;
    ground.everywhere(|side| {
        let import = side.import("its families", |import| {
            let ips = import["spec"]["ips"].as_array().map_or(0, Vec::len);
            ips == count && import["spec"]["ipFamilies"] == families
        })?;
        addresses_are_of(&import, &families)
    })?;
    Ok(Seen::All)
}

/// Each address is of the family in its place.
fn addresses_are_of(import: &Value, families: &Value) -> Outcome {
    let family = |ip: &Value| match ip.as_str().unwrap_or_default().parse() {
        Ok(std::net::IpAddr::V4(_)) => json!("IPv4"),
        Ok(std::net::IpAddr::V6(_)) => json!("IPv6"),
        Err(_) => Value::Null,
    };
    let found: Value = import["spec"]["ips"].as_array().into_iter().flatten().map(family).collect();
    check(found == *families, || format!("{found} instead of {families}: {import}"))
}

/// Ports without what only a Service has.
fn ports_are(wanted: &[(&str, &str, u16)]) -> impl Fn(&Value) -> bool {
    let key =
        |name: &str, protocol: &str, number: u64| (name.to_owned(), protocol.to_owned(), number);
    let mut wanted: Vec<_> =
        wanted.iter().map(|(n, p, number)| key(n, p, (*number).into())).collect();
    wanted.sort();
    move |import| {
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let ports = import["spec"]["ports"].as_array().into_iter().flatten();
        let mut found: Vec<_> = ports
            .map(|port| {
                (word(&port["name"]), word(&port["protocol"]), port["port"].as_u64().unwrap_or(0))
            })
            .collect();
        found.sort();
        found == wanted
    }
}

/// Waits until both imports have just these ports: name, protocol and number.
pub fn have_ports(ground: &Ground, wanted: &[(&str, &str, u16)]) -> Outcome {
    let what = format!("ports {wanted:?}");
    ground.everywhere(|side| side.import(&what, ports_are(wanted)).map(drop))
}

pub fn ports(ground: &Ground) -> Result<Seen, String> {
    ground.paris.exports(usual())?;
    have_ports(ground, &[("tcp", "TCP", 42), ("udp", "UDP", 42)])?;
    Ok(Seen::All)
}

pub fn external_name(ground: &Ground) -> Result<Seen, String> {
    ground.paris.exports(json!({ "type": "ExternalName", "externalName": "example.org" }))?;
    ground.paris.condition("Valid", "False", "InvalidServiceType")?;
    ground.everywhere(Side::imports_nothing)?;
    Ok(Seen::All)
}

pub fn only_named_labels_travel(ground: &Ground) -> Result<Seen, String> {
    let mut service =
        super::objects::object("v1", "Service", [&ground.paris.namespace, "hello"], usual());
    service["metadata"]["labels"] = json!({ "own": "1" });
    service["metadata"]["annotations"] = json!({ "example.org/own": "1" });
    ground.paris.apply(&service)?;
    let spec = json!({
        "exportedLabels": { "team": "a" },
        "exportedAnnotations": { "example.org/note": "b" },
    });
    ground.paris.export(spec)?;
    ground.everywhere(|side| {
        let import = side.import("the label and the annotation", |import| {
            let metadata = &import["metadata"];
            metadata["labels"]["team"] == "a" && metadata["annotations"]["example.org/note"] == "b"
        })?;
        let metadata = &import["metadata"];
        let none = metadata["labels"]["own"].is_null()
            && metadata["annotations"]["example.org/own"].is_null();
        check(none, || format!("{}: {metadata}", side.id()))
    })?;
    Ok(Seen::All)
}
