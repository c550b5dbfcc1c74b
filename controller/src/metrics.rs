//! Counters and gauges of the controller. Labels are words of our own, never names from outside.

use std::sync::Arc;

use carrick_model::Role;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// All metrics. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    leader: Gauge,
    plans: Counter,
    configurations: Family<RoleLabel, Counter>,
    members: Family<RoleLabel, Gauge>,
    joins: Family<OutcomeLabel, Counter>,
    refused_links: Family<OutcomeLabel, Counter>,
    writes: Family<WhatLabel, Counter>,
    api_errors: Family<WhatLabel, Counter>,
    peerings: Gauge,
    peerings_ready: Gauge,
    refused_claims: Gauge,
    silent_gateways: Gauge,
    drilling: Gauge,
    drills: Family<OutcomeLabel, Counter>,
    heard: Family<AnswerLabel, Counter>,
    told: Family<AnswerLabel, Counter>,
    waiting: Gauge,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RoleLabel {
    role: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AnswerLabel {
    answer: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WhatLabel {
    what: &'static str,
}

impl Metrics {
    /// Registers all of them.
    pub fn register(&self, registry: &mut Registry) {
        let m = &self.0;
        let mut add = |name: &str, help: &str, metric: Metric| match metric {
            Metric::Gauge(gauge) => registry.register(name, help, gauge),
            Metric::Counter(counter) => registry.register(name, help, counter),
            Metric::RoleCounter(family) => registry.register(name, help, family),
            Metric::RoleGauge(family) => registry.register(name, help, family),
            Metric::Outcome(family) => registry.register(name, help, family),
            Metric::What(family) => registry.register(name, help, family),
            Metric::Answer(family) => registry.register(name, help, family),
        };
        add("leader", "1 on the replica that leads", Metric::Gauge(m.leader.clone()));
        add("plans", "Plans made", Metric::Counter(m.plans.clone()));
        let configurations = Metric::RoleCounter(m.configurations.clone());
        add("configurations", "Configurations that differed and were sent", configurations);
        add("members", "Members linked now", Metric::RoleGauge(m.members.clone()));
        add("joins", "Attempts to join, by outcome", Metric::Outcome(m.joins.clone()));
        let refused = Metric::Outcome(m.refused_links.clone());
        add("refused_links", "Connections refused, by reason", refused);
        add("writes", "Writes to the Kubernetes API", Metric::What(m.writes.clone()));
        let errors = Metric::What(m.api_errors.clone());
        add("api_errors", "Failed requests to the Kubernetes API", errors);
        add("peerings", "ClusterPeerings", Metric::Gauge(m.peerings.clone()));
        add(
            "peerings_ready",
            "ClusterPeerings that are Ready",
            Metric::Gauge(m.peerings_ready.clone()),
        );
        let claims = Metric::Gauge(m.refused_claims.clone());
        add("refused_claims", "Prefixes that agents claim without right", claims);
        let silent = Metric::Gauge(m.silent_gateways.clone());
        add("silent_gateways", "Gateways that do not answer some node", silent);
        add("drill_running", "1 while a failover drill runs", Metric::Gauge(m.drilling.clone()));
        let drills = Metric::Outcome(m.drills.clone());
        add("drills", "Failover drills that ended, by verdict, or deleted while they ran", drills);
        let heard = Metric::Answer(m.heard.clone());
        add("services_heard_bytes", "Bytes of answers about other clusters' services", heard);
        let told = Metric::Answer(m.told.clone());
        add("services_told_bytes", "Bytes of answers to other clusters about ours", told);
        let waiting = Metric::Gauge(m.waiting.clone());
        add(
            "services_waiting",
            "Services to be looked at, and their objects to be written",
            waiting,
        );
    }

    /// Whether this replica leads.
    pub fn set_leader(&self, leads: bool) {
        self.0.leader.set(leads.into());
    }

    /// A plan was made.
    pub fn planned(&self, refused_claims: usize) {
        self.0.plans.inc();
        self.0.refused_claims.set(i64::try_from(refused_claims).unwrap_or(i64::MAX));
    }

    /// So many gateways do not answer some node.
    pub fn set_silent_gateways(&self, count: usize) {
        self.0.silent_gateways.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// A configuration that differs went to a member.
    pub fn configured(&self, role: Role) {
        self.0.configurations.get_or_create(&RoleLabel { role: role.as_str() }).inc();
    }

    /// How many members of a role are linked.
    pub fn set_members(&self, role: Role, count: usize) {
        let gauge = self.0.members.get_or_create(&RoleLabel { role: role.as_str() }).clone();
        gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Somebody tried to join: `Admitted` or the reason of the refusal.
    pub fn joined(&self, outcome: &'static str) {
        self.0.joins.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// A connection was refused.
    pub fn refused_link(&self, outcome: &'static str) {
        self.0.refused_links.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// Something was written to the Kubernetes API.
    pub fn written(&self, what: &'static str) {
        self.0.writes.get_or_create(&WhatLabel { what }).inc();
    }

    /// A request to the Kubernetes API failed.
    pub fn api_error(&self, what: &'static str) {
        self.0.api_errors.get_or_create(&WhatLabel { what }).inc();
    }

    /// Another cluster's controller has answered in so many bytes about the services that it exports.
    pub fn heard(&self, answer: &'static str, bytes: usize) {
        self.0.heard.get_or_create(&AnswerLabel { answer }).inc_by(bytes as u64);
    }

    /// Another cluster's controller was answered in so many bytes about the services that we export.
    pub fn told(&self, answer: &'static str, bytes: usize) {
        self.0.told.get_or_create(&AnswerLabel { answer }).inc_by(bytes as u64);
    }

    /// So many services wait to be looked at, or objects of theirs to be written.
    pub fn set_waiting(&self, count: usize) {
        self.0.waiting.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Whether a drill runs.
    pub fn set_drilling(&self, runs: bool) {
        self.0.drilling.set(runs.into());
    }

    /// A drill ended with this verdict.
    pub fn drilled(&self, outcome: &'static str) {
        self.0.drills.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// How many peerings there are, and how many are Ready.
    pub fn set_peerings(&self, all: usize, ready: usize) {
        self.0.peerings.set(i64::try_from(all).unwrap_or(i64::MAX));
        self.0.peerings_ready.set(i64::try_from(ready).unwrap_or(i64::MAX));
    }
}

enum Metric {
    Gauge(Gauge),
    Counter(Counter),
    RoleCounter(Family<RoleLabel, Counter>),
    RoleGauge(Family<RoleLabel, Gauge>),
    Outcome(Family<OutcomeLabel, Counter>),
    What(Family<WhatLabel, Counter>),
    Answer(Family<AnswerLabel, Counter>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drills_are_counted_by_how_they_ended() {
        let metrics = Metrics::default();
        metrics.set_drilling(true);
        for outcome in ["Passed", "Passed", "Deleted"] {
            metrics.drilled(outcome);
        }
        let held =
            |outcome: &'static str| metrics.0.drills.get_or_create(&OutcomeLabel { outcome }).get();
        assert_eq!((held("Passed"), held("Deleted"), held("Failed")), (2, 1, 0));
        assert_eq!(metrics.0.drilling.get(), 1);
        metrics.set_drilling(false);
        assert_eq!(metrics.0.drilling.get(), 0);
    }
}
