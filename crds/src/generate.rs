//! The CustomResourceDefinitions as the chart carries them.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;

use crate::{ClusterIdentity, ClusterPeering, FailoverDrill};

/// Helm leaves an object with this annotation in place on uninstall, so that removing the chart never
/// deletes anyone's ClusterPeerings.
const KEEP: (&str, &str) = ("helm.sh/resource-policy", "keep");

const HEADER: &str = "# Written by `cargo run -p carrick-crds --bin generate-crds`; do not edit.\n";

/// The files of the chart's `templates/crds`, name and content.
pub fn files() -> Result<Vec<(&'static str, String)>, serde_yaml::Error> {
    [
        ("clusteridentities.yaml", ClusterIdentity::crd()),
        ("clusterpeerings.yaml", ClusterPeering::crd()),
        ("failoverdrills.yaml", FailoverDrill::crd()),
    ]
    .into_iter()
    .map(|(name, crd)| Ok((name, render(crd)?)))
    .collect()
}

fn render(mut crd: CustomResourceDefinition) -> Result<String, serde_yaml::Error> {
    let annotations = crd.metadata.annotations.get_or_insert_default();
    annotations.insert(KEEP.0.to_owned(), KEEP.1.to_owned());
    Ok(format!("{HEADER}{}", serde_yaml::to_string(&crd)?))
}
