//! The sockets of a drill's streams, and the clock.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use carrick_exchange::message::drill::{StreamState, milliseconds};
use carrick_exchange::probe::PORT;
use carrick_exchange::probe::stream::{self, Answer, Question};
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

use super::meter::{Meter, Place};
use super::order::Order;
use crate::sys;
use crate::timer::sleep_until;

/// How often findings are published.
const PUBLISH: Duration = Duration::from_millis(500);
/// Answers that were read and not yet looked at.
const QUEUE: usize = 1024;

/// What to send, and from which address.
pub type Assigned = Option<(Ipv4Addr, Result<Order, (String, String)>)>;

/// Sends what is assigned until `assigned` closes; tells what is found while something is assigned.
pub async fn run(
    mut assigned: watch::Receiver<Assigned>,
    findings: watch::Sender<Option<StreamState>>,
) {
    let mut running: Option<Running> = None;
    loop {
        running = assign(running, &assigned.borrow_and_update().clone(), &findings);
        let changed = match &mut running {
            None => assigned.changed().await,
            Some(running) => {
                tokio::select! {
                    changed = assigned.changed() => changed,
                    () = running.run(&findings) => Ok(()),
                }
            }
        };
        if changed.is_err() {
            return;
        }
    }
}

/// Takes over an assignment.
fn assign(
    running: Option<Running>,
    assigned: &Assigned,
    findings: &watch::Sender<Option<StreamState>>,
) -> Option<Running> {
    let told = |state: Option<StreamState>| {
        findings.send_if_modified(|held| std::mem::replace(held, state.clone()) != state);
    };
    let (source, order) = match assigned {
        None => {
            if let Some(running) = running {
                running.end();
            }
            told(None);
            return None;
        }
        Some((_, Err((id, error)))) => {
            let (id, error) = (id.clone(), error.clone());
            told(Some(StreamState { id, error, ..StreamState::default() }));
            return None;
        }
        Some((source, Ok(order))) => (*source, order),
    };
    if let Some(mut running) = running
        && running.meter.order().id == order.id
        && running.source == source
    {
        if running.meter.follow(order.clone(), Instant::now()) {
            running.counting = SystemTime::now();
        }
        return Some(running);
    }
    match Running::start(source, order.clone()) {
        Ok(running) => Some(running),
        Err(error) => {
            let (id, error) = (order.id.clone(), format!("cannot send from {source}: {error}"));
            told(Some(StreamState { id, error, ..StreamState::default() }));
            None
        }
    }
}

/// A drill that is measured.
struct Running {
    source: Ipv4Addr,
    meter: Meter,
    sockets: Vec<Socket>,
    answers: mpsc::Receiver<(Place, Instant, Answer)>,
    begun: Instant,
    until: Instant,
    sending: SystemTime,
    counting: SystemTime,
}

impl Running {
    fn start(source: Ipv4Addr, order: Order) -> io::Result<Self> {
        let now = Instant::now();
        let (sender, answers) = mpsc::channel(QUEUE);
        let to = SocketAddr::from((order.target, PORT));
        let wall = SystemTime::now();
        let until = order.until(now, wall);
        let meter = Meter::new(order, rand::random(), now);
        let sockets = (0..meter.places()).map(|place| Socket::open(source, to, place, &sender));
        let sockets = sockets.collect::<io::Result<_>>()?;
        let (begun, sending, counting) = (now, wall, wall);
        Ok(Self { source, meter, sockets, answers, begun, until, sending, counting })
    }

    /// Sends and counts until its time is over.
    async fn run(&mut self, findings: &watch::Sender<Option<StreamState>>) {
        let mut publish = tokio::time::interval(PUBLISH);
        loop {
            let over = Instant::now() >= self.until;
            let due = self.meter.due().filter(|_| !over);
            tokio::select! {
                Some((place, at, answer)) = self.answers.recv() => {
                    self.meter.answered(at, place, &answer);
                }
                () = sleep_until(due) => self.send(),
                _ = publish.tick() => self.publish(findings),
            }
        }
    }

    fn send(&mut self) {
        let now = Instant::now();
        while let Some((place, mut question)) = self.meter.poll(now) {
            let sent = now.saturating_duration_since(self.begun).as_micros();
            question.sent = u64::try_from(sent).unwrap_or(u64::MAX);
            self.ask(place, question);
        }
    }

    fn ask(&self, place: Place, question: Question) {
        let packet = stream::question(question, self.meter.order().size);
        // What cannot be sent is as lost as any other.
        if let Some(Err(error)) = self.sockets.get(place).map(|socket| socket.send(&packet)) {
            tracing::trace!(place, %error, "cannot send a drill's packet");
        }
    }

    /// Says that no more comes, so that nobody goes on.
    fn end(self) {
        self.meter.last().for_each(|(place, question)| self.ask(place, question));
    }

    fn publish(&mut self, findings: &watch::Sender<Option<StreamState>>) {
        let now = Instant::now();
        self.meter.handle_timeout(now);
        let (from, begun) = (milliseconds(self.counting), milliseconds(self.sending));
        findings.send_replace(Some(StreamState { from, begun, ..self.meter.state(now) }));
    }
}

/// A socket with the task that reads it.
struct Socket {
    socket: Arc<UdpSocket>,
    reader: AbortHandle,
}

impl Socket {
    fn open(
        source: Ipv4Addr,
        to: SocketAddr,
        place: Place,
        answers: &mpsc::Sender<(Place, Instant, Answer)>,
    ) -> io::Result<Self> {
        let socket = std::net::UdpSocket::bind((source, 0))?;
        socket.set_nonblocking(true)?;
        sys::never_fragment(socket.as_fd())?;
        // Answers come from the one who is asked, and from nobody else.
        socket.connect(to)?;
        let socket = Arc::new(UdpSocket::from_std(socket)?);
        let reader = tokio::spawn(read(socket.clone(), place, answers.clone())).abort_handle();
        Ok(Self { socket, reader })
    }

    fn send(&self, packet: &[u8]) -> io::Result<()> {
        self.socket.try_send(packet).map(|_| ())
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

async fn read(
    socket: Arc<UdpSocket>,
    place: Place,
    answers: mpsc::Sender<(Place, Instant, Answer)>,
) {
    let mut buffer = vec![0; stream::MAX];
    loop {
        match socket.recv(&mut buffer).await {
            Ok(length) => {
                let now = Instant::now();
                let Some(answer) = stream::parse_answer(&buffer[..length]) else { continue };
                let sent = answers.try_send((place, now, answer));
                if let Err(mpsc::error::TrySendError::Closed(_)) = sent {
                    return;
                }
            }
            // An earlier packet was refused on the way; the answer that is missing tells.
            Err(error) => tracing::trace!(%error, "a drill's socket"),
        }
    }
}
