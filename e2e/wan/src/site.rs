//! One site's thread: reads what leaves the site, asks the model, and writes each packet to
//! the far site's device when its time has come. It alone owns links, buffers and counters.

use crate::conditions::Conditions;
use crate::icmp;
use crate::link::{DropReason, Link, Verdict};
use crate::pool::Pool;
use crate::route::{Table, destination};
use crate::stats::SiteStats;
use crate::sys;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError};
use std::time::{Duration, Instant};

/// Packets read before due ones are written and commands are looked at.
const READ_BATCH: usize = 64;
/// Due packets written before others are read: after a pause both queues get shorter together.
const WRITE_BATCH: usize = 2 * READ_BATCH;

/// Packets that come so soon after others wait for each other: a wake-up for each would cost more
/// than the packets do.
const GATHER: Duration = Duration::from_micros(50);

/// What the control side asks of a site; each is answered.
pub enum Command {
    /// New conditions towards a site.
    Set(usize, Conditions, SyncSender<()>),
    /// Cut or restore.
    Cut(usize, bool, SyncSender<()>),
    /// The present conditions towards a site.
    Get(usize, SyncSender<Conditions>),
    /// The counters.
    Stats(SyncSender<SiteStats>),
}

/// A packet that waits: departure time, order of arrival, far site, buffer, length.
type Waiting = Reverse<(u64, u64, u16, u32, u32)>;

/// What a site's thread owns.
pub struct Site {
    /// This site's index.
    pub own: usize,
    /// The name of its device.
    pub device: String,
    /// The devices of all sites.
    pub devices: Arc<Vec<File>>,
    /// Where prefixes lie.
    pub routes: Table,
    /// Towards each site; the own one is never used.
    pub links: Vec<Link>,
    /// Counters; `directions` has an entry for each site, the own one included.
    pub stats: SiteStats,
    /// The buffers.
    pub pool: Pool,
    /// What waits, earliest first.
    pub waiting: BinaryHeap<Waiting>,
    /// Arrivals so far: equal departures leave in order.
    pub sequence: u64,
    /// Commands; the thread ends when the sender is gone.
    pub commands: Receiver<Command>,
    /// Readable when a command has come.
    pub wake: UnixStream,
    /// Time zero of the model.
    pub epoch: Instant,
    /// When the device had nothing to read, the last time.
    pub emptied: u64,
    /// When a packet was read or written, the last time.
    pub handled: u64,
    /// Whether a command may have made `wake` readable.
    pub polled: bool,
}

impl Site {
    /// Runs until the command side is dropped.
    pub fn run(mut self) -> io::Result<()> {
        // 1 ns instead of the default 50 µs: departures are to be on time.
        nix::sys::prctl::set_timerslack(1)?;
        sys::prefer_thread()?;
        while self.obey() {
            let more_to_read = self.read_batch();
            let more_to_write = self.write_due();
            if !more_to_read && !more_to_write {
                self.wait()?;
            }
        }
        Ok(())
    }

    fn now(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }

    /// Waits for a packet, a departure or a command.
    fn wait(&mut self) -> io::Result<()> {
        let now = self.now();
        if Duration::from_nanos(now.saturating_sub(self.handled)) < GATHER {
            std::thread::sleep(GATHER);
            return Ok(());
        }
        let timeout = self.waiting.peek().map(|Reverse(next)| next.0.saturating_sub(now));
        let device = self.devices[self.own].as_fd();
        sys::wait_readable([device, self.wake.as_fd()], timeout.map(Duration::from_nanos))?;
        (self.emptied, self.polled) = (self.now(), true);
        Ok(())
    }

    /// Carries out commands; false when there will be none any more.
    fn obey(&mut self) -> bool {
        loop {
            // An answer that nobody waits for any more is no error.
            match self.commands.try_recv() {
                Err(TryRecvError::Disconnected) => return false,
                Err(TryRecvError::Empty) if !self.polled => return true,
                Err(TryRecvError::Empty) => {
                    self.polled = false;
                    // Emptied only now: a later command makes it readable again.
                    let mut bytes = [0; 64];
                    return match self.wake.read(&mut bytes) {
                        Ok(0) => false,
                        Ok(_) => continue,
                        Err(_) => true,
                    };
                }
                Ok(Command::Set(to, conditions, done)) => {
                    self.links[to].set(conditions);
                    let _ = done.send(());
                }
                Ok(Command::Cut(to, cut, done)) => {
                    self.links[to].set_cut(cut);
                    let _ = done.send(());
                }
                Ok(Command::Get(to, answer)) => {
                    let _ = answer.send(self.links[to].conditions().clone());
                }
                Ok(Command::Stats(answer)) => {
                    let _ = answer.send(self.counted());
                }
            }
        }
    }

    fn counted(&mut self) -> SiteStats {
        match kernel_drops(&self.device) {
            Some(drops) => self.stats.unintended.kernel_queue = drops,
            None => self.stats.unintended.uncounted += 1,
        }
        let mut stats = self.stats.clone();
        stats.directions.remove(self.own);
        stats.in_flight = self.waiting.len() as u64;
        stats
    }

    /// Reads packets; true if there may be more.
    fn read_batch(&mut self) -> bool {
        for _ in 0..READ_BATCH {
            let Some(buffer) = self.pool.take() else {
                return self.discard_one();
            };
            match (&self.devices[self.own]).read(self.pool.get_mut(buffer)) {
                Ok(len) => self.arrive(buffer, len),
                Err(error) => {
                    self.pool.put(buffer);
                    if error.kind() == io::ErrorKind::WouldBlock {
                        self.emptied = self.now();
                    } else {
                        self.stats.unintended.read_failed += 1;
                    }
                    return false;
                }
            }
        }
        let unread = self.now().saturating_sub(self.emptied) / 1_000;
        self.stats.worst_unread_us = self.stats.worst_unread_us.max(unread);
        true
    }

    /// Without buffers: drops the next packet, so that what is counted is what is lost.
    fn discard_one(&mut self) -> bool {
        let read = (&self.devices[self.own]).read(&mut [0; 64]).is_ok();
        self.stats.unintended.pool_exhausted += u64::from(read);
        read
    }

    fn arrive(&mut self, buffer: u32, len: usize) {
        let found = destination(&self.pool.get(buffer)[..len])
            .and_then(|address| self.routes.lookup(address))
            .filter(|site| *site != self.own);
        let Some(to) = found else {
            self.stats.no_route += 1;
            self.pool.put(buffer);
            return;
        };
        self.stats.directions[to].received += 1;
        let now = self.now();
        self.handled = now;
        match self.links[to].arrive(now, len) {
            Verdict::Drop(reason) => {
                self.stats.directions[to].dropped.count(reason);
                if reason == DropReason::TooBig {
                    self.answer_too_big(to, buffer, len);
                }
                self.pool.put(buffer);
            }
            Verdict::Deliver { at, duplicate, held_back } => {
                self.stats.directions[to].held_back += u64::from(held_back);
                if let Some(at) = duplicate {
                    self.duplicate(at, to, buffer, len);
                }
                self.schedule(now, at, to, buffer, len);
            }
        }
    }

    fn duplicate(&mut self, at: u64, to: usize, buffer: u32, len: usize) {
        match self.pool.take() {
            Some(copy) => {
                self.pool.copy(buffer, copy, len);
                self.stats.directions[to].duplicated += 1;
                self.push(at, to, copy, len);
            }
            None => self.stats.unintended.pool_exhausted += 1,
        }
    }

    /// Writes at once what is due and has nothing before it, else lets it wait.
    fn schedule(&mut self, now: u64, at: u64, to: usize, buffer: u32, len: usize) {
        let first = self.waiting.peek().is_none_or(|Reverse(next)| next.0 > at);
        if at <= now && first {
            self.write(to, buffer, len);
        } else {
            self.push(at, to, buffer, len);
        }
    }

    fn push(&mut self, at: u64, to: usize, buffer: u32, len: usize) {
        self.sequence += 1;
        self.waiting.push(Reverse((at, self.sequence, to as u16, buffer, len as u32)));
    }

    /// Writes due packets; true if more are due.
    fn write_due(&mut self) -> bool {
        let now = self.now();
        for _ in 0..WRITE_BATCH {
            let Some(Reverse((at, _, to, buffer, len))) = self.waiting.peek().copied() else {
                return false;
            };
            if at > now {
                return false;
            }
            self.handled = now;
            let late = (now - at) / 1_000;
            self.stats.worst_lateness_us = self.stats.worst_lateness_us.max(late);
            self.waiting.pop();
            self.write(to.into(), buffer, len as usize);
        }
        true
    }

    /// Hands a packet to the far site and frees its buffer.
    fn write(&mut self, to: usize, buffer: u32, len: usize) {
        match (&self.devices[to]).write_all(&self.pool.get(buffer)[..len]) {
            Ok(()) => {
                self.stats.directions[to].forwarded += 1;
                self.stats.directions[to].forwarded_bytes += len as u64;
            }
            Err(_) => self.stats.unintended.write_failed += 1,
        }
        self.pool.put(buffer);
    }

    fn answer_too_big(&mut self, to: usize, buffer: u32, len: usize) {
        let Conditions { mtu: Some(mtu), icmp_too_big: true, .. } = *self.links[to].conditions()
        else {
            return;
        };
        let mut answer = [0; icmp::MAX_LEN];
        let Some(size) = icmp::too_big(&self.pool.get(buffer)[..len], mtu, &mut answer) else {
            return;
        };
        match (&self.devices[self.own]).write_all(&answer[..size]) {
            Ok(()) => self.stats.directions[to].too_big_answers += 1,
            Err(_) => self.stats.unintended.write_failed += 1,
        }
    }
}

/// Packets that the kernel dropped because we read too slowly; the thread lives in the site's
/// namespace, so this is the site's device.
fn kernel_drops(device: &str) -> Option<u64> {
    let table = std::fs::read_to_string("/proc/thread-self/net/dev").ok()?;
    let line =
        table.lines().find_map(|line| line.trim().strip_prefix(device)?.strip_prefix(':'))?;
    line.split_whitespace().nth(11)?.parse().ok()
}
