//! `carrick-gateway pod`: starts everything, and ends it in order.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use carrick_exchange::member::{self, MemberOptions, Trusted};
use carrick_exchange::{Credentials, Exchange, Limits, Rules, Trust};
use carrick_model::MemberName;
use socket2::{Domain, Socket, Type};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::actor::{Control, Outlets, Parts};
use super::cache::Cache;
use super::http;
use super::offloads::OffloadOptions;
use super::plane::Plane;
use super::pod_plane::PodPlane;
use super::relay::Relay;
use super::view::View;

/// How long it takes at most, by default, until nobody uses a gateway that is told to end; in seconds.
const DRAIN_SECONDS: u16 = 20;

/// How long the last report may take to leave.
const FAREWELL: Duration = Duration::from_secs(3);

/// How often we look for our own cluster's identity.
const TRUST_PAUSE: Duration = Duration::from_millis(500);

/// Events of the controller that wait.
const QUEUE: usize = 16;

/// What a gateway in Kubernetes is started with.
#[derive(Debug, Clone, clap::Args)]
pub struct PodOptions {
    /// The controller's exchange.
    #[arg(long, env = "CARRICK_CONTROLLER", value_name = "HOST:PORT")]
    controller: String,
    /// UDP port of the exchange of gateway 0; its lanes follow.
    #[arg(long, env = "CARRICK_BASE_PORT", default_value_t = 31820)]
    base_port: u16,
    /// How many ports each gateway has.
    #[arg(long, env = "CARRICK_PORT_STRIDE", default_value_t = 8)]
    port_stride: u16,
    /// How many lanes (threads, UDP ports) carry packets.
    #[arg(long, env = "CARRICK_LANES", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    lanes: u16,
    /// What may be left to the kernel.
    #[command(flatten)]
    offloads: OffloadOptions,
    /// How long to go on at most, in seconds, while nodes and peers move to other gateways, once SIGTERM
    /// has come.
    #[arg(long, env = "CARRICK_DRAIN_SECONDS", default_value_t = DRAIN_SECONDS)]
    drain_seconds: u16,
    /// Where /metrics, /healthz and /readyz are.
    #[arg(long, env = "CARRICK_HTTP_ADDRESS", default_value = "0.0.0.0:7822")]
    http_address: SocketAddr,
    /// The mounted ConfigMap carrick-trust.
    #[arg(long, env = "CARRICK_TRUST_DIR", default_value = "/etc/carrick/trust")]
    trust_dir: PathBuf,
    /// The projected ServiceAccount token.
    #[arg(long, env = "CARRICK_TOKEN_FILE", default_value = "/var/run/carrick/token/token")]
    token_file: PathBuf,
    /// A memory-backed folder for certificate and last configuration.
    #[arg(long, env = "CARRICK_STATE_DIR", default_value = "/run/carrick")]
    state_dir: PathBuf,
    /// The pod's name; its number tells the gateway's ports.
    #[arg(long, env = "POD_NAME")]
    pod_name: String,
    /// The pod's UID: the gateway's name.
    #[arg(long, env = "POD_UID")]
    pod_uid: MemberName,
    /// The pod's address.
    #[arg(long, env = "POD_IP")]
    pod_ip: IpAddr,
}

impl PodOptions {
    /// The pod's number.
    fn ordinal(&self) -> anyhow::Result<u16> {
        let number = self.pod_name.rsplit('-').next().and_then(|n| n.parse().ok());
        number.with_context(|| {
            format!(
                "POD_NAME {:?} does not end in the number of a StatefulSet's pod",
                self.pod_name
            )
        })
    }

    /// The exchange's port: the base port moved on by the pod's number.
    fn port(&self) -> anyhow::Result<u16> {
        let number = self.ordinal()?;
        if self.lanes >= self.port_stride {
            anyhow::bail!(
                "{} lanes and the exchange need a --port-stride of at least {}",
                self.lanes,
                self.lanes + 1
            );
        }
        let port = u32::from(self.base_port) + u32::from(number) * u32::from(self.port_stride);
        let last = port + u32::from(self.lanes);
        u16::try_from(last).with_context(|| format!("port {last} of a lane is beyond 65535"))?;
        Ok(u16::try_from(port)?)
    }
}

/// Runs until `stop`, or until the packet path stops by itself.
pub async fn run(options: PodOptions, stop: CancellationToken) -> anyhow::Result<()> {
    let port = options.port()?;
    let plane = PodPlane::start(options.lanes, port + 1, options.pod_ip, options.offloads.into())?;
    run_with(plane, port, options, stop).await
}

async fn run_with<P: Plane>(
    plane: P,
    port: u16,
    options: PodOptions,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let plane = Arc::new(plane);
    let starting = View { not_ready: Some("starting".to_owned()), ..View::default() };
    let (view, views) = watch::channel(starting);
    let http_stop = CancellationToken::new();
    let address = options.http_address;
    let http = tokio::spawn(http::serve(address, views, plane.clone(), http_stop.clone()));
    let ended = tokio::select! {
        ended = work(plane, view, port, options, stop) => ended,
        served = http => served.context("the HTTP task ended").and_then(|served| {
            served.with_context(|| format!("cannot serve HTTP on {address}"))
        }),
    };
    http_stop.cancel();
    ended
}

/// From the first look at our own cluster to the last word to everybody.
async fn work<P: Plane>(
    plane: Arc<P>,
    view: watch::Sender<View>,
    port: u16,
    options: PodOptions,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let ordinal = Some(options.ordinal()?);
    let Some(trusted) = trusted(&options.trust_dir, &stop).await else { return Ok(()) };
    let held = Credentials::load(&options.state_dir).unwrap_or_else(|error| {
        tracing::warn!(%error, "the kept certificate is of no use; joining anew");
        None
    });
    let trust = Trust::new(trusted.cluster.clone(), trusted.identities.clone(), Rules::default());
    let socket = socket(port).with_context(|| format!("cannot open UDP port {port}"))?;
    let exchange = Exchange::bind(socket, held.clone(), trust, Limits::default())
        .with_context(|| format!("cannot run the exchange on UDP port {port}"))?;
    let (state, reports) = watch::channel(None);
    let (events, member_events) = mpsc::channel(QUEUE);
    let member_stop = CancellationToken::new();
    let cache = Some(Cache::in_folder(&options.state_dir));
    let member_options = MemberOptions {
        controller: options.controller,
        trust: options.trust_dir,
        token: options.token_file,
        state: options.state_dir,
        name: options.pod_uid.clone(),
    };
    let (relay, (linked, links)) = (Relay::default(), watch::channel(None));
    tokio::spawn(relay.clone().serve_controller(links));
    let member = tokio::spawn(member::run_linked(
        member_options,
        held,
        events,
        reports,
        member::Away::never(),
        linked,
        member_stop.clone(),
    ));
    let drain = Some(Duration::from_secs(options.drain_seconds.into()));
    let parts = Parts {
        plane,
        exchange: exchange.clone(),
        trusted,
        name: Some(options.pod_uid),
        base_port: port,
        ordinal,
        cache,
        drain,
        relay,
    };
    tracing::info!(port, "gateway runs");
    let ended = Control::new(parts, Outlets { state, view }).run(member_events, stop).await;
    member_stop.cancel();
    if tokio::time::timeout(FAREWELL, member).await.is_err() {
        tracing::warn!("the controller did not take the last report in time");
    }
    exchange.drain().await;
    Ok(ended?)
}

/// Waits until the controller has said who we are; `None` when we are to stop before.
async fn trusted(directory: &Path, stop: &CancellationToken) -> Option<Trusted> {
    loop {
        match Trusted::read(directory) {
            Ok(trusted) => return Some(trusted),
            Err(error) => tracing::warn!(%error, "waiting for our own cluster's identity"),
        }
        tokio::select! {
            () = tokio::time::sleep(TRUST_PAUSE) => {}
            () = stop.cancelled() => return None,
        }
    }
}

/// A socket on all addresses of both families, or of IPv4 where the kernel has no IPv6.
pub(crate) fn socket(port: u16) -> std::io::Result<UdpSocket> {
    let dual = || -> std::io::Result<UdpSocket> {
        let socket = Socket::new(Domain::IPV6, Type::DGRAM, None)?;
        socket.set_only_v6(false)?;
        socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)).into())?;
        Ok(socket.into())
    };
    dual().or_else(|error| match error.raw_os_error() {
        Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL) => {
            UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port))
        }
        _ => Err(error),
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        options: PodOptions,
    }

    fn port(extra: &[&str]) -> anyhow::Result<u16> {
        let base = ["gateway", "--controller=10.0.0.1:7820", "--pod-uid=u-1", "--pod-ip=10.1.0.9"];
        Cli::try_parse_from(base.iter().chain(extra))?.options.port()
    }

    #[test]
    fn ports_follow_from_the_pods_number() {
        assert_eq!(port(&["--pod-name=carrick-gateway-0"]).expect("port"), 31_820);
        assert_eq!(port(&["--pod-name=carrick-gateway-2"]).expect("port"), 31_836);
        let error = port(&["--pod-name=carrick-gateway"]).expect_err("no number");
        assert!(error.to_string().contains("POD_NAME"), "{error}");
        assert!(port(&["--pod-name=g-9999"]).is_err());
        let error = port(&["--pod-name=g-0", "--lanes=8"]).expect_err("no room");
        assert!(error.to_string().contains("--port-stride"), "{error}");
        assert!(port(&["--pod-name=g-0", "--lanes=0"]).is_err());
    }
}
