//! Services that change while they are exported: their imports follow, or the export says why not.

use std::net::SocketAddr;

use carrick_e2e::Lab;
use carrick_e2e::cluster::Cluster;
use carrick_e2e::wait::wait_until;
use serde_json::Value;

use super::knock::page;
use super::{
    PROBES, SOON, consent, derived, export, gone, imported, object, service, sharing, slices,
    unexported, wait_condition,
};
use crate::common::{check, pod_network, text};
use crate::traffic::last;
use crate::world::{Case, Outcome};

/// All cases, in order.
pub const CASES: &[(&str, Case)] = &[
    ("services::an_import_follows_the_ports_of_its_service", ports_change),
    ("services::an_import_follows_the_type_of_its_service", type_changes),
];

/// Osaka exports the usual Service, paris imports it.
fn exported(lab: &Lab) -> Result<(Cluster, Cluster, String), String> {
    let (paris, osaka) = sharing(lab)?;
    consent(&paris, &osaka)?;
    text(osaka.apply(&format!("{}---\n{}", service("hello", PROBES), export("hello"))))?;
    let (_, address) = imported(&paris, "hello")?;
    serves(&paris, &address, 80)?;
    Ok((paris, osaka, address))
}

fn target(address: &str, port: u16) -> Result<SocketAddr, String> {
    text(format!("{address}:{port}").parse())
}

/// Waits until the other cluster serves at a port of the address.
fn serves(cluster: &Cluster, address: &str, port: u16) -> Outcome {
    let (network, target) = (pod_network(cluster, &last(cluster))?, target(address, port)?);
    text(wait_until(SOON, &format!("a page of {target}"), || {
        let page = page(&network, target)?;
        check(page.server.starts_with("probe-osaka"), || page.server)
    }))
}

/// Waits until connections to a port of the address fail.
fn serves_no_more(cluster: &Cluster, address: &str, port: u16) -> Outcome {
    let (network, target) = (pod_network(cluster, &last(cluster))?, target(address, port)?);
    text(wait_until(SOON, &format!("the end of {target}"), || match page(&network, target) {
        Ok(page) => Err(format!("{} serves", page.server)),
        Err(_) => Ok(()),
    }))
}

/// Waits for an import of which that holds.
fn import(cluster: &Cluster, what: &str, holds: impl Fn(&Value) -> bool) -> Result<Value, String> {
    text(wait_until(SOON, &format!("an import in {} with {what}", cluster.plan().name), || {
        let import = object(cluster, "serviceimport", "hello")?;
        check(!import.is_null() && holds(&import["spec"]), || import.to_string()).map(|()| import)
    }))
}

/// One port is another, one comes, and one goes; the address stays.
fn ports_change(lab: &Lab) -> Outcome {
    let (paris, osaka, address) = exported(lab)?;
    let changes: [(&str, &[u16], &[u16]); 3] = [
        (r#"[{"name":"web","port":81,"targetPort":8080}]"#, &[81], &[80]),
        (
            r#"[{"name":"web","port":81,"targetPort":8080},{"name":"more","port":90,"targetPort":8080}]"#,
            &[81, 90],
            &[],
        ),
        (r#"[{"name":"more","port":90,"targetPort":8080}]"#, &[90], &[80, 81]),
    ];
    for (ports, there, gone) in changes {
        let patch = format!(r#"{{"spec":{{"ports":{ports}}}}}"#);
        text(osaka.kubectl(&["patch", "service", "hello", "--type=merge", "--patch", &patch]))?;
        for cluster in [&paris, &osaka] {
            import(cluster, &format!("ports {there:?}"), |spec| {
                let ports = spec["ports"].as_array().into_iter().flatten();
                ports
                    .map(|port| port["port"].as_u64())
                    .eq(there.iter().map(|one| Some(u64::from(*one))))
            })?;
        }
        there.iter().try_for_each(|port| serves(&paris, &address, *port))?;
        gone.iter().try_for_each(|port| serves_no_more(&paris, &address, *port))?;
        let (_, now) = imported(&paris, "hello")?;
        check(now == address, || format!("{address} became {now}"))?;
    }
    unexported(&[&osaka], &paris, &osaka)
}

/// With an address, headless, a name of something else, and back each time.
fn type_changes(lab: &Lab) -> Outcome {
    let (paris, osaka, address) = exported(lab)?;
    // The address of a Service stays as it is, so that it takes another Service.
    let becomes = |spec: &str| {
        text(osaka.kubectl(&["delete", "service", "hello"]))?;
        text(osaka.apply(&service("hello", spec))).map(drop)
    };
    becomes("{clusterIP: None, selector: {app: probe}, ports: [{name: web, port: 8080}]}")?;
    for cluster in [&paris, &osaka] {
        import(cluster, "no address", |spec| {
            spec["type"] == "Headless" && spec["ips"].as_array().is_none_or(Vec::is_empty)
        })?;
        text(wait_until(SOON, "slices with both pods, and no derived Service", || {
            let (slices, service) = (slices(cluster, "hello")?, derived(cluster, "hello")?);
            let count = |slice: &Value| slice["endpoints"].as_array().map_or(0, Vec::len);
            let pods: usize = slices.iter().map(count).sum();
            let right = pods == osaka.plan().nodes.len() && service.is_null();
            check(right, || format!("{slices:?} {service}"))
        }))?;
    }
    serves_no_more(&paris, &address, 80)?;

    becomes(PROBES)?;
    import(&paris, "an address", |spec| spec["ips"][0].is_string())?;
    let (_, address) = imported(&paris, "hello")?;
    serves(&paris, &address, 80)?;

    // This one the API server lets change as it is.
    text(osaka.apply(&service("hello", "{type: ExternalName, externalName: example.org}")))?;
    wait_condition(&osaka, "serviceexport", "hello", ["Valid", "False", "InvalidServiceType"])?;
    gone(&paris, "hello")?;
    gone(&osaka, "hello")?;
    serves_no_more(&paris, &address, 80)?;
    text(osaka.apply(&service("hello", &PROBES.replacen('{', "{type: ClusterIP, ", 1))))?;
    wait_condition(&osaka, "serviceexport", "hello", ["Valid", "True", "Valid"])?;
    let (_, address) = imported(&paris, "hello")?;
    serves(&paris, &address, 80)?;
    unexported(&[&osaka], &paris, &osaka)
}
