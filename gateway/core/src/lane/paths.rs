//! Probing the tunnels' paths, and answering those who probe theirs.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::wire::send_alone;
use super::{ETHERNET, Lane, Lost, Sink};
use crate::config::{MTU_RANGE, TunnelId};
use crate::drops::DropReason;
use crate::path::message::{self, Message};
use crate::path::overhead;
use crate::path::random::Random;
use crate::tunnel::Tunnel;

/// Paths are looked after at most so often, however many there are.
const PAUSE: Duration = Duration::from_millis(5);

/// What a lane has for probing.
pub(super) struct Paths {
    /// When one of them is due.
    pub next: Option<Instant>,
    pub random: Random,
    /// The largest IP packet of each path in bytes, as others say.
    pub told: BTreeMap<TunnelId, u16>,
    /// A message in the making; behind its fields there are always zeros.
    bytes: Box<[u8]>,
    /// How many datagrams were too large for the link when that was last looked at.
    refused: u64,
}

impl Default for Paths {
    fn default() -> Self {
        let bytes = vec![0; *MTU_RANGE.end()].into();
        Self { next: None, random: Random::new(0), told: BTreeMap::new(), bytes, refused: 0 }
    }
}

impl Paths {
    /// Encrypts a message of `length` bytes, which leaves by `path`, into `out` and says the datagram's length; `None` when the
    /// message does not fit them.
    fn seal(
        &mut self,
        message: Message,
        length: usize,
        now: Instant,
        (tunnel, path): (&mut Tunnel, u8),
        out: &mut [u8],
    ) -> Result<Option<usize>, DropReason> {
        if !message::write(message, length, &mut self.bytes) {
            return Ok(None);
        }
        let length = tunnel.noise.encrypt(&self.bytes[..length], out)?;
        tunnel.note_left(now, path);
        Ok(Some(length))
    }
}

impl Lane {
    /// Gives it a random number, from which the nonces of its probes follow; before it has tunnels.
    pub fn set_seed(&mut self, seed: u64) {
        self.paths.random = Random::new(seed);
    }

    /// Says which is the largest IP packet in bytes that the tunnels' paths carry, as far as others know,
    /// the kernel mostly. What probes find counts before it. Those of other lanes are kept in mind only.
    pub fn tell_paths(&mut self, mtus: BTreeMap<TunnelId, u16>) {
        for tunnel in self.slots.iter_mut().flatten() {
            let differs = tunnel.tell_path(mtus.get(&tunnel.config.id).copied());
            self.revision += u64::from(differs);
        }
        self.paths.told = mtus;
    }

    /// Something happened to the network that may have changed paths: all are looked at again.
    pub fn recheck_paths(&mut self, now: Instant) {
        let tunnels = self.slots.iter_mut().flatten();
        tunnels.flat_map(|t| &mut t.ends.paths).for_each(|path| path.mtu.recheck(now));
        self.paths.next = Some(now);
    }

    /// Sends the probes that are due. With `all`, tunnels are also looked at whose state may have changed.
    pub(super) fn tend_paths(&mut self, now: Instant, all: bool, sink: &mut impl Sink) {
        let refused = self.drops.of(DropReason::LinkTooSmall);
        if std::mem::replace(&mut self.paths.refused, refused) != refused {
            self.recheck_paths(now);
        }
        if !all && self.paths.next.is_none_or(|at| at > now) {
            return;
        }
        let mut next = None;
        for slot in 0..self.slots.len() {
            let Some(tunnel) = &self.slots[slot] else { continue };
            if all || tunnel.poll_timeout().is_some_and(|at| at <= now) {
                let beaten = self.tend_health(slot, now, sink);
                self.note(beaten);
                let tended = self.tend_sizes(slot, now, sink);
                self.note(tended);
            }
            let due = self.slots[slot].as_ref().and_then(Tunnel::poll_timeout);
            next = next.into_iter().chain(due).min();
        }
        self.paths.next = next.map(|at: Instant| at.max(now + PAUSE));
    }

    /// Probes the paths of a tunnel.
    fn tend_sizes(&mut self, slot: usize, now: Instant, sink: &mut impl Sink) -> Result<(), Lost> {
        let Some(tunnel) = &mut self.slots[slot] else { return Ok(()) };
        let (wanted, quiet) = (tunnel.wants_probes(), tunnel.is_quiet());
        for place in 0..tunnel.ends.paths.len() {
            match wanted {
                true => self.tend_size(slot, place, quiet, now, sink)?,
                false => self.stop_size(slot, place),
            }
        }
        let Some(tunnel) = &mut self.slots[slot] else { return Ok(()) };
        self.revision += u64::from(tunnel.update_mtu());
        Ok(())
    }

    fn stop_size(&mut self, slot: usize, place: usize) {
        let tunnel = self.slots[slot].as_mut();
        if let Some(path) = tunnel.and_then(|tunnel| tunnel.ends.paths.get_mut(place)) {
            path.mtu.stop();
        }
    }

    fn tend_size(
        &mut self,
        slot: usize,
        place: usize,
        quiet: bool,
        now: Instant,
        sink: &mut impl Sink,
    ) -> Result<(), Lost> {
        let Some(tunnel) = &mut self.slots[slot] else { return Ok(()) };
        let most = tunnel.peer.map_or(self.config.mtu, |peer| self.tables.mtu_of(peer));
        let known = tunnel.health.is_known();
        let Some(path) = tunnel.ends.paths.get_mut(place) else { return Ok(()) };
        let (target, number, overhead) = (path.end, path.number, overhead(path.end.ip()));
        path.mtu.set_sparing(known);
        path.mtu.run(now, u16::try_from(most + overhead).unwrap_or(u16::MAX));
        while let Some(probe) =
            tunnel.ends.paths.get_mut(place).and_then(|path| path.mtu.poll(now, quiet))
        {
            let length = usize::from(probe.size) - overhead;
            let (message, to) = (Message::Probe(probe.echo), (&mut *tunnel, number));
            let sealed = self.paths.seal(message, length, now, to, &mut self.buffer)?;
            let Some(length) = sealed else { continue };
            tunnel.note_probed();
            match send_alone(target, &self.buffer[..length], sink) {
                Err(lost) if lost.reason == DropReason::LinkTooSmall => {
                    if let Some(path) = tunnel.ends.paths.get_mut(place) {
                        path.mtu.handle_refused(now, probe.size);
                    }
                }
                sent => self.drops.note(sent),
            }
        }
        let narrow = tunnel.ends.paths.get(place).is_some_and(|path| path.mtu.is_narrow(now));
        tunnel.health.set_narrow(number, narrow);
        Ok(())
    }

    /// Takes a message of the other gateway, which landed where packets do.
    pub(super) fn take_message(
        &mut self,
        slot: usize,
        length: usize,
        now: Instant,
        sink: &mut impl Sink,
    ) -> Result<(), Lost> {
        let Some(tunnel) = &mut self.slots[slot] else {
            return Err(DropReason::UnknownTunnel.into());
        };
        let packet = &self.merge.bytes()[ETHERNET..ETHERNET + length];
        let echo = match message::parse(packet).map_err(|_| DropReason::BadProbe)? {
            None => return Ok(()),
            Some(Message::Answer(echo, arrived)) => {
                let path = tunnel.ends.path_mut(echo.path).ok_or(DropReason::BadProbe)?;
                let size = usize::from(arrived) + overhead(path.end.ip());
                let size = u16::try_from(size).unwrap_or(u16::MAX);
                path.mtu.handle_answer(now, echo, size).map_err(|_| DropReason::BadProbe)?;
                self.paths.next = self.paths.next.into_iter().chain(tunnel.poll_timeout()).min();
                return Ok(());
            }
            Some(Message::Probe(echo)) => echo,
        };
        tunnel.note_probe();
        let most = tunnel.peer.map_or(self.config.mtu, |peer| self.tables.mtu_of(peer));
        if length > most {
            // It arrived, but what lies behind us takes no packets so large: the peer is to send smaller ones.
            return Ok(());
        }
        if !tunnel.answers.take(now) {
            return Err(DropReason::ProbeLimit.into());
        }
        let used = tunnel.ends.used().ok_or(DropReason::NoEndpoint)?;
        let (target, number) = (used.end, used.number);
        let answer = Message::Answer(echo, u16::try_from(length).unwrap_or(u16::MAX));
        let to = (&mut *tunnel, number);
        let sealed = self.paths.seal(answer, message::SHORTEST, now, to, &mut self.buffer)?;
        match sealed {
            Some(length) => send_alone(target, &self.buffer[..length], sink),
            None => Ok(()),
        }
    }
}
