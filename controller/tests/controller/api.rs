//! A Kubernetes API made of a map.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use http::{Method, Request, Response, StatusCode};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

/// The API: what it answers, and what was written.
#[derive(Clone, Default)]
pub struct FakeApi(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    tokens: BTreeMap<String, Value>,
    objects: BTreeMap<String, Value>,
    writes: Vec<(String, Value)>,
    missing: Vec<String>,
    failing: usize,
    conflicts: usize,
    silent: bool,
}

impl FakeApi {
    pub fn client(&self) -> Client {
        let (service, mut handle) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
        let api = self.clone();
        tokio::spawn(async move {
            let mut unanswered = Vec::new();
            while let Some((request, reply)) = handle.next_request().await {
                if api.lock().silent {
                    // Whoever asked waits as long as this lives.
                    unanswered.push(reply);
                } else {
                    reply.send_response(api.answer(request).await);
                }
            }
        });
        Client::new(service, "carrick-system")
    }

    /// Lets the review of `token` say this.
    pub fn token(&self, token: &str, status: Value) {
        self.lock().tokens.insert(token.to_owned(), status);
    }

    pub fn object(&self, path: &str, object: Value) {
        self.lock().objects.insert(path.to_owned(), object);
    }

    /// Lets patches of this object find nothing.
    pub fn missing(&self, path: &str) {
        self.lock().missing.push(path.to_owned());
    }

    /// An object as it is now.
    pub fn held(&self, path: &str) -> Option<Value> {
        self.lock().objects.get(path).cloned()
    }

    /// Lets the next `count` writes fail.
    pub fn fail(&self, count: usize) {
        self.lock().failing = count;
    }

    /// Lets the next `count` writes collide with another writer's.
    pub fn conflict(&self, count: usize) {
        self.lock().conflicts = count;
    }

    /// Answers nothing any more.
    pub fn fall_silent(&self) {
        self.lock().silent = true;
    }

    /// Where something was written, and in which order.
    pub fn written(&self) -> Vec<String> {
        self.lock().writes.iter().map(|(path, _)| path.clone()).collect()
    }

    /// What was written to paths that end so.
    pub fn writes(&self, suffix: &str) -> Vec<Value> {
        let state = self.lock();
        let wanted = state.writes.iter().filter(|(path, _)| path.ends_with(suffix));
        wanted.map(|(_, body)| body.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no panic while locked")
    }

    async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let bytes = body.collect_bytes().await.expect("body");
        let body: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let path = parts.uri.path().to_owned();
        let mut state = self.lock();
        if path.ends_with("/tokenreviews") {
            let token = body["spec"]["token"].as_str().unwrap_or_default();
            assert_eq!(body["spec"]["audiences"], json!(["carrick.dev"]));
            let unknown = json!({ "error": "invalid bearer token" });
            let status = state.tokens.get(token).cloned().unwrap_or(unknown);
            return respond(
                StatusCode::CREATED,
                &json!({ "spec": body["spec"], "status": status }),
            );
        }
        match parts.method {
            Method::GET => match state.objects.get(&path) {
                Some(object) => respond(StatusCode::OK, object),
                None => failure(StatusCode::NOT_FOUND, "NotFound"),
            },
            Method::PATCH if state.missing.contains(&path) => {
                failure(StatusCode::NOT_FOUND, "NotFound")
            }
            _ if state.conflicts > 0 => {
                state.conflicts -= 1;
                failure(StatusCode::CONFLICT, "Conflict")
            }
            _ if state.failing > 0 => {
                state.failing -= 1;
                failure(StatusCode::INTERNAL_SERVER_ERROR, "InternalError")
            }
            Method::DELETE => {
                state.writes.push((path.clone(), body));
                state.remove(&path);
                respond(StatusCode::OK, &json!({ "kind": "Status", "status": "Success" }))
            }
            _ => {
                state.writes.push((path.clone(), body.clone()));
                let name = body["metadata"]["name"].as_str().unwrap_or_default();
                let key = match parts.method {
                    Method::POST => format!("{path}/{name}"),
                    _ => path.trim_end_matches("/status").to_owned(),
                };
                let body = merged(body);
                state.objects.insert(key, body.clone());
                respond(StatusCode::OK, &body)
            }
        }
    }
}

impl State {
    /// Takes an object away, also from the list of its kind.
    fn remove(&mut self, path: &str) {
        self.objects.remove(path);
        let Some((front, rest)) = path.split_once("/namespaces/") else { return };
        let [namespace, kind, name] = rest.split('/').collect::<Vec<_>>()[..] else { return };
        let list = self.objects.get_mut(&format!("{front}/{kind}"));
        if let Some(items) = list.and_then(|list| list["items"].as_array_mut()) {
            items.retain(|item| {
                item["metadata"]["name"] != name || item["metadata"]["namespace"] != namespace
            });
        }
    }
}

/// A merge patch as an object: what is null is not there.
fn merged(patch: Value) -> Value {
    match patch {
        Value::Object(fields) => {
            let set = fields.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(set.map(|(key, value)| (key, merged(value))).collect())
        }
        other => other,
    }
}

fn respond(code: StatusCode, body: &Value) -> Response<Body> {
    let body = Body::from(body.to_string().into_bytes());
    Response::builder().status(code).body(body).expect("response")
}

fn failure(code: StatusCode, reason: &str) -> Response<Body> {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure",
        "message": reason, "reason": reason, "code": code.as_u16(),
    });
    respond(code, &status)
}
