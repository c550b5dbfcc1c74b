//! Packets of a pod, sent from within this process: exact times, and no `kubectl exec` in between.

use std::fs::File;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use carrick_e2e::run::run;
use carrick_e2e::spread::nearest_rank;
use carrick_e2e::turns::first_thread;
use carrick_e2e::wait::wait_until;
use nix::sched::{CloneFlags, setns};

use crate::common::text;
use crate::echo::hold_more;

/// Between two packets of a flow.
pub const INTERVAL: Duration = Duration::from_millis(5);

/// How long the last answers are awaited.
const TAIL: Duration = Duration::from_secs(1);

/// Losses that are further apart are told as two.
const SPAN: Duration = Duration::from_millis(500);

/// Bytes of a flow's packets.
const BYTES: usize = 200;

/// The network namespace that a process is in.
#[derive(Clone, Copy, Debug)]
pub struct Network(i32);

impl Network {
    /// That of the process with this number on the host.
    pub fn of(pid: i32) -> Self {
        Self(pid)
    }

    /// Does something in this network; sockets made there stay there.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, String> {
        let path = format!("/proc/{}/ns/net", self.0);
        let file = File::open(&path).map_err(|error| format!("opening {path}: {error}"))?;
        // A thread of its own: the namespace of a thread is not given back.
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                setns(file, CloneFlags::CLONE_NEWNET)
                    .map_err(|e| format!("entering {path}: {e}"))?;
                Ok(work())
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// As [`inside`](Self::inside), with sockets for which its one thread waits together.
    pub fn inside_async<T: Send>(
        &self,
        work: impl AsyncFnOnce() -> Result<T, String> + Send,
    ) -> Result<T, String> {
        self.inside(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            text(runtime)?.block_on(work())
        })?
    }

    /// A UDP socket in this network.
    pub fn udp(&self, port: u16) -> Result<UdpSocket, String> {
        let bound = self.inside(|| UdpSocket::bind((std::net::Ipv4Addr::UNSPECIFIED, port)))?;
        bound.map_err(|error| format!("binding UDP port {port}: {error}"))
    }

    /// Runs a program of the host in this network.
    pub fn run(&self, argv: &[&str]) -> Result<String, String> {
        let mut command = Command::new("nsenter");
        text(run(command.args(["--target", &self.0.to_string(), "--net", "--"]).args(argv)))
    }
}

/// When each numbered packet left and when its answer came.
#[derive(Debug, Default)]
pub struct Record {
    packets: Vec<(Instant, Option<Instant>)>,
}

impl Record {
    /// Packets without an answer.
    pub fn lost(&self) -> usize {
        self.packets.iter().filter(|(_, answer)| answer.is_none()).count()
    }

    /// Times of day between which packets left that got no answer, each span with its number of packets, for a
    /// person who compares it with logs.
    pub fn spans(&self) -> String {
        let mut spans: Vec<(Instant, Instant, usize)> = Vec::new();
        for at in self.losses() {
            match spans.last_mut() {
                Some((_, end, count)) if at < *end + SPAN => (*end, *count) = (at, *count + 1),
                _ => spans.push((at, at, 1)),
            }
        }
        let clock = |at: Instant| {
            let time = jiff::Timestamp::now()
                - jiff::SignedDuration::try_from(at.elapsed()).unwrap_or_default();
            time.strftime("%H:%M:%S%.3f").to_string()
        };
        let told = spans.iter().map(|(begin, end, count)| {
            format!("{count} from {} to {}", clock(*begin), clock(*end))
        });
        told.collect::<Vec<_>>().join(", ")
    }

    /// Packets sent.
    pub fn sent(&self) -> usize {
        self.packets.len()
    }

    /// The longest time without an answer while packets were sent.
    pub fn longest_gap(&self) -> Duration {
        let mut answers: Vec<Instant> = self.packets.iter().filter_map(|p| p.1).collect();
        answers.sort_unstable();
        let ends = self.packets.last().map(|(sent, _)| *sent);
        let begins = self.packets.first().map(|(sent, _)| *sent);
        let times: Vec<Instant> = begins.into_iter().chain(answers).chain(ends).collect();
        times.windows(2).map(|w| w[1].saturating_duration_since(w[0])).max().unwrap_or_default()
    }

    /// The round-trip time that so many percent of the packets do not exceed that left between `since` and `until`.
    pub fn round_trip(&self, since: Instant, until: Instant, percent: usize) -> Duration {
        let inside = self.packets.iter().filter(|(sent, _)| (since..until).contains(sent));
        let times = inside.filter_map(|(sent, answer)| Some(((*answer)? - *sent).as_secs_f64()));
        Duration::from_secs_f64(nearest_rank(times, percent))
    }

    /// When the last answer came.
    pub fn last_answer(&self) -> Option<Instant> {
        self.packets.iter().filter_map(|(_, answer)| *answer).max()
    }

    /// The first answer to a packet that left after `since`.
    pub fn first_answer_after(&self, since: Instant) -> Option<Instant> {
        self.packets.iter().filter(|(sent, _)| *sent >= since).filter_map(|p| p.1).min()
    }

    /// When each packet without an answer left.
    pub fn losses(&self) -> impl Iterator<Item = Instant> {
        self.packets.iter().filter(|(_, answer)| answer.is_none()).map(|(sent, _)| *sent)
    }

    /// Lost of sent, and the longest gap, for a person.
    pub fn summary(&self) -> String {
        let gap = self.longest_gap().as_millis();
        format!("{} of {} lost, longest gap {gap} ms", self.lost(), self.sent())
    }
}

/// Numbered packets to a UDP echo, until it is stopped.
#[derive(Debug)]
pub struct Flow {
    record: Arc<Mutex<Record>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Flow {
    /// Starts it, and waits for the first answer.
    pub fn start(from: &Network, to: SocketAddr) -> Result<Self, String> {
        let begin = Instant::now();
        let flow = Self::begin(from, to)?;
        flow.wait_answer(begin, Duration::from_secs(10))
            .map_err(|error| format!("a flow to {to}: {error}"))?;
        Ok(flow)
    }

    /// Starts it.
    pub fn begin(from: &Network, to: SocketAddr) -> Result<Self, String> {
        let socket = from.udp(0)?;
        hold_more(&socket)?;
        text(socket.set_read_timeout(Some(Duration::from_millis(50))))?;
        let receiving = text(socket.try_clone())?;
        let (record, stop) = (Arc::<Mutex<Record>>::default(), Arc::<AtomicBool>::default());
        let sender = {
            let (record, stop) = (record.clone(), stop.clone());
            first_thread(move || send(&socket, to, &record, &stop))
        };
        let receiver = {
            let (record, stop) = (record.clone(), stop.clone());
            first_thread(move || receive(&receiving, &record, &stop))
        };
        Ok(Self { record, stop, threads: vec![sender, receiver] })
    }

    /// Waits for an answer to a packet that left after `since`.
    pub fn wait_answer(&self, since: Instant, limit: Duration) -> Result<Instant, String> {
        text(wait_until(limit, "an answer to a packet", || {
            let record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
            record.first_answer_after(since).ok_or_else(|| record.summary())
        }))
    }

    /// Lets it run until `length` has passed since `since`.
    pub fn run_until(&self, since: Instant, length: Duration) {
        std::thread::sleep(length.saturating_sub(since.elapsed()));
    }

    /// Ends it and gives what was counted.
    pub fn stop(mut self) -> Record {
        self.end();
        std::mem::take(&mut *self.record.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.end();
    }
}

fn send(socket: &UdpSocket, to: SocketAddr, record: &Mutex<Record>, stop: &AtomicBool) {
    let start = Instant::now();
    let mut datagram = [0; BYTES];
    for number in 0_u32.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        // By the clock, not by pauses: a late one does not delay the rest.
        std::thread::sleep(INTERVAL.saturating_mul(number).saturating_sub(start.elapsed()));
        datagram[..4].copy_from_slice(&number.to_be_bytes());
        record.lock().unwrap_or_else(PoisonError::into_inner).packets.push((Instant::now(), None));
        // A refusal (no route) is a loss like any other.
        let _refused = socket.send_to(&datagram, to);
    }
}

fn receive(socket: &UdpSocket, record: &Mutex<Record>, stop: &AtomicBool) {
    let mut buffer = [0; BYTES];
    let mut stopped = None;
    loop {
        let received = socket.recv(&mut buffer);
        let now = Instant::now();
        if stop.load(Ordering::Relaxed) {
            let since = *stopped.get_or_insert(now);
            let all = record.lock().unwrap_or_else(PoisonError::into_inner).lost() == 0;
            if all || now - since > TAIL {
                return;
            }
        }
        match received {
            Ok(length) if length == BYTES => {
                let number = u32::from_be_bytes([buffer[0], buffer[1], buffer[2], buffer[3]]);
                let mut record = record.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(packet) = record.packets.get_mut(number as usize) {
                    packet.1.get_or_insert(now);
                }
            }
            // What an ICMP error said about an earlier packet, or nothing in time.
            Err(error) if error.kind() != ErrorKind::Interrupted => {}
            _ => {}
        }
    }
}
