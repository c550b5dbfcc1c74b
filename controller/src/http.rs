//! /metrics, /healthz, /readyz and /status. Read-only; on the pod's address, which the internet never
//! reaches.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use carrick_observe::{Observed, Readiness};
use prometheus_client::registry::Registry;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use crate::event::Event;

/// How long /status waits for the engine.
const PATIENCE: Duration = Duration::from_secs(2);

/// What this replica does now.
#[derive(Debug, Clone, Default)]
pub enum Standing {
    /// The Kubernetes API has not answered yet.
    #[default]
    Starting,
    /// Another replica leads.
    StandingBy,
    /// This one leads, but cannot do its work.
    Hindered(String),
    /// This one leads; the live state is had by asking the engine.
    Leading(mpsc::Sender<Event>),
}

/// The standing that probes and /status see. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Board(Arc<Mutex<Standing>>);

impl Board {
    /// Shows another standing.
    pub fn set(&self, standing: Standing) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = standing;
    }

    fn read(&self) -> Standing {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn readiness(&self) -> Readiness {
        match self.read() {
            Standing::Starting => Err("the Kubernetes API has not answered yet".to_owned()),
            Standing::Hindered(why) => Err(why),
            Standing::StandingBy => Ok("standing by"),
            Standing::Leading(_) => Ok("leading"),
        }
    }
}

/// The routes.
pub fn router(board: Board, registry: Registry) -> Router {
    let shown = board.clone();
    let observed = Observed::new(registry, move || shown.readiness());
    Router::new().route("/status", get(status)).with_state(board).merge(observed.router())
}

async fn status(State(board): State<Board>) -> Response {
    let json = |code, value: Value| {
        (code, [(header::CONTENT_TYPE, "application/json")], value.to_string()).into_response()
    };
    let unavailable =
        |why: &str| json(StatusCode::SERVICE_UNAVAILABLE, serde_json::json!({ "error": why }));
    match board.read() {
        Standing::Starting => unavailable("the Kubernetes API has not answered yet"),
        Standing::Hindered(why) => unavailable(&why),
        Standing::StandingBy => json(StatusCode::OK, serde_json::json!({ "leader": false })),
        Standing::Leading(events) => match ask(&events).await {
            Some(value) => json(StatusCode::OK, value),
            None => unavailable("the controller is busy; try again"),
        },
    }
}

async fn ask(events: &mpsc::Sender<Event>) -> Option<Value> {
    let (reply, answer) = oneshot::channel();
    let asked = async {
        events.send(Event::Show(reply)).await.ok()?;
        answer.await.ok()
    };
    tokio::time::timeout(PATIENCE, asked).await.ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_says_what_hinders() {
        let board = Board::default();
        assert!(board.readiness().is_err());
        board.set(Standing::StandingBy);
        assert_eq!(board.readiness(), Ok("standing by"));
        board.set(Standing::Hindered("Secret carrick-identity is unreadable".to_owned()));
        assert!(board.readiness().is_err_and(|why| why.contains("carrick-identity")));
    }
}
