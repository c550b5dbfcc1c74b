//! Is the service imported here? If not: who keeps it from it?

use carrick_crds::service::IMPORT;
use carrick_crds::{ClusterPeering, condition};
use kube::ResourceExt as _;

use super::{Scene, wrong};
use crate::check::{Finding, Outcome};
use crate::service::found::{self, ServiceError};
use crate::service::report::unwell;
use crate::state::FetchError;

/// Looks at the import.
pub fn look(scene: &Scene) -> Outcome {
    if let Err(error) = &scene.services.imports {
        return of_error(error);
    }
    let Some(import) = scene.import() else { return missing(scene) };
    let ready = condition::find(found::of_import(import), "Ready");
    let ours = import.annotations().contains_key(IMPORT);
    let clusters: Vec<&str> = found::clusters(import).collect();
    match ready {
        Some(ready) if ready.status != "True" => wrong(
            format!(
                "ServiceImport {} has Ready={}: {}: {}",
                scene.service(),
                ready.status,
                ready.reason,
                ready.message
            ),
            "remove what the message names; the controller tries again by itself",
        ),
        _ if !ours => wrong(
            format!(
                "ServiceImport {} was not made by Carrick (no annotation {IMPORT})",
                scene.service()
            ),
            format!(
                "delete it if nobody needs it: kubectl -n {} delete serviceimport {}",
                scene.namespace, scene.name
            ),
        ),
        None => wrong(
            format!("ServiceImport {} has no condition Ready yet", scene.service()),
            "wait some seconds; if it stays so: carrick check",
        ),
        Some(_) => {
            Outcome::Good(format!("{}, exported by {}", import.spec.kind, clusters.join(", ")))
        }
    }
}

fn of_error(error: &FetchError) -> Outcome {
    let error = ServiceError::from(error.clone());
    wrong(error.to_string(), error.remedy())
}

/// Why there is no import: what is known here comes first.
fn missing(scene: &Scene) -> Outcome {
    if scene.has_namespace == Ok(false) {
        return wrong(
            format!(
                "there is no namespace {}, and services are imported only where there is one",
                scene.namespace
            ),
            format!("kubectl create namespace {}", scene.namespace),
        );
    }
    let exports = scene.services.exports.as_deref().unwrap_or_default();
    if let Some(export) = exports.iter().find(|export| export.name_any() == scene.name) {
        return match unwell(export) {
            Some(c) => wrong(
                format!(
                    "is exported here, but {}={}: {}: {}",
                    c.type_, c.status, c.reason, c.message
                ),
                "see to what the message says; the controller tries again by itself",
            ),
            None => wrong(
                format!("is exported here, but there is no ServiceImport {}", scene.service()),
                "wait some seconds; if it stays so: carrick check",
            ),
        };
    }
    let peerings: Vec<&ClusterPeering> = scene
        .state
        .peerings
        .iter()
        .flatten()
        .filter_map(|listed| listed.object.as_deref().ok())
        .collect();
    refused(scene, &peerings).or_else(|| unshared(scene, &peerings)).map_or_else(
        || {
            wrong(
                format!("no cluster exports {} to this one", scene.service()),
                format!(
                    "in the cluster that has it: carrick --context OTHER service export {} -n {}; its ClusterPeering \
                     has to name the namespace in spec.services.export",
                    scene.name, scene.namespace
                ),
            )
        },
        Outcome::Wrong,
    )
}

/// A peer exports it, and it was refused.
fn refused(scene: &Scene, peerings: &[&ClusterPeering]) -> Option<Finding> {
    peerings.iter().find_map(|peering| {
        let services = peering.status.as_ref()?.services.as_ref()?;
        let refused = services.not_imported.iter().find(|r| r.service == scene.service())?;
        Some(Finding::new(
            format!(
                "cluster {} exports it, and it is not imported: {}: {} (status.services of ClusterPeering {})",
                peering.spec.cluster_id,
                refused.reason,
                refused.message,
                peering.name_any()
            ),
            format!("kubectl edit clusterpeering {}, or change what is exported there", peering.name_any()),
        ))
    })
}

/// No peering lets anything into the namespace.
fn unshared(scene: &Scene, peerings: &[&ClusterPeering]) -> Option<Finding> {
    let shares = |peering: &&ClusterPeering| {
        let services = peering.spec.services.as_ref();
        services.is_some_and(|s| s.import.iter().any(|n| n == "*" || *n == scene.namespace))
    };
    let first = peerings.first()?;
    if peerings.iter().any(shares) {
        return None;
    }
    let names: Vec<String> = peerings.iter().map(|peering| peering.name_any()).collect();
    Some(Finding::new(
        format!(
            "no ClusterPeering ({}) imports services of the namespace {} (spec.services.import)",
            names.join(", "),
            scene.namespace
        ),
        format!(
            "kubectl patch clusterpeering {} --type merge -p '{{\"spec\":{{\"services\":{{\"import\":[\"{}\"]}}}}}}' \
             (the list is replaced: name all that count)",
            first.name_any(),
            scene.namespace
        ),
    ))
}
