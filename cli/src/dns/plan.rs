//! What is to be changed: a pure function of what was found.

use super::corefile::{self, BY_HAND, Misfit, ZONE};
use super::diff;
use super::found::{Dns, Workload};
use super::judge;
use super::rights::{self, NAME};
use crate::check::{Finding, Outcome};
use crate::state::FetchError;

/// Why nothing is changed.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// Something must be well first.
    #[error("{}", .0.what)]
    Unfit(Finding),
    /// A Corefile that is not understood.
    #[error("{place}: {misfit}")]
    Corefile {
        /// The ConfigMap.
        place: String,
        /// Why.
        misfit: Misfit,
    },
    /// An object of our name is somebody else's.
    #[error("there is a {kind} {NAME} that `carrick dns` did not make")]
    NotOurs {
        /// Its kind.
        kind: &'static str,
    },
    /// A request failed.
    #[error(transparent)]
    Request(#[from] FetchError),
    /// Somebody else was quicker.
    #[error("{place} was changed meanwhile, and was left as it is")]
    Conflict {
        /// The ConfigMap.
        place: String,
    },
    /// Nobody can be asked.
    #[error("nothing was changed: standard input is no terminal, so that nobody can be asked")]
    NoTerminal,
}

impl DnsError {
    /// What to do about it.
    pub fn remedy(&self) -> String {
        match self {
            Self::Unfit(finding) => finding.remedy.clone(),
            Self::Corefile { .. } => BY_HAND.to_owned(),
            Self::NotOurs { kind } => {
                format!(
                    "look at it (kubectl get {kind} {NAME} -o yaml), and delete or rename it if nobody needs it"
                )
            }
            Self::Request(error) => error.remedy(),
            Self::Conflict { .. } => "run it again".to_owned(),
            Self::NoTerminal => "add --yes, or --dry-run to see what it would change".to_owned(),
        }
    }
}

/// What happens to an object of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// It stays as it is.
    Keep,
    /// It is made.
    Make,
    /// It is written anew.
    Rewrite,
    /// It is deleted.
    Delete,
}

/// What is to be changed.
#[derive(Debug, PartialEq, Eq)]
pub struct Plan {
    /// The Corefile before and after.
    pub corefile: Option<(String, String)>,
    /// Our role.
    pub role: Act,
    /// Our binding.
    pub binding: Act,
    /// What must be restarted for it, because it does not look at its Corefile again by itself.
    pub restart: Vec<Workload>,
    /// What people should know before they agree.
    pub notes: Vec<String>,
}

impl Plan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.corefile.is_none() && self.role == Act::Keep && self.binding == Act::Keep
    }
}

/// What makes CoreDNS serve the zone.
pub fn enable(dns: &Dns) -> Result<Plan, DnsError> {
    let mut notes = Vec::new();
    for look in [judge::kind, judge::coredns] {
        match look(dns) {
            Outcome::Wrong(finding) => return Err(DnsError::Unfit(finding)),
            Outcome::Warning(finding) => {
                notes.push(format!("{}: {}", finding.what, finding.remedy))
            }
            Outcome::Good(_) | Outcome::Skipped => {}
        }
    }
    let text = text(dns)?;
    let changed = corefile::enable(text).map_err(|misfit| misfits(dns, misfit))?;
    // Rights that somebody else gave are good enough.
    let needed = !matches!(judge::rights(dns), Outcome::Good(_)) || ours_is_there(dns)?;
    let (role, binding) = if needed { wanted_rights(dns)? } else { (Act::Keep, Act::Keep) };
    notes.extend(kept_by(dns, changed.is_some()));
    let restart = restart(dns, changed.is_some());
    notes.extend(why_restart(&restart));
    let corefile = changed.map(|new| (text.to_owned(), new));
    Ok(Plan { corefile, role, binding, restart, notes })
}

/// What takes it back.
pub fn disable(dns: &Dns) -> Result<Plan, DnsError> {
    let text = text(dns)?;
    let changed = corefile::disable(text).map_err(|misfit| misfits(dns, misfit))?;
    let of =
        |is_there: bool, is_ours: bool| if is_there && is_ours { Act::Delete } else { Act::Keep };
    let role = dns.role.as_ref().map_err(Clone::clone)?.as_ref();
    let binding = dns.binding.as_ref().map_err(Clone::clone)?.as_ref();
    let restart = restart(dns, changed.is_some());
    let notes = kept_by(dns, changed.is_some()).into_iter().chain(why_restart(&restart)).collect();
    Ok(Plan {
        role: of(role.is_some(), role.is_some_and(rights::is_ours)),
        binding: of(binding.is_some(), binding.is_some_and(rights::is_ours)),
        restart,
        notes,
        corefile: changed.map(|new| (text.to_owned(), new)),
    })
}

fn text(dns: &Dns) -> Result<&str, DnsError> {
    dns.configmap.as_ref().map_err(Clone::clone)?;
    match (dns.corefile(), judge::corefile(dns)) {
        (Some(text), _) => Ok(text),
        (None, Outcome::Wrong(finding)) => Err(DnsError::Unfit(finding)),
        (None, _) => Ok(""),
    }
}

fn misfits(dns: &Dns, misfit: Misfit) -> DnsError {
    DnsError::Corefile { place: dns.place(), misfit }
}

fn ours_is_there(dns: &Dns) -> Result<bool, FetchError> {
    let role = dns.role.as_ref().map_err(Clone::clone)?.as_ref();
    let binding = dns.binding.as_ref().map_err(Clone::clone)?.as_ref();
    Ok(role.is_some_and(rights::is_ours) || binding.is_some_and(rights::is_ours))
}

fn wanted_rights(dns: &Dns) -> Result<(Act, Act), DnsError> {
    let role = match dns.role.as_ref().map_err(Clone::clone)? {
        None => Act::Make,
        Some(role) if !rights::is_ours(role) => {
            return Err(DnsError::NotOurs { kind: "clusterrole" });
        }
        Some(role) if role.rules == rights::role().rules => Act::Keep,
        Some(_) => Act::Rewrite,
    };
    let wanted = rights::binding(dns);
    let binding = match dns.binding.as_ref().map_err(Clone::clone)? {
        None => Act::Make,
        Some(binding) if !rights::is_ours(binding) => {
            return Err(DnsError::NotOurs { kind: "clusterrolebinding" });
        }
        Some(binding) if binding.subjects == wanted.subjects => Act::Keep,
        Some(_) => Act::Rewrite,
    };
    Ok((role, binding))
}

fn kept_by(dns: &Dns, changed: bool) -> Option<String> {
    let keeper = dns.keeper().filter(|_| changed)?;
    Some(format!("{keeper} writes the {} as well and may put back what was there", dns.place()))
}

fn restart(dns: &Dns, changed: bool) -> Vec<Workload> {
    let reloads =
        dns.corefile().and_then(|text| corefile::look(text).ok()).is_some_and(|f| f.reloads);
    match changed && !reloads {
        true => dns.workloads.as_deref().unwrap_or_default().to_vec(),
        false => Vec::new(),
    }
}

fn why_restart(restart: &[Workload]) -> Option<String> {
    let why =
        "the Corefile has no plugin `reload`: without a restart CoreDNS does not see the change";
    (!restart.is_empty()).then(|| why.to_owned())
}

/// What is to be changed, for people.
pub fn render(plan: &Plan, dns: &Dns) -> String {
    if plan.is_empty() {
        return format!("Nothing to change: see `carrick dns status` for {ZONE}.\n");
    }
    let mut text = String::new();
    if let Some((old, new)) = &plan.corefile {
        text.push_str(&format!(
            "{}, {}:\n{}",
            dns.place(),
            super::found::COREFILE,
            diff::render(old, new)
        ));
    }
    let accounts = rights::binding(dns).subjects.unwrap_or_default();
    let accounts: Vec<String> =
        accounts.iter().map(|s| format!("{}/{}", dns.namespace, s.name)).collect();
    let to = accounts.join(", ");
    for (act, what) in [
        (
            plan.role,
            format!("ClusterRole {NAME}: get, list, watch serviceimports.multicluster.x-k8s.io"),
        ),
        (plan.binding, format!("ClusterRoleBinding {NAME}: to ServiceAccount {to}")),
    ] {
        let mark = match act {
            Act::Keep => continue,
            Act::Make => '+',
            Act::Rewrite => '~',
            Act::Delete => '-',
        };
        text.push_str(&format!("{mark} {what}\n"));
    }
    for workload in &plan.restart {
        text.push_str(&format!("~ {} {} is restarted\n", workload.kind, workload.name));
    }
    for note in &plan.notes {
        text.push_str(&format!("! {note}\n"));
    }
    text
}

#[cfg(test)]
mod tests;
