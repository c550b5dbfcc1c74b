//! /metrics, /healthz, /readyz and /status. Read-only; on the pod's address, which the internet never
//! reaches.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
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
}

#[derive(Clone)]
struct App {
    board: Board,
    registry: Arc<Registry>,
}

/// The routes.
pub fn router(board: Board, registry: Registry) -> Router {
    let app = App { board, registry: Arc::new(registry) };
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/status", get(status))
        .with_state(app)
}

async fn readyz(State(app): State<App>) -> (StatusCode, String) {
    match app.board.read() {
        Standing::Starting => {
            let text = "the Kubernetes API has not answered yet\n";
            (StatusCode::SERVICE_UNAVAILABLE, text.to_owned())
        }
        Standing::Hindered(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
        Standing::StandingBy => (StatusCode::OK, "standing by\n".to_owned()),
        Standing::Leading(_) => (StatusCode::OK, "leading\n".to_owned()),
    }
}

async fn metrics(State(app): State<App>) -> Response {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &app.registry) {
        Ok(()) => {
            let type_ = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, type_)], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn status(State(app): State<App>) -> Response {
    let json = |code, value: Value| {
        (code, [(header::CONTENT_TYPE, "application/json")], value.to_string()).into_response()
    };
    let unavailable =
        |why: &str| json(StatusCode::SERVICE_UNAVAILABLE, serde_json::json!({ "error": why }));
    match app.board.read() {
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

    #[tokio::test]
    async fn readiness_says_what_hinders() {
        let board = Board::default();
        let app = App { board: board.clone(), registry: Arc::new(Registry::default()) };
        assert_eq!(readyz(State(app.clone())).await.0, StatusCode::SERVICE_UNAVAILABLE);
        board.set(Standing::StandingBy);
        assert_eq!(readyz(State(app.clone())).await.0, StatusCode::OK);
        board.set(Standing::Hindered("Secret carrick-identity is unreadable".to_owned()));
        let (code, text) = readyz(State(app)).await;
        assert_eq!(code, StatusCode::SERVICE_UNAVAILABLE);
        assert!(text.contains("carrick-identity"));
    }
}
