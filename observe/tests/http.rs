//! What a scraper and a kubelet get to see.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use carrick_observe::figures::{counters, gauges, one};
use carrick_observe::{Observed, READY, serve};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Registry;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

#[derive(Debug)]
struct Few;

impl Collector for Few {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        gauges(&mut encoder, "few_ready", "1 when ready", one(1))?;
        let labelled = ["a", "b"].map(|reason| (vec![("reason", reason.to_owned())], 7));
        counters(&mut encoder, "few_drops", "Drops, by reason", labelled)
    }
}

/// Status line and body.
async fn get(address: std::net::SocketAddr, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).await.expect("connected");
    let request = format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("head and body");
    (head.lines().next().unwrap_or_default().to_owned(), body.to_owned())
}

#[tokio::test]
async fn the_three_routes_say_what_is_known_at_the_time_of_asking() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listener");
    let address = listener.local_addr().expect("address");
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Few));
    let ready = Arc::new(AtomicBool::new(false));
    let asked = ready.clone();
    let readiness = move || match asked.load(Ordering::Relaxed) {
        true => Ok(READY),
        false => Err("no configuration yet".to_owned()),
    };
    let stop = CancellationToken::new();
    let reads = Arc::new(AtomicUsize::new(0));
    let read = reads.clone();
    let observed = Observed::new(registry, readiness).before_scrape(move || {
        let read = read.clone();
        async move {
            read.fetch_add(1, Ordering::Relaxed);
        }
    });
    let served = tokio::spawn(serve(listener, observed.router(), stop.clone()));

    assert!(get(address, "/healthz").await.0.contains("200"));
    let (status, body) = get(address, "/readyz").await;
    assert!(status.contains("503") && body == "no configuration yet\n", "{status} {body}");
    ready.store(true, Ordering::Relaxed);
    let (status, body) = get(address, "/readyz").await;
    assert!(status.contains("200") && body == "ok\n", "{status} {body}");

    assert_eq!(reads.load(Ordering::Relaxed), 0, "health asks for nothing to be read");
    let (_, body) = get(address, "/metrics").await;
    assert_eq!(reads.load(Ordering::Relaxed), 1);
    for line in
        ["few_ready 1", "few_drops_total{reason=\"a\"} 7", "few_drops_total{reason=\"b\"} 7"]
    {
        assert!(body.lines().any(|found| found == line), "{line} is not in\n{body}");
    }
    stop.cancel();
    served.await.expect("no panic").expect("served");
}
