//! The CustomResourceDefinitions as the chart carries them.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;

use crate::service::{as_upstream, both_versions};
use crate::{ClusterIdentity, ClusterPeering, FailoverDrill, ServiceExport, ServiceImport};

/// Helm leaves an object with this annotation in place on uninstall, so that removing the chart never
/// deletes anyone's ClusterPeerings.
const KEEP: (&str, &str) = ("helm.sh/resource-policy", "keep");

const HEADER: &str = "# Written by `cargo run -p carrick-crds --bin generate-crds`; do not edit.\n";

/// Why the files cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// A definition does not become YAML.
    #[error("a definition as YAML: {0}")]
    Yaml(#[from] serde_yaml::Error),
    /// A schema does not survive the way through JSON.
    #[error("a schema as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// The files of the chart's `templates/crds`, name and content.
///
/// # Errors
/// When a definition cannot be written.
pub fn files() -> Result<Vec<(&'static str, String)>, GenerateError> {
    let mut files = Vec::new();
    for (name, crd) in [
        ("clusteridentities.yaml", ClusterIdentity::crd()),
        ("clusterpeerings.yaml", ClusterPeering::crd()),
        ("failoverdrills.yaml", FailoverDrill::crd()),
    ] {
        files.push((name, format!("{HEADER}{}", render(crd)?)));
    }
    for (name, crd) in services()? {
        // Another implementation may have brought it: then it is left alone.
        let object = crd.metadata.name.clone().unwrap_or_default();
        let body = render(crd)?;
        let guard = format!("{{{{- if include \"carrick.installs\" (list . \"{object}\") }}}}\n");
        files.push((name, format!("{HEADER}{guard}{body}{{{{- end }}}}\n")));
    }
    Ok(files)
}

/// The definitions of the Multi-Cluster Services API, by the name of their file.
///
/// # Errors
/// When a schema does not survive the way through JSON.
pub fn services() -> Result<[(&'static str, CustomResourceDefinition); 2], serde_json::Error> {
    Ok([
        ("serviceexports.yaml", both_versions(as_upstream(ServiceExport::crd())?)),
        ("serviceimports.yaml", both_versions(as_upstream(ServiceImport::crd())?)),
    ])
}

fn render(mut crd: CustomResourceDefinition) -> Result<String, serde_yaml::Error> {
    let annotations = crd.metadata.annotations.get_or_insert_default();
    annotations.insert(KEEP.0.to_owned(), KEEP.1.to_owned());
    serde_yaml::to_string(&crd)
}
