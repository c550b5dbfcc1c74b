//! Starts the parts and ties their channels together.

use anyhow::Context as _;
use carrick_exchange::Credentials;
use carrick_exchange::member::{self, MemberOptions};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::agent::{Agent, Ends};
use crate::http;
use crate::node::Node;
use crate::options::RunOptions;
use crate::probe::shell;
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
    let held = Credentials::load(&options.state)
        .inspect_err(|error| tracing::warn!(%error, "joining anew"))
        .unwrap_or(None);

    let (events, orders) = mpsc::channel(ORDERS);
    let (state_out, state) = watch::channel(None);
    let (assignment_out, assignment) = watch::channel(shell::Assignment::default());
    let (findings_out, findings) = watch::channel(shell::Findings::default());
    let (view_out, view) = watch::channel(View::default());
    let ends =
        Ends { orders, state: state_out, assignment: assignment_out, findings, view: view_out };
    let agent = Agent::new(node, Store::in_folder(&options.state), ends);

    let prober = tokio::spawn(shell::run(assignment, findings_out, rand::random()));
    let serving = tokio::spawn(http::serve(listener, view, stop.clone()));
    let member = MemberOptions {
        controller: options.controller,
        trust: options.trust,
        token: options.token,
        state: options.state,
        name: options.node_name,
    };
    let linked = tokio::spawn(member::run(member, held, events, state, stop.clone()));
    let ended = agent.run(stop.clone()).await.context("cannot follow the kernel's changes");
    stop.cancel();
    // Dropping the agent closed the prober's channel.
    for part in [prober, linked] {
        part.await.context("a part of the agent broke")?;
    }
    serving.await.context("the HTTP server broke")?.context("the HTTP server failed")?;
    ended
}
