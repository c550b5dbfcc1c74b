//! What Carrick made for services is known as its own whatever others do to it, and goes when services are no longer shared.

use carrick_e2e::cluster::Cluster;
use carrick_e2e::wait::wait_until;
use carrick_e2e::{Lab, carrick};

use super::{SERVICE, SOON, derived, export, gone, imported, object, sharing, wait_condition};
use crate::common::{ONE_GATEWAY, check, rolled_out, text};
use crate::world::{Case, Outcome};

/// All cases, in order.
pub const CASES: &[(&str, Case)] = &[
    ("services::what_lost_its_annotation_is_still_known", what_lost_its_annotation),
    ("services::switched_off_nothing_is_left", switched_off),
];

/// Both clusters, and a service that paris exports.
pub fn exporting(lab: &Lab) -> Result<(Cluster, Cluster), String> {
    let (paris, osaka) = sharing(lab)?;
    text(paris.apply(&format!("{SERVICE}---\n{}", export("hello"))))?;
    imported(&paris, "hello")?;
    Ok((paris, osaka))
}

/// No import is left, and nobody speaks of the export any more.
pub fn nothing_is_imported(cluster: &Cluster) -> Outcome {
    gone(cluster, "hello")?;
    let export = object(cluster, "serviceexport", "hello")?;
    let said = export["status"]["conditions"].as_array().map_or(0, Vec::len);
    check(!export.is_null() && said == 0, || export.to_string())
}

fn what_lost_its_annotation(lab: &Lab) -> Outcome {
    const NOTE: &str = "carrick.dev/service-import";
    let (paris, _) = exporting(lab)?;
    let service = derived(&paris, "hello")?;
    let own = service["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let take = format!("{NOTE}-");
    for (kind, name) in [("service", own.as_str()), ("serviceimport", "hello")] {
        let uid = object(&paris, kind, name)?["metadata"]["uid"].clone();
        text(paris.kubectl(&["annotate", kind, name, &take]))?;
        text(wait_until(SOON, &format!("the annotation of {kind} {name}"), || {
            let metadata = object(&paris, kind, name)?["metadata"].clone();
            check(metadata["annotations"][NOTE] == "hello" && metadata["uid"] == uid, || {
                metadata.to_string()
            })
        }))?;
    }
    wait_condition(&paris, "serviceexport", "hello", ["Ready", "True", "Exported"])?;
    // No Service can have this name.
    text(paris.apply(&export("hello.world")))?;
    wait_condition(&paris, "serviceexport", "hello.world", ["Valid", "False", "NoService"])?;
    text(paris.kubectl(&["delete", "serviceexports", "--all"]))?;
    gone(&paris, "hello")
}

fn switched_off(lab: &Lab) -> Outcome {
    let (paris, _) = exporting(lab)?;
    let tag = text(lab.image_tag())?;
    text(carrick::upgrade(&paris, &tag, &[ONE_GATEWAY, "services.enabled=false"]))?;
    nothing_is_imported(&paris)?;
    rolled_out(&paris)?;
    text(carrick::upgrade(&paris, &tag, &[ONE_GATEWAY, "services.enabled=true"]))?;
    rolled_out(&paris)?;
    imported(&paris, "hello")?;
    text(paris.kubectl(&["delete", "serviceexport", "hello"]))?;
    gone(&paris, "hello")
}
