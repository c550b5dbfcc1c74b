//! Starts the parts and ties their channels together. All of them live until the agent is told to stop:
//! one that ends sooner takes the agent with it, so that it is started anew whole.

use std::future::Future;

use anyhow::{Context as _, ensure};
use carrick_exchange::Credentials;
use carrick_exchange::member::{self, MemberOptions};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::agent::{Agent, Ends};
use crate::drill;
use crate::http;
use crate::node::Node;
use crate::options::RunOptions;
use crate::probe::{gateways, shell};
use crate::store::Store;
use crate::view::View;

/// Orders that came and were not looked at yet.
const ORDERS: usize = 8;

/// Runs until `stop`.
pub async fn run(options: RunOptions, stop: CancellationToken) -> anyhow::Result<()> {
    let address = options.http_address;
    let listener = TcpListener::bind(address).await.with_context(|| {
        format!("cannot serve metrics on {address}; --http-address names another")
    })?;
    let node = Node::open().context("cannot speak with the kernel")?;
    let node = node.with_shortcuts(options.shortcuts);
    let held = Credentials::load(&options.state)
        .inspect_err(|error| tracing::warn!(%error, "joining anew"))
        .unwrap_or(None);

    let (events, orders) = mpsc::channel(ORDERS);
    let (state_out, state) = watch::channel(None);
    let (assignment_out, assignment) = watch::channel(shell::Assignment::default());
    let (findings_out, findings) = watch::channel(shell::Findings::default());
    let (watched_out, watched) = watch::channel(gateways::shell::Assignment::default());
    let (seen_out, seen) = watch::channel(gateways::shell::Findings::default());
    let (view_out, view) = watch::channel(View::default());
    let (streams_out, streams) = watch::channel(None);
    let (measured_out, measured) = watch::channel(None);
    let (away_out, away) = watch::channel(None);
    let ends = Ends {
        orders,
        state: state_out,
        assignment: assignment_out,
        findings,
        watched: watched_out,
        seen,
        streams: streams_out,
        measured,
        away: away_out,
        view: view_out,
    };
    let agent = Agent::new(node, Store::in_folder(&options.state), ends);

    let prober = shell::run(assignment, findings_out, rand::random());
    let watching = gateways::shell::run(watched, seen_out, rand::random());
    let drills = drill::shell::run(streams, measured_out);
    let member = MemberOptions {
        controller: options.controller,
        trust: options.trust,
        token: options.token,
        state: options.state,
        name: options.node_name,
    };
    let away = member::Away::new(away);
    let linked = member::run(member, held, events, state, away, stop.clone());
    let serving = http::serve(listener, view, stop.clone());
    // Dropping the agent closes the channels of prober and watch.
    let agent = agent.run(stop.clone());
    let prober = async {
        prober.await;
        Ok(())
    };
    let watching = async {
        watching.await;
        Ok(())
    };
    let drills = async {
        drills.await;
        Ok(())
    };
    let linked = async {
        linked.await;
        Ok(())
    };
    tokio::try_join!(
        async { agent.await.context("cannot follow the kernel's changes") },
        part("prober", &stop, prober),
        part("watch of the gateways", &stop, watching),
        part("sender of drills' streams", &stop, drills),
        part("link to the controller", &stop, linked),
        part("HTTP server", &stop, async { Ok(serving.await?) }),
    )?;
    Ok(())
}

/// Runs `task` on its own; an error if it breaks, fails, or ends before `stop`.
async fn part(
    name: &str,
    stop: &CancellationToken,
    task: impl Future<Output = anyhow::Result<()>> + Send + 'static,
) -> anyhow::Result<()> {
    let ended = tokio::spawn(task).await.with_context(|| format!("the {name} broke"))?;
    ended.with_context(|| format!("the {name} failed"))?;
    ensure!(stop.is_cancelled(), "the {name} ended although nobody stopped it");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ends(task: impl Future<Output = anyhow::Result<()>> + Send + 'static) -> String {
        let stop = CancellationToken::new();
        let error = part("prober", &stop, task).await.expect_err("it ended too soon");
        format!("{error:#}")
    }

    #[tokio::test]
    async fn a_part_that_ends_too_soon_is_named() {
        let broken = ends(async { panic!("out of luck") }).await;
        assert!(broken.contains("prober broke") && broken.contains("out of luck"), "{broken}");
        let failed = ends(async { anyhow::bail!("no socket") }).await;
        assert!(failed.contains("prober failed") && failed.contains("no socket"), "{failed}");
        let quiet = ends(async { Ok(()) }).await;
        assert!(quiet.contains("prober ended although"), "{quiet}");
    }

    #[tokio::test]
    async fn a_part_that_is_stopped_ends_well() {
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let task = async move {
            stopped.cancelled().await;
            Ok(())
        };
        let (ended, ()) = tokio::join!(part("prober", &stop, task), async { stop.cancel() });
        ended.expect("stopped");
    }
}
