//! Imports that the importing cluster's API refuses: they say which object and why, others go on, and they recover by
//! themselves.

use std::time::Instant;

use carrick_e2e::Lab;
use carrick_e2e::cluster::Cluster;
use carrick_e2e::wait::wait_until;
use serde_json::Value;

use super::{SOON, gone_in, object_in, of_import, sharing, wait_condition_in};
use crate::common::{Fault, change_peering, check, figure, text};
use crate::world::{Case, Outcome};

/// All cases, in order.
pub const CASES: &[(&str, Case)] = &[
    ("services::a_full_quota_holds_up_no_other_import", a_full_quota),
    ("services::a_refusal_by_a_policy_holds_up_no_other_import", a_policy_refuses),
    ("services::a_namespace_that_is_about_to_go_holds_up_no_other_import", a_namespace_goes),
];

/// Where imports are refused.
const NARROW: &str = "narrow";

/// Where they are not.
const WIDE: &str = "wide";

const NAME: &str = "hello";

/// Paris, which imports from osaka what is in both namespaces.
struct Ground {
    paris: Cluster,
    osaka: Cluster,
}

fn ground(lab: &Lab) -> Result<Ground, String> {
    let (paris, osaka) = sharing(lab)?;
    for cluster in [&paris, &osaka] {
        text(cluster.apply(&[namespace(NARROW), namespace(WIDE)].concat()))?;
    }
    let shared = format!("[{NARROW:?},{WIDE:?}]");
    let shared = format!(r#"{{"spec":{{"services":{{"export":{shared},"import":{shared}}}}}}}"#);
    change_peering(&paris, "osaka", &shared)?;
    change_peering(&osaka, "paris", &shared)?;
    Ok(Ground { paris, osaka })
}

fn namespace(name: &str) -> String {
    format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n---\n")
}

/// A Service with a pod behind it by a slice of its own, and its export.
fn exported(namespace: &str, address: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {NAME}, namespace: {namespace}}}\n\
         spec: {{ports: [{{name: web, port: 80}}]}}\n---\n\
         apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata: {{name: {NAME}, namespace: {namespace}, labels: {{kubernetes.io/service-name: {NAME}}}}}\n\
         addressType: IPv4\nports: [{{name: web, port: 8080}}]\n\
         endpoints: [{{addresses: [{address:?}]}}]\n---\n\
         apiVersion: multicluster.x-k8s.io/v1beta1\nkind: ServiceExport\n\
         metadata: {{name: {NAME}, namespace: {namespace}}}\n---\n"
    )
}

impl Ground {
    /// Has osaka export a Service with this one endpoint, a pod of the first node.
    fn export(&self, namespace: &str, last: u8) -> Result<String, String> {
        let [a, b, c, _] = self.osaka.plan().nodes[0].pods.network().octets();
        let address = format!("{a}.{b}.{c}.{last}");
        text(self.osaka.apply(&exported(namespace, &address)))?;
        Ok(address)
    }

    /// Waits until paris has the import as it should be, with this endpoint.
    fn is_imported(&self, namespace: &str, address: &str) -> Outcome {
        let import = [namespace, "serviceimport", NAME];
        wait_condition_in(&self.paris, import, ["Ready", "True", "Ready"])?;
        text(wait_until(SOON, &format!("{address} in the slices of {namespace}/{NAME}"), || {
            let slices = of_import(&self.paris, namespace, "endpointslices", NAME)?;
            let found: Vec<&Value> =
                slices.iter().map(|slice| &slice["endpoints"][0]["addresses"][0]).collect();
            check(found == [address], || format!("{found:?}"))
        }))
    }

    /// Another import is made and follows a change, while something is in the way of the first.
    fn another_works(&self) -> Outcome {
        let began = Instant::now();
        let address = self.export(WIDE, 201)?;
        self.is_imported(WIDE, &address)?;
        let address = self.export(WIDE, 202)?;
        self.is_imported(WIDE, &address)?;
        figure(&format!(
            "another import was made and changed meanwhile, in {:.1} s",
            began.elapsed().as_secs_f64()
        ));
        Ok(())
    }

    /// Waits until the import says that it is not ready, with all of these words.
    fn says(&self, words: &[&str]) -> Outcome {
        let what = format!("{words:?} of ServiceImport {NARROW}/{NAME} in paris");
        let said = text(wait_until(SOON, &what, || {
            let import = object_in(&self.paris, NARROW, "serviceimport", NAME)?;
            let conditions = import["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let ready = conditions.iter().find(|held| held["type"] == "Ready");
            let ready = ready.filter(|held| held["status"] == "False");
            let said = ready.and_then(|held| held["message"].as_str()).unwrap_or_default();
            let all = words.iter().all(|word| said.contains(word));
            check(all, || format!("{conditions:?}")).map(|()| said.to_owned())
        }))?;
        figure(&said);
        Ok(())
    }

    /// Waits until the import is as it should be after what was in its way went.
    fn recovers(&self, address: &str) -> Outcome {
        let began = Instant::now();
        self.is_imported(NARROW, address)?;
        figure(&format!("it recovered {:.1} s later", began.elapsed().as_secs_f64()));
        Ok(())
    }

    /// Takes back what is exported, and the namespaces.
    fn end(&self) -> Outcome {
        for namespace in [NARROW, WIDE] {
            let place = format!("--namespace={namespace}");
            let delete = ["delete", "serviceexport", NAME, &place, "--ignore-not-found"];
            text(self.osaka.kubectl(&delete))?;
            gone_in(&self.paris, namespace, NAME)?;
        }
        for cluster in [&self.paris, &self.osaka] {
            let delete = ["delete", "namespace", NARROW, WIDE, "--wait=false"];
            text(cluster.kubectl(&delete))?;
        }
        for cluster in [&self.paris, &self.osaka] {
            for namespace in [NARROW, WIDE] {
                has_gone(cluster, namespace)?;
            }
        }
        Ok(())
    }
}

fn has_gone(cluster: &Cluster, namespace: &str) -> Outcome {
    let get = ["get", "namespace", namespace, "--ignore-not-found", "--output=name"];
    text(wait_until(SOON, &format!("the end of namespace {namespace}"), || {
        let left = text(cluster.kubectl(&get))?;
        check(left.trim().is_empty(), || left)
    }))
}

fn a_full_quota(lab: &Lab) -> Outcome {
    let ground = ground(lab)?;
    let paris = &ground.paris;
    let quota = |hard: &str| {
        let place = format!("metadata: {{name: full, namespace: {NARROW}}}\n");
        let quota = format!(
            "apiVersion: v1\nkind: ResourceQuota\n{place}spec: {{hard: {{{hard}: \"0\"}}}}\n"
        );
        text(paris.apply(&quota))?;
        // Before that it holds nothing up.
        text(wait_until(SOON, "a ResourceQuota that is counted", || {
            let quota = object_in(paris, NARROW, "resourcequota", "full")?;
            let counted = quota["status"]["used"].get(hard).is_some();
            check(counted, || quota["status"].to_string())
        }))
    };
    let lift = || {
        let delete =
            ["delete", "resourcequota", "full", "--namespace", NARROW, "--ignore-not-found"];
        text(paris.kubectl(&delete)).map(drop)
    };
    quota("services")?;
    let fault = Fault(&lift);
    let address = ground.export(NARROW, 211)?;
    ground.says(&["Service derived-", "exceeded quota: full", "services=0"])?;
    ground.another_works()?;
    drop(fault);
    ground.recovers(&address)?;

    // The import is there and cannot follow: other ports make another slice.
    quota("count/endpointslices.discovery.k8s.io")?;
    let fault = Fault(&lift);
    let slice = ["patch", "endpointslice", NAME, "--namespace", NARROW, "--type=merge", "--patch"];
    let ports = r#"{"ports":[{"name":"web","port":8081,"protocol":"TCP"}]}"#;
    text(ground.osaka.kubectl(&[&slice[..], &[ports]].concat()))?;
    ground.says(&["EndpointSlice derived-", "exceeded quota: full"])?;
    drop(fault);
    ground.recovers(&address)?;
    ground.end()
}

/// Refuses what has to do with one import, by its label.
const POLICY: &str = r#"
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: e2e-refuses}
spec:
  failurePolicy: Fail
  matchConstraints:
    resourceRules:
    - {apiGroups: [discovery.k8s.io], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [endpointslices]}
  validations:
  - expression: >-
      object.metadata.namespace != 'narrow' || !has(object.metadata.labels) ||
      !('multicluster.kubernetes.io/service-name' in object.metadata.labels)
    message: no pods of other clusters here
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: e2e-refuses}
spec: {policyName: e2e-refuses, validationActions: [Deny]}
"#;

fn a_policy_refuses(lab: &Lab) -> Outcome {
    let ground = ground(lab)?;
    let paris = &ground.paris;
    let lift = || {
        let names = ["validatingadmissionpolicybinding", "validatingadmissionpolicy"];
        let names = names.map(|kind| format!("{kind}/e2e-refuses"));
        text(paris.kubectl(&["delete", "--ignore-not-found", &names[0], &names[1]])).map(drop)
    };
    let address = ground.export(NARROW, 211)?;
    ground.is_imported(NARROW, &address)?;
    text(paris.apply(POLICY))?;
    let fault = Fault(&lift);
    // It counts a moment later.
    text(wait_until(SOON, "a policy that refuses", || {
        let label = ["label", "endpointslices", "--namespace", NARROW, "--all", "e2e=looked"];
        match paris.kubectl(&[&label[..], &["--overwrite", "--dry-run=server"]].concat()) {
            Err(error) if error.to_string().contains("no pods of other clusters") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    }))?;
    let address = ground.export(NARROW, 212)?;
    ground.says(&["EndpointSlice derived-", "no pods of other clusters here"])?;
    ground.another_works()?;
    drop(fault);
    ground.recovers(&address)?;
    ground.end()
}

/// Keeps a namespace from going, and the Service that is exported in it.
const HELD: &str = r#"{"metadata":{"finalizers":["e2e.carrick.dev/hold"]}}"#;

fn a_namespace_goes(lab: &Lab) -> Outcome {
    let ground = ground(lab)?;
    let paris = &ground.paris;
    let address = ground.export(NARROW, 211)?;
    text(paris.apply(&exported(NARROW, "10.1.1.211")))?;
    let export = [NARROW, "serviceexport", NAME];
    wait_condition_in(paris, export, ["Ready", "True", "Exported"])?;
    let hold = |finalizers: &str| {
        for kind in ["service", "serviceexport"] {
            let patch = ["patch", kind, NAME, "--namespace", NARROW, "--type=merge", "--patch"];
            text(paris.kubectl(&[&patch[..], &[finalizers]].concat()))?;
        }
        Ok(())
    };
    hold(HELD)?;
    let release = || hold(r#"{"metadata":{"finalizers":null}}"#);
    let fault = Fault(&release);
    text(paris.kubectl(&["delete", "namespace", NARROW, "--wait=false"]))?;
    // Nothing is imported there any more, and the export that is left says why.
    gone_in(paris, NARROW, NAME)?;
    wait_condition_in(paris, export, ["Ready", "False", "Failed"])?;
    let said = object_in(paris, NARROW, "serviceexport", NAME)?["status"]["conditions"].to_string();
    check(said.contains("namespace"), || said)?;
    ground.another_works()?;
    drop(fault);
    has_gone(paris, NARROW)?;
    text(paris.apply(&namespace(NARROW)))?;
    ground.recovers(&address)?;
    ground.end()
}
