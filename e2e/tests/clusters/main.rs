//! Tests on real clusters: one lab for all cases, which run in order, because
//! some cut power and restore it.

mod aftermath;
mod api;
mod common;
mod conformance;
mod connections;
mod consent;
mod drill;
mod drops;
mod echo;
mod failover;
mod flow;
mod health;
mod idle;
mod install;
mod kill;
mod lab;
mod metrics;
mod narrow;
mod overlay;
mod peering;
mod quiet;
mod refusals;
mod scale;
mod services;
mod skew;
mod stream;
mod table;
mod third;
mod traffic;
mod trust;
mod uninstall;
mod upgrade;
mod watch;
mod world;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    carrick_e2e::helper::serve();
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let all = [
        lab::CASES,
        install::CASES,
        peering::CASES,
        idle::CASES,
        health::CASES,
        narrow::CASES,
        overlay::CASES,
        consent::CASES,
        refusals::CASES,
        trust::CASES,
        quiet::CASES,
        failover::CASES,
        drill::CASES,
        upgrade::CASES,
        kill::CASES,
        services::CASES,
        services::policy::CASES,
        services::sctp::CASES,
        services::follow::CASES,
        services::refused::CASES,
        services::remains::CASES,
        services::names::CASES,
        uninstall::CASES,
        third::CASES,
    ];
    let trials = all.into_iter().flatten().map(|(name, case)| {
        Trial::test(*name, move || world::named(name, *case).map_err(Into::into))
    });
    let long = [
        table::CASES,
        skew::CASES,
        services::endpoints::CASES,
        services::lost::CASES,
        scale::CASES,
    ];
    let long = long.into_iter().flatten().map(|(name, case)| {
        Trial::test(*name, move || world::with(case).map_err(Into::into)).with_ignored_flag(true)
    });
    let all = trials.chain(long).chain(conformance::trials());
    let conclusion = libtest_mimic::run(&arguments, all.collect());
    conformance::end();
    world::end();
    conclusion.exit_code()
}
