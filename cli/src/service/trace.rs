//! `carrick service trace`: from a name to the pods behind it, step by step; says where the way ends and why.

mod cluster;
mod import;

use carrick_crds::ServiceImport;
use carrick_crds::service::IMPORT;
use kube::ResourceExt as _;

use super::found::{Services, endpoints, is_of};
use crate::check::{Finding, Outcome, Step};
use crate::dns::{self, Dns};
use crate::state::{FetchError, FetchErrorKind, Fetched, State};

/// All that a trace looks at.
#[derive(Debug, Clone)]
pub struct Scene {
    /// The service's namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Whether the namespace is there.
    pub has_namespace: Fetched<bool>,
    /// Exports and imports of the namespace.
    pub services: Services,
    /// The cluster's DNS.
    pub dns: Dns,
    /// Carrick itself: identity and peerings.
    pub state: State,
}

impl Scene {
    /// The service, as messages name it.
    fn service(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// Its name for the whole cluster set.
    fn domain(&self) -> String {
        format!("{}.{}.svc.{}", self.name, self.namespace, dns::ZONE)
    }

    /// The import, if there is one.
    fn import(&self) -> Option<&ServiceImport> {
        let imports = self.services.imports.as_deref().ok()?;
        imports.iter().find(|import| import.name_any() == self.name)
    }
}

/// Walks. A name that DNS does not serve does not stop those who use the address; without an import or an address there is
/// nothing behind; clusters do not depend on one another.
pub fn steps(scene: &Scene) -> Vec<Step> {
    let step = |name: &str, outcome| Step { name: name.to_owned(), outcome };
    let mut steps = vec![step("Name", name(scene)), step("Import", import::look(scene))];
    let Some(import) = scene.import().filter(|_| !is_wrong(&steps[1])) else {
        steps.extend(["Address", "Clusters"].map(|name| step(name, Outcome::Skipped)));
        return steps;
    };
    steps.push(step("Address", address(scene, import)));
    if is_wrong(&steps[2]) {
        steps.push(step("Clusters", Outcome::Skipped));
        return steps;
    }
    steps.extend(cluster::steps(scene, import));
    steps.push(step("Endpoints", all_endpoints(scene)));
    steps
}

fn is_wrong(step: &Step) -> bool {
    matches!(step.outcome, Outcome::Wrong(_))
}

fn wrong(what: impl Into<String>, remedy: impl Into<String>) -> Outcome {
    Outcome::Wrong(Finding::new(what, remedy))
}

/// What a request that failed leaves unknown. What a person may not look at may still be well.
fn unknown(what: &str, error: &FetchError) -> Outcome {
    match error.kind {
        FetchErrorKind::Forbidden => {
            Outcome::Warning(Finding::new(format!("{what} is not known: {error}"), error.remedy()))
        }
        _ => Outcome::Wrong(error.into()),
    }
}

/// Does the cluster's DNS know the name, and what should it say?
fn name(scene: &Scene) -> Outcome {
    let domain = scene.domain();
    let dns = &scene.dns;
    let unread = [
        dns.configmap.as_ref().err(),
        dns.workloads.as_ref().err(),
        dns.kind_served.as_ref().err(),
    ];
    if let Some(error) = unread.into_iter().flatten().next() {
        // Users of a namespace seldom may look at the cluster's DNS.
        return Outcome::Warning(Finding::new(
            format!("whether {domain} is served is not known: {error}"),
            format!("look it up from a pod: nslookup {domain}"),
        ));
    }
    for Step { name, outcome } in dns::judge::steps(&scene.dns) {
        match outcome {
            Outcome::Wrong(found) => {
                let what = format!("{domain} is not served: {name}: {}", found.what);
                return wrong(what, found.remedy);
            }
            Outcome::Warning(found) if name != "Rights" => {
                let what = format!("{domain} may not be served: {name}: {}", found.what);
                return Outcome::Warning(Finding::new(what, found.remedy));
            }
            _ => {}
        }
    }
    let expected = expected(scene);
    Outcome::Good(match expected.as_slice() {
        [] => format!("{domain}, which has no address"),
        addresses => format!("{domain} A {}", addresses.join(", ")),
    })
}

/// The addresses that DNS should answer with.
fn expected(scene: &Scene) -> Vec<String> {
    let Some(import) = scene.import() else { return Vec::new() };
    if import.spec.kind != "Headless" {
        return import.spec.ips.clone();
    }
    let slices = scene.services.slices.as_deref().unwrap_or_default();
    let all = endpoints(slices, &scene.namespace, &scene.name);
    let ready = all.into_iter().flat_map(|(_, endpoints)| endpoints).filter(|e| e.ready);
    ready.map(|endpoint| endpoint.address).collect()
}

/// Is there a Service with the clusterset IP, from which kube-proxy or the CNI takes it?
fn address(scene: &Scene, import: &ServiceImport) -> Outcome {
    if import.spec.kind == "Headless" {
        return Outcome::Good("none: headless, clients take the pods' own addresses".to_owned());
    }
    let Some(wanted) = import.spec.ips.first() else {
        let what = format!("ServiceImport {} has no spec.ips", scene.service());
        return wrong(
            what,
            "wait some seconds; if it stays so, see the controller's log (carrick check)",
        );
    };
    let derived = match &scene.services.derived {
        Ok(derived) => derived,
        Err(error) => return Outcome::Wrong(error.into()),
    };
    let made = |service: &&k8s_openapi::api::core::v1::Service| {
        is_of(*service, &scene.namespace, &scene.name) && service.annotations().contains_key(IMPORT)
    };
    let Some(service) = derived.iter().find(made) else {
        return wrong(
            format!(
                "no Service in the namespace {} holds {wanted}: the derived one is missing",
                scene.namespace
            ),
            "wait some seconds for the controller to restore it; if it stays so: carrick check",
        );
    };
    let held =
        service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()).unwrap_or_default();
    if held != wanted {
        return wrong(
            format!(
                "Service {} has spec.clusterIP {held:?}, and the import's is {wanted}",
                service.name_any()
            ),
            "wait some seconds for the controller to write the import anew; if it stays so: carrick check",
        );
    }
    let ports: Vec<String> = import.spec.ports.iter().map(super::report::port).collect();
    Outcome::Good(format!("{wanted}, ports {}, of Service {}", ports.join(" "), service.name_any()))
}

/// Is anybody there at all?
fn all_endpoints(scene: &Scene) -> Outcome {
    let slices = match &scene.services.slices {
        Ok(slices) => slices,
        Err(error) => return Outcome::Wrong(error.into()),
    };
    let all = endpoints(slices, &scene.namespace, &scene.name);
    let with: Vec<_> = all.iter().filter(|(_, list)| list.iter().any(|e| e.ready)).collect();
    let ready = with.iter().flat_map(|(_, list)| list).filter(|e| e.ready).count();
    match ready {
        0 => wrong(
            "none is ready in any cluster: clients are refused, and a headless name does not exist",
            format!(
                "in a cluster that exports it: kubectl -n {} get endpointslices,pods",
                scene.namespace
            ),
        ),
        ready => Outcome::Good(format!(
            "{ready} ready in {} of {} clusters",
            with.len(),
            all.len().max(with.len())
        )),
    }
}

#[cfg(test)]
mod tests;
