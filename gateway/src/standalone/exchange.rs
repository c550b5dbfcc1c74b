//! A standalone gateway's part in the exchange: control as in Kubernetes, told by the [`Desk`] what the
//! file says.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use carrick_exchange::member::MemberEvent;
use carrick_exchange::message::member::{from_controller, from_member};
use carrick_exchange::{Exchange, Limits, Rules, Trust};
use carrick_gateway_core::config::MTU_RANGE;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::config::Config;
use super::desk::Desk;
use super::identity::is_shared;
use super::notices::Notices;
use super::plane::StandalonePlane;
use super::probes::Answering;
use super::routes::Routes;
use crate::control::actor::{Control, Outlets, Parts, PlaneStopped};
use crate::control::plane::Plane as _;
use crate::control::relay::Relay;
use crate::control::run;
use crate::control::view::View;

/// Events for control that wait.
const QUEUE: usize = 16;

/// How often the desk looks at the clock.
const LOOK: Duration = Duration::from_secs(600);

/// Routes that could not be set are tried again after this time.
const ROUTES_AGAIN: Duration = Duration::from_secs(1);

/// The exchange at work.
#[derive(Debug)]
pub(super) struct Running {
    file: watch::Sender<Arc<Config>>,
    view: watch::Receiver<View>,
    exchange: Exchange,
    stop: CancellationToken,
    control: JoinHandle<Result<(), PlaneStopped>>,
}

impl Running {
    /// Starts it if the file says who we are. Needs a tokio runtime. Routes that keep packets in stand
    /// when it returns.
    pub fn start(file: &Config, plane: &Arc<StandalonePlane>) -> anyhow::Result<Option<Self>> {
        let (Some(cluster), Some(identity), Some(port)) =
            (&file.cluster, &file.identity, file.exchange.port)
        else {
            return Ok(None);
        };
        if let Some(path) = file.identity_file.as_ref().filter(|path| is_shared(path)) {
            let path = path.display();
            tracing::warn!(%path, "others may read our identity key; take their rights away");
        }
        let mut routes = Routes::default();
        routes.apply(file, &[], &plane.stats()).context("routes of Carrick peers")?;
        let most = file.interface.mtu.map_or(*MTU_RANGE.end(), usize::from);
        let probes = file.mesh_address().map(|address| Answering::at(address, most));
        let probes = probes.transpose()?;
        let mut desk = Desk::new(identity.key().clone(), cluster.clone(), SystemTime::now());
        let credentials = desk.credentials(SystemTime::now()).context("identity")?;
        let trusted = desk.trusted();
        let trust = Trust::new(cluster.clone(), trusted.identities.clone(), Rules::default());
        let socket = run::socket(port)
            .with_context(|| format!("exchange.port: UDP port {port} cannot be opened"))?;
        let exchange = Exchange::bind(socket, credentials, trust, Limits::default())
            .with_context(|| format!("cannot run the exchange on UDP port {port}"))?;
        let (state, states) = watch::channel(None);
        let (view, views) = watch::channel(View::default());
        let (events, member) = mpsc::channel(QUEUE);
        let (file, files) = watch::channel(Arc::new(file.clone()));
        let stop = CancellationToken::new();
        let parts = Parts {
            plane: plane.clone(),
            exchange: exchange.clone(),
            trusted,
            name: None,
            base_port: port,
            ordinal: None,
            cache: None,
            // There is no other gateway that could take over.
            drain: None,
            // It exports no services, and says so to who asks.
            relay: Relay::default(),
        };
        let control = Control::new(parts, Outlets { state, view });
        let control = tokio::spawn(control.run(member, stop.clone()));
        tokio::spawn(speak(desk, files.clone(), events));
        tokio::spawn(keep_routes(routes, files, plane.clone()));
        if let Some(probes) = probes {
            tokio::spawn(probes.run(plane.clone()));
        }
        tokio::spawn(tell(states, views.clone()));
        tracing::info!(cluster = %cluster, identity = %identity.public(), port, "exchange runs");
        Ok(Some(Self { file, view: views, exchange, stop, control }))
    }

    /// Hands on what the file says now.
    pub fn reload(&self, file: &Config) {
        self.file.send_replace(Arc::new(file.clone()));
    }

    /// What control shows of itself.
    pub fn view(&self) -> watch::Receiver<View> {
        self.view.clone()
    }

    /// Waits until control ends by itself, which it should not; says why.
    pub async fn ended(&mut self) -> anyhow::Error {
        match (&mut self.control).await {
            Ok(Ok(())) => anyhow::anyhow!("the exchange ended"),
            Ok(Err(error)) => error.into(),
            Err(error) => anyhow::anyhow!("the exchange broke off: {error}"),
        }
    }

    /// Tells peers that we leave.
    pub async fn stop(mut self) {
        self.stop.cancel();
        // It has been told to end, so that why it does is no news.
        let _ = (&mut self.control).await;
        self.exchange.drain().await;
    }
}

/// Plays the controller until the file has no owner any more.
async fn speak(
    mut desk: Desk,
    mut file: watch::Receiver<Arc<Config>>,
    events: mpsc::Sender<MemberEvent>,
) {
    loop {
        let newest = file.borrow_and_update().clone();
        for event in said(&mut desk, &newest, SystemTime::now()) {
            if events.send(event).await.is_err() {
                return;
            }
        }
        tokio::select! {
            changed = file.changed() => if changed.is_err() {
                return;
            },
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// What control is to hear now.
fn said(desk: &mut Desk, file: &Config, now: SystemTime) -> Vec<MemberEvent> {
    let mut events = Vec::new();
    match desk.credentials(now) {
        Ok(credentials) => events.extend(credentials.map(MemberEvent::Credentials)),
        Err(error) => tracing::error!(%error, "our certificate cannot be renewed"),
    }
    match desk.config(file, now) {
        Ok(config) => events.push(MemberEvent::Said(from_controller::Kind::Gateway(config))),
        Err(error) => tracing::error!(%error, "what we announce cannot be signed"),
    }
    events
}

/// Keeps routes as the file, the exchange and the tunnels have it.
async fn keep_routes(
    mut routes: Routes,
    mut file: watch::Receiver<Arc<Config>>,
    plane: Arc<StandalonePlane>,
) {
    let (mut carrick, mut changes) = (plane.carrick(), plane.changes());
    let mut failed: Option<String> = None;
    loop {
        let newest = file.borrow_and_update().clone();
        let peers = carrick.borrow_and_update().clone();
        changes.borrow_and_update();
        let error = routes.apply(&newest, &peers, &plane.stats()).err();
        let error = error.map(|error| format!("{error:#}"));
        if let Some(error) = error.as_ref().filter(|error| failed.as_ref() != Some(error)) {
            tracing::error!(error, "routes of Carrick peers are not as they should be");
        }
        failed = error;
        tokio::select! {
            changed = file.changed() => if changed.is_err() {
                return;
            },
            Ok(()) = carrick.changed() => {}
            Ok(()) = changes.changed() => {}
            () = tokio::time::sleep(ROUTES_AGAIN), if failed.is_some() => {}
        }
    }
}

/// Logs what in Kubernetes would be in the status of a ClusterPeering.
async fn tell(
    mut states: watch::Receiver<Option<from_member::Kind>>,
    mut views: watch::Receiver<View>,
) {
    let mut notices = Notices::default();
    loop {
        tokio::select! {
            changed = states.changed() => if changed.is_err() {
                return;
            },
            changed = views.changed() => if changed.is_err() {
                return;
            },
        }
        let state = states.borrow_and_update().clone();
        let told = views.borrow_and_update().told.clone();
        if let Some(from_member::Kind::Gateway(state)) = state {
            notices.look(&state, &told).iter().for_each(|news| tracing::warn!("{news}"));
        }
    }
}
