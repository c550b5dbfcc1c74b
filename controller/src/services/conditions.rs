//! What people are told of exports and imports, with KEP-1645's words: pure.

use std::collections::{BTreeMap, BTreeSet};

use carrick_crds::condition::{ConditionStatus, MESSAGE_LIMIT};
use carrick_model::ClusterId;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::discover::Unexportable;
use super::merge::{Conflict, Merged};
use super::wish::Wish;

/// Says whether a wish for a policy is understood; only there where there is one.
const POLICY: &str = "carrick.dev/PolicyAccepted";

/// How many clusters a message names.
const NAMED: usize = 4;

/// What one condition is to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Its type.
    pub type_: &'static str,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// Why, for programs.
    pub reason: String,
    /// Why, for people.
    pub message: String,
}

impl Said {
    fn new(type_: &'static str, status: ConditionStatus, reason: &str, message: String) -> Self {
        Self { type_, status, reason: reason.to_owned(), message }
    }
}

/// What became of an export.
#[derive(Clone, Copy)]
pub struct Outcome<'a> {
    /// Why nothing is exported, if nothing is.
    pub refused: Option<Unexportable>,
    /// How many endpoints are left out because there are too many.
    pub surplus: usize,
    /// What keeps its import from being written.
    pub obstacle: Option<&'a str>,
    /// What all clusters make of it.
    pub merged: Option<&'a Merged<'a>>,
}

/// The conditions of a ServiceExport.
pub fn of_export(outcome: Outcome<'_>) -> [Said; 3] {
    [valid(outcome.refused), ready(outcome), conflict(outcome.merged)]
}

fn valid(refused: Option<Unexportable>) -> Said {
    let (reason, message) = match refused {
        None => {
            let text = "there is a Service that can be exported".to_owned();
            return Said::new("Valid", ConditionStatus::True, "Valid", text);
        }
        Some(why @ (Unexportable::NoService | Unexportable::Misnamed)) => {
            ("NoService", why.to_string())
        }
        Some(why @ Unexportable::InvalidServiceType) => ("InvalidServiceType", why.to_string()),
    };
    Said::new("Valid", ConditionStatus::False, reason, message)
}

fn ready(outcome: Outcome<'_>) -> Said {
    let said =
        |status, reason, message: &str| Said::new("Ready", status, reason, message.to_owned());
    match (outcome.refused, outcome.obstacle) {
        (Some(_), _) => said(ConditionStatus::False, "Pending", "see the condition Valid"),
        (None, Some(obstacle)) => said(ConditionStatus::False, "Failed", obstacle),
        (None, None) if outcome.surplus > 0 => {
            let text =
                format!("exported, without the last {} endpoints: too many", outcome.surplus);
            said(ConditionStatus::True, "Exported", &text)
        }
        (None, None) => {
            said(ConditionStatus::True, "Exported", "exported to every peer that may have it")
        }
    }
}

fn conflict(merged: Option<&Merged<'_>>) -> Said {
    let none = BTreeMap::new();
    let conflicts = merged.map_or(&none, |merged| &merged.conflicts);
    if conflicts.is_empty() {
        let text = "no cluster exports anything else under this name".to_owned();
        return Said::new("Conflict", ConditionStatus::False, "NoConflicts", text);
    }
    let reasons: Vec<&str> = conflicts.keys().map(|conflict| conflict.as_str()).collect();
    let oldest = merged.map(|merged| merged.oldest.as_str()).unwrap_or_default();
    let differ = |(conflict, clusters): (&Conflict, &BTreeSet<&ClusterId>)| {
        let named: Vec<&str> = clusters.iter().take(NAMED).map(|c| c.as_str()).collect();
        let more = clusters.len().saturating_sub(NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("{}: {}{more}", conflict.as_str(), named.join(", "))
    };
    let listed: Vec<String> = conflicts.iter().map(differ).collect();
    let text = format!(
        "the export of cluster {oldest} is the oldest and counts; others differ from it ({})",
        listed.join("; ")
    );
    Said::new("Conflict", ConditionStatus::True, &reasons.join(","), text)
}

/// The condition of a ServiceImport, if something keeps it from being ready.
pub fn of_import(obstacle: Option<&str>) -> Said {
    match obstacle {
        None => {
            let text = "the service can be used".to_owned();
            Said::new("Ready", ConditionStatus::True, "Ready", text)
        }
        // As the API server names the field when it has no such family.
        Some(obstacle) if obstacle.contains("spec.ipFamil") => {
            let reason = "IPFamilyNotSupported";
            Said::new("Ready", ConditionStatus::False, reason, obstacle.to_owned())
        }
        Some(obstacle) => {
            Said::new("Ready", ConditionStatus::False, "Pending", obstacle.to_owned())
        }
    }
}

/// What is said of a wish for a policy, if there is one.
pub fn of_policy(wish: &Wish) -> Option<Said> {
    Some(match wish.as_ref()? {
        Ok(policy) => Said::new(POLICY, ConditionStatus::True, "Accepted", policy.to_string()),
        Err(why) => {
            let text = format!("{why}; Balanced is used");
            Said::new(POLICY, ConditionStatus::False, "InvalidPolicy", text)
        }
    })
}

/// The conditions to write, or `None` when `before` says the same already. Those of other types are others' business.
pub fn changed(
    said: &[Said],
    before: &[Condition],
    generation: Option<i64>,
    now: Timestamp,
) -> Option<Vec<Condition>> {
    let condition = |said: &Said| {
        let held = before.iter().find(|held| held.type_ == said.type_);
        let status = said.status.as_str();
        let since = held.filter(|held| held.status == status);
        Condition {
            type_: said.type_.to_owned(),
            status: status.to_owned(),
            reason: said.reason.clone(),
            message: said.message.chars().take(MESSAGE_LIMIT).collect(),
            observed_generation: generation,
            last_transition_time: since.map_or(Time(now), |held| held.last_transition_time.clone()),
        }
    };
    let wanted: Vec<Condition> = said.iter().map(condition).collect();
    let outlived = |held: &Condition| {
        held.type_ == POLICY && !wanted.iter().any(|wanted| wanted.type_ == POLICY)
    };
    let same = wanted.iter().all(|wanted| before.contains(wanted)) && !before.iter().any(outlived);
    (!same).then_some(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome<'a>() -> Outcome<'a> {
        Outcome { refused: None, surplus: 0, obstacle: None, merged: None }
    }

    fn shown(said: &[Said]) -> Vec<(&str, &str, &str)> {
        said.iter().map(|s| (s.type_, s.status.as_str(), s.reason.as_str())).collect()
    }

    #[test]
    fn an_export_that_works() {
        assert_eq!(
            shown(&of_export(outcome())),
            [
                ("Valid", "True", "Valid"),
                ("Ready", "True", "Exported"),
                ("Conflict", "False", "NoConflicts")
            ]
        );
    }

    #[test]
    fn exports_that_do_not() {
        for (refused, obstacle, valid, ready) in [
            (Some(Unexportable::NoService), None, ("False", "NoService"), ("False", "Pending")),
            (
                Some(Unexportable::InvalidServiceType),
                None,
                ("False", "InvalidServiceType"),
                ("False", "Pending"),
            ),
            (None, Some("in the way"), ("True", "Valid"), ("False", "Failed")),
        ] {
            let said = of_export(Outcome { refused, obstacle, ..outcome() });
            let shown = shown(&said);
            assert_eq!((shown[0].1, shown[0].2), valid, "{refused:?}");
            assert_eq!((shown[1].1, shown[1].2), ready, "{refused:?}");
        }
    }

    #[test]
    fn imports_without_their_family_say_so() {
        let no_family =
            "Service \"derived-x\" is invalid: spec.ipFamilies[0]: Invalid value: \"IPv4\"";
        assert_eq!(of_import(Some(no_family)).reason, "IPFamilyNotSupported");
        assert_eq!(of_import(Some("exceeded quota")).reason, "Pending");
        assert_eq!(of_import(None).status, ConditionStatus::True);
    }

    #[test]
    fn a_wish_for_a_policy_is_answered_as_long_as_there_is_one() {
        let now = Timestamp::UNIX_EPOCH;
        let good = of_policy(&Some("PreferLocal".parse())).expect("said");
        assert_eq!(shown(std::slice::from_ref(&good)), [(POLICY, "True", "Accepted")]);
        let bad = of_policy(&Some("Nearest".parse())).expect("said");
        assert_eq!((bad.status, bad.reason.as_str()), (ConditionStatus::False, "InvalidPolicy"));
        assert!(bad.message.contains("\"Nearest\"") && bad.message.contains("Balanced is used"));
        assert_eq!(of_policy(&None), None);
        let ready = of_import(None);
        let held = changed(&[ready.clone(), good], &[], None, now).expect("new");
        let left =
            changed(std::slice::from_ref(&ready), &held, None, now).expect("the wish is gone");
        assert_eq!(left.len(), 1);
        assert_eq!(changed(&[ready], &left, None, now), None);
    }

    #[test]
    fn what_is_said_already_is_not_written_again() {
        let at = |second| Timestamp::from_second(second).expect("time");
        let said = of_export(outcome());
        let first = changed(&said, &[], Some(1), at(5)).expect("new");
        assert_eq!(changed(&said, &first, Some(1), at(6)), None);
        let next = changed(&said, &first, Some(2), at(6)).expect("another generation");
        assert_eq!(next[0].last_transition_time.0, at(5));
        let refused = of_export(Outcome { refused: Some(Unexportable::NoService), ..outcome() });
        let then = changed(&refused, &next, Some(2), at(7)).expect("no longer");
        assert_eq!(then[0].last_transition_time.0, at(7));
        assert_eq!(then[2].last_transition_time.0, at(5), "that did not change");
    }
}
