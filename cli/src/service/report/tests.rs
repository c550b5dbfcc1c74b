//! The list of services, as table and for programs.

use super::*;
use crate::service::fixture::{export, import, services, slice};

fn reports(services: &found::Services) -> Vec<ServiceReport> {
    report(
        services.exports.as_ref().expect("read"),
        services.imports.as_ref().expect("read"),
        services.slices.as_ref().expect("read"),
    )
}

#[test]
fn exports_and_imports_of_one_name_are_one_row() {
    assert_eq!(
        table(&reports(&services())),
        "\
NAMESPACE   NAME    TYPE           IP          PORTS           ENDPOINTS READY        EXPORT     IMPORT
shop        hello   ClusterSetIP   10.96.4.7   80/TCP,53/UDP   osaka 2/2, paris 1/2   Exported   Ready
"
    );
    assert!(table(&[]).starts_with("No service is exported or imported here"));
}

#[test]
fn what_is_wrong_with_an_export_is_in_the_table() {
    for (conditions, word) in [
        (vec![["Valid", "False", "NoService"], ["Ready", "False", "Pending"]], "NoService"),
        (vec![["Valid", "True", "Valid"], ["Conflict", "True", "PortConflict"]], "PortConflict"),
        (vec![["Valid", "True", "Valid"], ["Ready", "False", "Failed"]], "Failed"),
        (vec![], "Pending"),
    ] {
        let text = table(&report(&[export(&conditions)], &[], &[]));
        assert!(text.ends_with(&format!("{word}      -\n")) || text.contains(word), "{text}");
    }
}

#[test]
fn programs_get_conditions_and_counts() {
    let json = serde_json::to_value(reports(&services())).expect("json");
    let first = &json[0];
    assert_eq!(first["type"], "ClusterSetIP");
    assert_eq!(first["clusters"][1]["endpoints"]["ready"], 1);
    assert_eq!(first["clusters"][1]["endpoints"]["wanted"], 2);
    assert_eq!(first["exportConditions"][1]["reason"], "Exported");
    assert_eq!(first["importConditions"][0]["type"], "Ready");
}

#[test]
fn an_id_that_is_too_long_for_a_label_is_known_by_what_is_left_of_it() {
    let id = format!("{}.{}", "a".repeat(40), "b".repeat(40));
    let label = format!("{}-abcdefghijklmnop", &id[..46]);
    let mut import = import();
    import.status.as_mut().expect("status").clusters[0].cluster = id;
    let reports = report(&[], &[import], &[slice(&label, &[("10.2.0.9", true)])]);
    assert_eq!(reports[0].clusters[0].endpoints, Count { ready: 1, wanted: 1 });
    assert!(!names_cluster("osaka-a", "osaka"));
}

#[test]
fn people_are_told_what_cannot_work_right_away() {
    let service = |type_: &str| {
        serde_json::from_value(
            serde_json::json!({ "metadata": { "name": "hello" }, "spec": { "type": type_ } }),
        )
        .expect("service")
    };
    assert!(notes(None, "hello")[0].contains("no Service hello yet"));
    assert!(notes(Some(&service("ExternalName")), "hello")[0].contains("cannot be exported"));
    assert_eq!(notes(Some(&service("ClusterIP")), "hello"), [] as [String; 0]);
}
