//! The gate between this controller and the Kubernetes API. A failover drill shuts it: requests fail at once and
//! watches break, as if the API server were out of reach. It opens by itself at its time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body_util::{BodyStream, StreamBody};
use kube::client::Body;
use tokio::sync::watch;
use tower::{BoxError, Layer, Service};

/// Why a request was not sent, or its answer not awaited.
#[derive(Debug, thiserror::Error)]
#[error("a failover drill keeps the API server out of reach")]
struct Shut;

/// The gate. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Gate(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    until: watch::Sender<Option<Instant>>,
    refused: AtomicU64,
}

impl Gate {
    /// Shuts it until then.
    pub fn shut(&self, until: Instant) {
        self.0.until.send_replace(Some(until));
    }

    /// Opens it at once.
    pub fn open(&self) {
        self.0.until.send_replace(None);
    }

    /// How many requests were refused since this process began.
    pub fn refused(&self) -> u64 {
        self.0.refused.load(Ordering::Relaxed)
    }

    fn refuse(&self) -> BoxError {
        self.0.refused.fetch_add(1, Ordering::Relaxed);
        Shut.into()
    }

    /// Whether it is shut now.
    pub fn is_shut(&self) -> bool {
        self.0.until.borrow().is_some_and(|until| Instant::now() < until)
    }

    /// Ends when it shuts.
    async fn shuts(self) {
        let mut until = self.0.until.subscribe();
        // The sender lives in `self`.
        let _shut = until.wait_for(|until| until.is_some_and(|at| Instant::now() < at)).await;
    }
}

impl<S> Layer<S> for Gate {
    type Service = Gated<S>;

    fn layer(&self, inner: S) -> Gated<S> {
        Gated { gate: self.clone(), inner }
    }
}

/// A client's way to the API server, through the gate.
#[derive(Debug, Clone)]
pub struct Gated<S> {
    gate: Gate,
    inner: S,
}

impl<S, B> Service<Request<Body>> for Gated<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Breakable<B>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let gate = self.gate.clone();
        if gate.is_shut() {
            return Box::pin(std::future::ready(Err(gate.refuse())));
        }
        let answer = self.inner.call(request);
        Box::pin(async move {
            tokio::select! {
                answer = answer => Ok(answer.map_err(Into::into)?.map(|body| breakable(body, gate))),
                () = gate.clone().shuts() => Err(gate.refuse()),
            }
        })
    }
}

/// A body that ends when the gate shuts, as that of a connection that broke.
type Breakable<B> = StreamBody<futures::stream::TakeUntil<BodyStream<B>, BoxFuture<'static, ()>>>;

fn breakable<B>(body: B, gate: Gate) -> Breakable<B>
where
    B: http_body::Body,
{
    let shuts: BoxFuture<'static, ()> = Box::pin(gate.shuts());
    StreamBody::new(BodyStream::new(body).take_until(shuts))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::TryStreamExt as _;
    use http::Method;
    use kube::Client;
    use tower_test::mock::{Handle, pair};

    use super::*;

    fn gated(gate: &Gate) -> (Client, Handle<Request<Body>, Response<Body>>) {
        let (service, server) = pair::<Request<Body>, Response<Body>>();
        (Client::new(gate.layer(service), "default"), server)
    }

    fn request() -> Request<Vec<u8>> {
        let request = Request::builder().method(Method::GET).uri("/version");
        request.body(Vec::new()).expect("request")
    }

    #[tokio::test]
    async fn while_it_is_shut_nothing_is_asked_and_then_it_opens_by_itself() {
        let gate = Gate::default();
        let (client, mut server) = gated(&gate);
        let asked = tokio::spawn(async move {
            let mut asked = 0;
            while let Some((_, reply)) = server.next_request().await {
                asked += 1;
                reply.send_response(Response::new(Body::from(b"{}".to_vec())));
            }
            asked
        });
        client.request_text(request()).await.expect("open");
        let until = Instant::now() + Duration::from_millis(50);
        gate.shut(until);
        let error = client.request_text(request()).await.expect_err("shut");
        assert!(format!("{error:?}").contains("Shut"), "{error:?}");
        assert_eq!(gate.refused(), 1);
        tokio::time::sleep_until(until.into()).await;
        client.request_text(request()).await.expect("open by itself");
        gate.shut(Instant::now() + Duration::from_secs(3600));
        gate.open();
        client.request_text(request()).await.expect("opened");
        drop(client);
        assert_eq!(asked.await.expect("served"), 3);
    }

    #[tokio::test]
    async fn what_is_under_way_breaks() {
        let gate = Gate::default();
        let (client, mut server) = gated(&gate);
        let waiting = client.request_text(request());
        let shutting = async {
            let (_, reply) = server.next_request().await.expect("asked");
            gate.shut(Instant::now() + Duration::from_secs(3600));
            reply
        };
        let (answer, _reply) = tokio::join!(waiting, shutting);
        answer.expect_err("nobody waits any more");

        gate.open();
        let body = StreamBody::new(futures::stream::pending::<Result<_, std::io::Error>>());
        let (service, mut server) = pair::<Request<Body>, Response<_>>();
        let client = Client::new(gate.layer(service), "default");
        let asked = client.send(Request::new(Body::empty()));
        let answering = async {
            let (_, reply) = server.next_request().await.expect("asked");
            reply.send_response(Response::new(body));
        };
        let (answer, ()) = tokio::join!(asked, answering);
        let mut frames = BodyStream::new(answer.expect("an answer").into_body());
        gate.shut(Instant::now() + Duration::from_secs(3600));
        let end = frames.try_next().await.expect("no error");
        assert!(end.is_none_or(|frame: http_body::Frame<Bytes>| frame.is_trailers()));
    }
}
