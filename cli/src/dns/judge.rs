//! Whether CoreDNS serves the zone: one step a thing that must be so.

use super::corefile::{self, BY_HAND};
use super::found::{Dns, Workload};
use super::version::{self, First, Release};
use crate::check::{Finding, Outcome, Step};
use crate::state::Fetched;

/// What to do where the zone is not served.
pub const ENABLE: &str = "carrick dns enable";

type Look = fn(&Dns) -> Outcome;

const STEPS: [(&str, Look); 4] =
    [("Kind", kind), ("CoreDNS", coredns), ("Rights", rights), ("Corefile", corefile)];

/// All steps; none depends on another.
pub fn steps(dns: &Dns) -> Vec<Step> {
    STEPS.map(|(name, look)| Step { name: name.to_owned(), outcome: look(dns) }).into()
}

fn look<T>(fetched: &Fetched<T>, at: impl FnOnce(&T) -> Outcome) -> Outcome {
    match fetched {
        Ok(found) => at(found),
        Err(error) => Outcome::Wrong(error.into()),
    }
}

fn wrong(what: impl Into<String>, remedy: impl Into<String>) -> Outcome {
    Outcome::Wrong(Finding::new(what, remedy))
}

/// Are ServiceImports served? A CoreDNS that waits for them in vain does not become ready.
pub fn kind(dns: &Dns) -> Outcome {
    look(&dns.kind_served, |served| match served {
        true => Outcome::Good(
            "ServiceImports are served as multicluster.x-k8s.io/v1alpha1, which CoreDNS reads"
                .to_owned(),
        ),
        false => wrong(
            "ServiceImports are not served as multicluster.x-k8s.io/v1alpha1, which CoreDNS reads: a CoreDNS with the zone would \
             not become ready after its next start",
            "install Carrick's chart with --set services.enabled=true (and services.installCRDs, unless somebody \
             else installs them)",
        ),
    })
}

/// Does a CoreDNS run that can serve the zone?
pub fn coredns(dns: &Dns) -> Outcome {
    look(&dns.workloads, |workloads| {
        let Some(first) = workloads.first() else {
            return wrong(
                format!(
                    "no Deployment or DaemonSet in the namespace {} mounts the {}",
                    dns.namespace,
                    dns.place()
                ),
                "name the ConfigMap of CoreDNS by --configmap and its namespace by -n",
            );
        };
        let old = workloads.iter().find_map(|w| match version::of_image(&w.image) {
            Release::Old(release) => Some((w, release)),
            _ => None,
        });
        if let Some((workload, release)) = old {
            return wrong(
                format!(
                    "{} {} is CoreDNS {release}, and {First} is the first that can",
                    workload.kind, workload.name
                ),
                "update CoreDNS first (Kubernetes 1.35 brings one that is new enough; managed clusters have it as an \
                 add-on)",
            );
        }
        if let Some(unready) = workloads.iter().find(|w| w.ready.ready < w.ready.wanted) {
            return Outcome::Warning(Finding::new(
                format!("{} {}: {} ready", unready.kind, unready.name, unready.ready),
                format!(
                    "kubectl -n {} logs {}/{}",
                    dns.namespace,
                    unready.kind.to_lowercase(),
                    unready.name
                ),
            ));
        }
        match version::of_image(&first.image) {
            Release::Unknown => Outcome::Warning(Finding::new(
                format!(
                    "{} {}: the image {} does not say its release",
                    first.kind, first.name, first.image
                ),
                format!(
                    "make sure that it is CoreDNS {First} or newer: older ones do not start with the zone"
                ),
            )),
            Release::New(release) | Release::Old(release) => Outcome::Good(format!(
                "{} {}, {release}, {} ready",
                first.kind, first.name, first.ready
            )),
        }
    })
}

/// May CoreDNS read ServiceImports?
pub fn rights(dns: &Dns) -> Outcome {
    let may_read = match &dns.may_read {
        Ok(may_read) => may_read,
        // Who may not ask for others' rights may still be allowed to give them.
        Err(error) => return Outcome::Warning(error.into()),
    };
    let workloads = dns.workloads.as_deref().unwrap_or_default();
    let account = |w: &Workload| format!("ServiceAccount {}/{}", dns.namespace, w.service_account);
    match workloads.iter().zip(may_read).find(|(_, may)| !**may) {
        Some((workload, _)) => wrong(
            format!("{} may not watch serviceimports.multicluster.x-k8s.io", account(workload)),
            ENABLE,
        ),
        None => match workloads.first() {
            Some(first) => Outcome::Good(format!("{} may read ServiceImports", account(first))),
            None => Outcome::Skipped,
        },
    }
}

/// Does the Corefile have the zone?
pub fn corefile(dns: &Dns) -> Outcome {
    look(&dns.configmap, |_| {
        let Some(text) = dns.corefile() else { return missing(dns) };
        match corefile::look(text) {
            Ok(found) if found.on => {
                Outcome::Good(format!("{} serves {}", dns.place(), corefile::ZONE))
            }
            Ok(_) => wrong(format!("{} does not serve {}", dns.place(), corefile::ZONE), ENABLE),
            Err(misfit) => wrong(format!("{}: {misfit}", dns.place()), BY_HAND),
        }
    })
}

fn missing(dns: &Dns) -> Outcome {
    wrong(
        format!("there is no {} with a Corefile", dns.place()),
        "name it by --configmap and its namespace by -n; another DNS than CoreDNS can forward clusterset.local to one \
         that you run beside it",
    )
}
