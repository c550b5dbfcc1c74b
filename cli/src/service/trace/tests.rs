//! Where the way ends, and why.

use carrick_crds::condition::Verdict;
use carrick_crds::peering::{RefusedService, ServicesSpec, ServicesStatus};
use carrick_crds::{ClusterPeering, Reason};

use super::*;
use crate::check;
use crate::dns::fixture::{plain, serving};
use crate::fixture::{self, failure, peering_of};
use crate::service::fixture::{export, services, slice};

fn well() -> Scene {
    Scene {
        namespace: "shop".to_owned(),
        name: "hello".to_owned(),
        has_namespace: Ok(true),
        services: services(),
        dns: serving(),
        state: fixture::well(),
    }
}

fn shown(scene: &Scene) -> String {
    check::render(&steps(scene))
}

/// The one step that is wrong, and its finding.
fn wrong_step(scene: &Scene) -> (String, Finding) {
    let steps = steps(scene);
    let mut wrong = steps.iter().filter_map(|step| match &step.outcome {
        Outcome::Wrong(finding) => Some((step.name.clone(), finding.clone())),
        _ => None,
    });
    let first = wrong.next().unwrap_or_else(|| panic!("nothing wrong: {}", check::render(&steps)));
    assert_eq!(wrong.next(), None, "{}", check::render(&steps));
    first
}

fn import_of(scene: &mut Scene) -> &mut ServiceImport {
    scene.services.imports.as_mut().expect("read").first_mut().expect("an import")
}

fn without_import() -> Scene {
    let mut scene = well();
    scene.services.imports = Ok(Vec::new());
    scene.services.exports = Ok(Vec::new());
    scene
}

fn peering(scene: &mut Scene) -> &mut ClusterPeering {
    peering_of(&mut scene.state)
}

fn imports(scene: &mut Scene, namespaces: &[&str]) {
    let import = namespaces.iter().map(|name| (*name).to_owned()).collect();
    peering(scene).spec.services = Some(ServicesSpec { import, ..ServicesSpec::default() });
}

#[test]
fn a_service_that_is_well() {
    assert_eq!(
        shown(&well()),
        "\
ok       Name           hello.shop.svc.clusterset.local A 10.96.4.7
ok       Import         ClusterSetIP, exported by osaka, paris
ok       Address        10.96.4.7, ports 80/TCP 53/UDP, of Service derived-x
ok       Cluster osaka  2 of 2 endpoints ready in cluster osaka by 1 of 1 tunnels of carrick-gateway-0, 20 ms: 10.2.0.10, …
ok       Cluster paris  1 of 2 endpoints ready in this cluster: 10.1.0.5
ok       Endpoints      3 ready in 2 of 2 clusters

All is well.
"
    );
}

#[test]
fn a_name_that_is_not_served_hides_nothing_else() {
    let mut scene = well();
    scene.dns = plain();
    let (step, finding) = wrong_step(&scene);
    assert_eq!(step, "Name");
    assert!(
        finding.what.contains("Rights: ServiceAccount kube-system/coredns may not"),
        "{finding:?}"
    );
    assert_eq!(finding.remedy, "carrick dns enable");
    assert!(shown(&scene).contains("ok       Endpoints"));
    // Who may not look at it is told so, and goes on.
    scene.dns.configmap = Err(failure(FetchErrorKind::Forbidden, "get configmaps", "no"));
    let text = shown(&scene);
    assert!(
        text.contains(
            "warning  Name           whether hello.shop.svc.clusterset.local is served is not known"
        ),
        "{text}"
    );
    assert!(!check::fails(&steps(&scene)));
}

#[test]
fn what_a_person_may_not_see_is_not_wrong() {
    let mut scene = well();
    let forbidden = failure(FetchErrorKind::Forbidden, "get clusteridentities.carrick.dev", "no");
    scene.state.identity = Err(forbidden.clone());
    assert!(
        shown(&scene).contains("warning  Cluster osaka  the way to it is not known"),
        "{}",
        shown(&scene)
    );
    assert!(!check::fails(&steps(&scene)));
    let mut scene = well();
    scene.state.peerings = Err(forbidden);
    assert!(shown(&scene).contains("warning  Cluster osaka"), "{}", shown(&scene));
    assert!(shown(&scene).contains("ok       Cluster paris"), "{}", shown(&scene));
    scene.state.peerings = Err(failure(FetchErrorKind::Unreachable, "list clusterpeerings", "no"));
    assert_eq!(wrong_step(&scene).0, "Cluster osaka");
}

#[test]
fn a_headless_service_has_its_pods_addresses() {
    let mut scene = well();
    let spec = &mut import_of(&mut scene).spec;
    (spec.kind, spec.ips) = ("Headless".to_owned(), Vec::new());
    let text = shown(&scene);
    assert!(text.contains("svc.clusterset.local A 10.2.0.10, 10.2.0.9, 10.1.0.5\n"), "{text}");
    assert!(text.contains("ok       Address        none: headless"), "{text}");
}

#[test]
fn services_that_are_switched_off_or_closed_to_the_person() {
    let mut scene = well();
    scene.services.imports =
        Err(failure(FetchErrorKind::KindMissing, "list serviceimports", "404"));
    let (step, finding) = wrong_step(&scene);
    assert_eq!(step, "Import");
    assert!(finding.remedy.contains("services.enabled=true"), "{finding:?}");
    assert!(shown(&scene).contains("skipped  Clusters"));
    scene.services.imports = Err(failure(FetchErrorKind::Forbidden, "list serviceimports", "no"));
    assert!(wrong_step(&scene).1.remedy.contains("the right to list serviceimports"));
}

#[test]
fn why_there_is_no_import() {
    let mut scene = without_import();
    scene.has_namespace = Ok(false);
    assert_eq!(wrong_step(&scene).1.remedy, "kubectl create namespace shop");

    let mut scene = without_import();
    scene.services.exports =
        Ok(vec![export(&[["Valid", "False", "NoService"], ["Ready", "False", "Pending"]])]);
    assert!(wrong_step(&scene).1.what.contains("Valid=False: NoService"));
    scene.services.exports =
        Ok(vec![export(&[["Valid", "True", "Valid"], ["Ready", "False", "Failed"]])]);
    assert!(wrong_step(&scene).1.what.contains("Ready=False: Failed"));

    let mut scene = without_import();
    let finding = wrong_step(&scene).1;
    assert!(
        finding.what.contains("no ClusterPeering (osaka) imports services of the namespace shop"),
        "{finding:?}"
    );
    assert!(finding.remedy.contains("kubectl patch clusterpeering osaka"), "{finding:?}");
    imports(&mut scene, &["*"]);
    let finding = wrong_step(&scene).1;
    assert!(finding.what.contains("no cluster exports shop/hello"), "{finding:?}");
    let refused = RefusedService {
        service: "shop/hello".to_owned(),
        reason: "EndpointOutside".to_owned(),
        message: "10.9.0.1".to_owned(),
    };
    let services = ServicesStatus { not_imported: vec![refused], ..ServicesStatus::default() };
    peering(&mut scene).status.as_mut().expect("status").services = Some(services);
    assert!(
        wrong_step(&scene)
            .1
            .what
            .contains("cluster osaka exports it, and it is not imported: EndpointOutside")
    );
}

#[test]
fn an_import_that_is_not_ready_or_not_ours() {
    let mut scene = well();
    let import = import_of(&mut scene);
    import.status.as_mut().expect("status").conditions[0].status = "False".to_owned();
    assert!(wrong_step(&scene).1.what.contains("ServiceImport shop/hello has Ready=False"));

    let mut scene = well();
    import_of(&mut scene).metadata.annotations = None;
    assert!(wrong_step(&scene).1.what.contains("was not made by Carrick"));
}

#[test]
fn an_address_that_nobody_holds() {
    let mut scene = well();
    scene.services.derived = Ok(Vec::new());
    let (step, finding) = wrong_step(&scene);
    assert!(
        step == "Address"
            && finding.what.contains("no Service in the namespace shop holds 10.96.4.7"),
        "{finding:?}"
    );
    let mut scene = well();
    import_of(&mut scene).spec.ips = vec!["10.96.9.9".to_owned()];
    assert!(wrong_step(&scene).1.what.contains("spec.clusterIP \"10.96.4.7\""));
    import_of(&mut scene).spec.ips = Vec::new();
    assert!(wrong_step(&scene).1.what.contains("no spec.ips"));
}

#[test]
fn a_peering_that_carries_nothing() {
    let mut scene = well();
    let conditions = &mut peering(&mut scene).status.as_mut().expect("status").conditions;
    fixture::set(
        conditions,
        "Connected",
        Verdict::no(Reason::Timeout, "no answer from 198.51.100.7:31820"),
    );
    let (step, finding) = wrong_step(&scene);
    assert_eq!(step, "Cluster osaka");
    assert_eq!(
        finding.what,
        "ClusterPeering osaka: Connected=False: Timeout: no answer from 198.51.100.7:31820"
    );
    // Nobody knows that cluster.
    let mut scene = well();
    scene.state.peerings = Ok(Vec::new());
    assert!(wrong_step(&scene).1.what.contains("no ClusterPeering has spec.clusterID osaka"));
}

#[test]
fn endpoints_that_are_elsewhere_unready_or_missing() {
    let mut scene = well();
    scene.services.slices =
        Ok(vec![slice("osaka", &[("10.9.0.1", true)]), slice("paris", &[("10.1.0.5", true)])]);
    let (step, finding) = wrong_step(&scene);
    assert!(
        step == "Cluster osaka" && finding.what.starts_with("endpoint 10.9.0.1 is in none of"),
        "{finding:?}"
    );

    scene.services.slices = Ok(vec![slice("paris", &[("10.1.0.5", true)])]);
    assert!(!check::fails(&steps(&scene)));
    assert!(
        shown(&scene).contains("warning  Cluster osaka  no endpoint of cluster osaka by 1 of 1")
    );

    // As it should be, if that is somebody's wish.
    let mut wished = scene.clone();
    let annotations = import_of(&mut wished).metadata.annotations.get_or_insert_default();
    annotations.insert("carrick.dev/exported-service-policy".to_owned(), "PreferLocal".to_owned());
    assert!(shown(&wished).contains("ok       Cluster osaka"), "{}", shown(&wished));
    assert!(shown(&wished).contains("by the policy PreferLocal"), "{}", shown(&wished));

    scene.services.slices = Ok(vec![slice("paris", &[("10.1.0.5", false)])]);
    let (step, finding) = wrong_step(&scene);
    assert!(
        step == "Endpoints" && finding.what.starts_with("none is ready in any cluster"),
        "{finding:?}"
    );
}
