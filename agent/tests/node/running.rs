//! An agent on a thread of its node's namespace.

use std::thread::JoinHandle;

use crate::support::Namespace;
use carrick_agent::agent::{Agent, Ends};
use carrick_agent::drill;
use carrick_agent::node::Node;
use carrick_agent::probe::{gateways, shell};
use carrick_agent::store::Store;
use carrick_agent::view::View;
use carrick_exchange::member::MemberEvent;
use carrick_exchange::message::member::{AgentConfig, AgentState, from_controller, from_member};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// An agent in its node's namespace, ordered about by the test.
pub struct Running {
    orders: mpsc::Sender<MemberEvent>,
    state: watch::Receiver<Option<from_member::Kind>>,
    pub view: watch::Receiver<View>,
    pub stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
    store: tempfile::TempDir,
}

impl Running {
    pub fn start(node: &Namespace) -> Self {
        Self::start_with(node, tempfile::tempdir().expect("folder"))
    }

    pub fn start_with(node: &Namespace, store: tempfile::TempDir) -> Self {
        let (orders_out, orders) = mpsc::channel(8);
        let (state_out, state) = watch::channel(None);
        let (view_out, view) = watch::channel(View::default());
        let stop = CancellationToken::new();
        let (stopped, folder) = (stop.clone(), store.path().to_owned());
        let thread = node.spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("runtime").block_on(async {
                let (assignment_out, assignment) = watch::channel(Default::default());
                let (findings_out, findings) = watch::channel(Default::default());
                tokio::spawn(shell::run(assignment, findings_out, 7));
                let (watched_out, watched) = watch::channel(Default::default());
                let (seen_out, seen) = watch::channel(Default::default());
                tokio::spawn(gateways::shell::run(watched, seen_out, 8));
                let (streams_out, streams) = watch::channel(None);
                let (measured_out, measured) = watch::channel(None);
                tokio::spawn(drill::shell::run(streams, measured_out));
                let ends = Ends {
                    orders,
                    state: state_out,
                    assignment: assignment_out,
                    findings,
                    watched: watched_out,
                    seen,
                    streams: streams_out,
                    measured,
                    away: watch::channel(None).0,
                    view: view_out,
                };
                let node = Node::open().expect("node");
                let agent = Agent::new(node, Store::in_folder(&folder), ends);
                agent.run(stopped).await.expect("agent");
            });
        });
        Self { orders: orders_out, state, view, stop, thread: Some(thread), store }
    }

    pub fn order(&self, order: AgentConfig) {
        let event = MemberEvent::Said(from_controller::Kind::Agent(order));
        self.orders.try_send(event).expect("room");
    }

    pub fn state(&self) -> AgentState {
        match self.state.borrow().clone() {
            Some(from_member::Kind::Agent(state)) => state,
            _ => AgentState::default(),
        }
    }

    pub fn is_well(&self) -> bool {
        let state = self.state();
        let mut targets = state.probes.iter().flat_map(|probe| &probe.targets).peekable();
        targets.peek().is_some() && targets.all(|target| target.ok)
    }

    pub fn complains(&self, reason: &str) -> bool {
        let state = self.state();
        state.probes.iter().flat_map(|probe| &probe.targets).any(|target| target.reason == reason)
    }

    /// Ends the agent; what it kept.
    pub fn end(mut self) -> tempfile::TempDir {
        self.stop.cancel();
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join) {
            std::panic::resume_unwind(panic);
        }
        self.store
    }
}
