//! What `service list` reports: a stable shape for programs, which the table is made of too.

use std::collections::BTreeMap;

use carrick_crds::condition;
use carrick_crds::service::ServiceImportPort;
use carrick_crds::{ServiceExport, ServiceImport};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt as _;
use serde::Serialize;

use super::found::{self, ServiceError, Services, endpoints, names_cluster};
use crate::parts::Count;
use crate::status::{ConditionReport, condition_report};
use crate::table::Table;

/// A service that is exported from here, or imported, or both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceReport {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Whether this cluster exports it.
    pub exported: bool,
    /// Whether this cluster imports it.
    pub imported: bool,
    /// `ClusterSetIP` or `Headless`; empty when it is not imported.
    #[serde(rename = "type")]
    pub kind: String,
    /// The clusterset IPs.
    pub ips: Vec<String>,
    /// Ports, such as `80/TCP`.
    pub ports: Vec<String>,
    /// The clusters that export it, with their endpoints as they can be used here.
    pub clusters: Vec<ClusterReport>,
    /// Conditions of the export.
    pub export_conditions: Vec<ConditionReport>,
    /// Conditions of the import.
    pub import_conditions: Vec<ConditionReport>,
}

/// A cluster's part of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterReport {
    /// The cluster's ID.
    pub cluster: String,
    /// Endpoints that are ready, of all that are in slices here.
    pub endpoints: Count,
}

/// All services. One request that failed is the end, because a list with holes misleads.
pub fn of(found: Services) -> Result<Vec<ServiceReport>, ServiceError> {
    Ok(report(&found.exports?, &found.imports?, &found.slices?))
}

/// All services, by namespace and name.
pub fn report(
    exports: &[ServiceExport],
    imports: &[ServiceImport],
    slices: &[EndpointSlice],
) -> Vec<ServiceReport> {
    let mut all: BTreeMap<(String, String), ServiceReport> = BTreeMap::new();
    for import in imports {
        entry(&mut all, import.namespace(), import.name_any(), |report| {
            fill(report, import, slices)
        });
    }
    for export in exports {
        entry(&mut all, export.namespace(), export.name_any(), |report| {
            report.exported = true;
            report.export_conditions =
                found::of_export(export).iter().map(condition_report).collect();
        });
    }
    all.into_values().collect()
}

fn entry(
    all: &mut BTreeMap<(String, String), ServiceReport>,
    namespace: Option<String>,
    name: String,
    fill: impl FnOnce(&mut ServiceReport),
) {
    let key = (namespace.unwrap_or_default(), name);
    fill(all.entry(key.clone()).or_insert_with(|| ServiceReport {
        namespace: key.0,
        name: key.1,
        exported: false,
        imported: false,
        kind: String::new(),
        ips: Vec::new(),
        ports: Vec::new(),
        clusters: Vec::new(),
        export_conditions: Vec::new(),
        import_conditions: Vec::new(),
    }));
}

fn fill(report: &mut ServiceReport, import: &ServiceImport, slices: &[EndpointSlice]) {
    report.imported = true;
    report.kind = import.spec.kind.clone();
    report.ips = import.spec.ips.clone();
    report.ports = import.spec.ports.iter().map(port).collect();
    report.import_conditions = found::of_import(import).iter().map(condition_report).collect();
    let by_cluster = endpoints(slices, &report.namespace, &report.name);
    report.clusters = found::clusters(import)
        .map(|cluster| {
            let own = by_cluster.iter().filter(|(label, _)| names_cluster(label, cluster));
            let own: Vec<_> = own.flat_map(|(_, endpoints)| endpoints).collect();
            let ready = own.iter().filter(|endpoint| endpoint.ready).count();
            let count = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
            let endpoints = Count { ready: count(ready), wanted: count(own.len()) };
            ClusterReport { cluster: cluster.to_owned(), endpoints }
        })
        .collect();
}

/// A port, for people.
pub fn port(port: &ServiceImportPort) -> String {
    format!("{}/{}", port.port, port.protocol.as_deref().unwrap_or("TCP"))
}

/// The list as a table.
pub fn table(reports: &[ServiceReport]) -> String {
    let headings =
        ["NAMESPACE", "NAME", "TYPE", "IP", "PORTS", "ENDPOINTS READY", "EXPORT", "IMPORT"];
    let mut table = Table::new(&headings);
    for report in reports {
        let clusters: Vec<String> =
            report.clusters.iter().map(|c| format!("{} {}", c.cluster, c.endpoints)).collect();
        table.row([
            report.namespace.clone(),
            report.name.clone(),
            report.kind.clone(),
            report.ips.join(","),
            report.ports.join(","),
            clusters.join(", "),
            if report.exported { export_word(&report.export_conditions) } else { String::new() },
            if report.imported { ready_word(&report.import_conditions) } else { String::new() },
        ]);
    }
    match table.is_empty() {
        true => {
            "No service is exported or imported here: `carrick service export NAME` exports one.\n"
                .to_owned()
        }
        false => table.render(),
    }
}

/// What is the matter with an export, in a word or two.
fn export_word(conditions: &[ConditionReport]) -> String {
    let find = |type_: &str| conditions.iter().find(|c| c.type_ == type_);
    match (find("Valid"), find("Conflict")) {
        (Some(valid), _) if valid.status != "True" => valid.reason.clone(),
        (_, Some(conflict)) if conflict.status == "True" => conflict.reason.clone(),
        _ => ready_word(conditions),
    }
}

fn ready_word(conditions: &[ConditionReport]) -> String {
    let found = conditions.iter().find(|condition| condition.type_ == "Ready");
    found.map_or_else(|| "Pending".to_owned(), |condition| condition.reason.clone())
}

/// What people should know of an export right away.
pub fn notes(service: Option<&k8s_openapi::api::core::v1::Service>, name: &str) -> Vec<String> {
    let type_ =
        |s: &k8s_openapi::api::core::v1::Service| s.spec.as_ref().and_then(|s| s.type_.clone());
    match service {
        None => {
            vec![format!("there is no Service {name} yet; it is exported as soon as there is one")]
        }
        Some(service) if type_(service).as_deref() == Some("ExternalName") => {
            vec![format!("Service {name} is an ExternalName, which cannot be exported")]
        }
        Some(_) => Vec::new(),
    }
}

/// The condition that says most about what is wrong with an export.
pub fn unwell(
    export: &ServiceExport,
) -> Option<&k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition> {
    let conditions = found::of_export(export);
    let of = |type_| condition::find(conditions, type_).filter(|c| c.status != "True");
    of("Valid").or_else(|| of("Ready"))
}

#[cfg(test)]
mod tests;
