//! What is planned for what was found, and how it is shown.

use super::*;
use crate::check;
use crate::dns::fixture::{COREFILE, plain, serving, set_corefile};
use crate::fixture::failure;
use crate::state::FetchErrorKind;

fn shown(dns: &Dns) -> String {
    check::render(&judge::steps(dns))
}

fn refusal(dns: &Dns) -> String {
    let error = enable(dns).expect_err("refused");
    format!("{error}; {}", error.remedy())
}

#[test]
fn a_plain_cluster_gets_zone_and_rights() {
    let dns = plain();
    let plan = enable(&dns).expect("a plan");
    assert_eq!((plan.role, plan.binding, plan.restart.len()), (Act::Make, Act::Make, 0));
    assert_eq!(
        render(&plan, &dns),
        "\
ConfigMap kube-system/coredns, Corefile:
  .:53 {
      errors
-     kubernetes cluster.local in-addr.arpa {
+     kubernetes cluster.local clusterset.local in-addr.arpa {
+         multicluster clusterset.local # added by carrick dns enable; with: zone
          ttl 30
      }
+ ClusterRole carrick-dns: get, list, watch serviceimports.multicluster.x-k8s.io
+ ClusterRoleBinding carrick-dns: to ServiceAccount kube-system/coredns
"
    );
}

#[test]
fn on_and_off_are_told_apart() {
    let on = serving();
    let nothing = enable(&on).expect("a plan");
    assert!(nothing.is_empty());
    assert!(render(&nothing, &on).starts_with("Nothing to change"));
    assert_eq!(
        shown(&on),
        "\
ok       Kind      ServiceImports are served as multicluster.x-k8s.io/v1alpha1, which CoreDNS reads
ok       CoreDNS   Deployment coredns, v1.14.2, 2/2 ready
ok       Rights    ServiceAccount kube-system/coredns may read ServiceImports
ok       Corefile  ConfigMap kube-system/coredns serves clusterset.local

All is well.
"
    );
    let off = shown(&plain());
    assert!(off.contains("WRONG    Rights    ServiceAccount kube-system/coredns may not"), "{off}");
    assert!(
        off.contains("WRONG    Corefile  ConfigMap kube-system/coredns does not serve"),
        "{off}"
    );
    assert!(off.contains("do: carrick dns enable"), "{off}");
    assert!(disable(&plain()).expect("a plan").is_empty());
}

#[test]
fn disabling_takes_back_all_of_it() {
    let dns = serving();
    let plan = disable(&dns).expect("a plan");
    assert_eq!((plan.role, plan.binding), (Act::Delete, Act::Delete));
    assert_eq!(plan.corefile.expect("changed").1, COREFILE);
}

#[test]
fn what_must_be_well_first() {
    let mut dns = plain();
    dns.kind_served = Ok(false);
    assert!(refusal(&dns).contains("services.enabled=true"), "{}", refusal(&dns));

    let mut dns = plain();
    let workloads = dns.workloads.as_mut().expect("read");
    workloads[0].image = "registry.k8s.io/coredns/coredns:v1.12.1".to_owned();
    assert!(
        refusal(&dns).contains("CoreDNS v1.12.1, and 1.12.2 is the first"),
        "{}",
        refusal(&dns)
    );
    dns.workloads = Ok(Vec::new());
    assert!(
        refusal(&dns).contains("mounts the ConfigMap kube-system/coredns"),
        "{}",
        refusal(&dns)
    );

    let mut dns = plain();
    dns.configmap = Ok(None);
    assert!(
        refusal(&dns).contains("there is no ConfigMap kube-system/coredns"),
        "{}",
        refusal(&dns)
    );
    dns.configmap = Err(failure(FetchErrorKind::Forbidden, "get configmaps", "no"));
    assert!(refusal(&dns).contains("ask a cluster administrator"), "{}", refusal(&dns));

    let mut dns = plain();
    set_corefile(&mut dns, ". {\n forward . 192.0.2.1\n}\n");
    let said = refusal(&dns);
    assert!(said.starts_with("ConfigMap kube-system/coredns: no server block has"), "{said}");
    assert!(said.contains("`multicluster clusterset.local`"), "{said}");
}

#[test]
fn an_image_without_a_release_is_noted() {
    let mut dns = plain();
    dns.workloads.as_mut().expect("read")[0].image = "lab/coredns:1".to_owned();
    let plan = enable(&dns).expect("a plan");
    assert!(plan.notes.iter().any(|note| note.contains("1.12.2 or newer")), "{:?}", plan.notes);
}

#[test]
fn what_others_gave_or_made_is_theirs() {
    // Rights from elsewhere are good enough.
    let mut dns = plain();
    dns.may_read = Ok(vec![true]);
    let plan = enable(&dns).expect("a plan");
    assert_eq!((plan.role, plan.binding), (Act::Keep, Act::Keep));
    // Somebody else's object has our name.
    let mut dns = plain();
    let mut role = rights::role();
    role.metadata.labels = None;
    dns.role = Ok(Some(role));
    assert!(refusal(&dns).contains("clusterrole carrick-dns"), "{}", refusal(&dns));
    assert_eq!(disable(&dns).expect("a plan").role, Act::Keep);
    // Ours, for another account.
    let mut dns = serving();
    dns.workloads.as_mut().expect("read")[0].service_account = "dns".to_owned();
    let plan = enable(&dns).expect("a plan");
    assert_eq!((plan.role, plan.binding), (Act::Keep, Act::Rewrite));
}

#[test]
fn who_may_not_ask_for_rights_gives_them() {
    let mut dns = plain();
    dns.may_read = Err(failure(FetchErrorKind::Forbidden, "create subjectaccessreviews", "no"));
    assert_eq!(enable(&dns).expect("a plan").role, Act::Make);
}

#[test]
fn a_corefile_that_is_not_reloaded_takes_a_restart() {
    let mut dns = plain();
    set_corefile(&mut dns, &COREFILE.replace("    reload\n", ""));
    let plan = enable(&dns).expect("a plan");
    let text = render(&plan, &dns);
    assert!(
        text.contains("~ Deployment coredns is restarted\n! the Corefile has no plugin `reload`"),
        "{text}"
    );
}

#[test]
fn other_writers_are_named() {
    for (field, key, who) in [
        ("annotations", "objectset.rio.cattle.io/owner-name", "k3s"),
        ("labels", "kubernetes.azure.com/managedby", "AKS"),
        ("labels", "eks.amazonaws.com/component", "EKS"),
    ] {
        let mut dns = plain();
        let map = dns.configmap.as_mut().expect("read").as_mut().expect("a ConfigMap");
        let entries = std::collections::BTreeMap::from([(key.to_owned(), "x".to_owned())]);
        match field {
            "labels" => map.metadata.labels = Some(entries),
            _ => map.metadata.annotations = Some(entries),
        }
        let plan = enable(&dns).expect("a plan");
        assert!(plan.notes.iter().any(|note| note.contains(who)), "{:?}", plan.notes);
    }
}
