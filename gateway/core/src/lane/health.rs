//! Heartbeats of the tunnels, and what follows for those who ask.

use std::net::SocketAddr;
use std::time::Instant;

use super::wire::send_alone;
use super::{ETHERNET, Lane, Lost, Sink};
use crate::drops::DropReason;
use crate::forward::PeerIndex;
use crate::path::{beat, word};
use crate::tunnel::Rank;

impl Lane {
    /// Says that this gateway leaves, or stays after all: peers are told at once, and choose others where
    /// they have any. It goes on taking and sending packets.
    pub fn set_draining(&mut self, now: Instant, draining: bool) {
        if std::mem::replace(&mut self.draining, draining) == draining {
            return;
        }
        for tunnel in self.slots.iter_mut().flatten() {
            tunnel.health.set_draining(draining);
        }
        self.paths.next = Some(now);
    }

    /// Whether this lane has a tunnel to a peer that works now, both ways; where the other gateway sends no
    /// heartbeats, one that is up.
    pub fn is_reachable(&self, peer: PeerIndex, now: Instant) -> bool {
        self.rank(peer, now).is_some()
    }

    /// How well the best of those tunnels works: 0 is as well as can be.
    pub(super) fn rank(&self, peer: PeerIndex, now: Instant) -> Option<u8> {
        let slots = self.peers.get(peer as usize).into_iter().flatten();
        let tunnels = slots.filter_map(|slot| self.slots[*slot].as_ref());
        tunnels.map(|tunnel| tunnel.rank(now)).min().and_then(Rank::told)
    }

    /// Sends the heartbeats that are due.
    pub(super) fn tend_health(
        &mut self,
        slot: usize,
        now: Instant,
        sink: &mut impl Sink,
    ) -> Result<(), Lost> {
        let Some(tunnel) = &mut self.slots[slot] else { return Ok(()) };
        if !tunnel.update_health(now) {
            return Ok(());
        }
        loop {
            self.say_word(slot, now, sink)?;
            let Some(tunnel) = &mut self.slots[slot] else { return Ok(()) };
            let Some(beat) = tunnel.health.poll(now) else { break };
            let short = tunnel.health.reads_short();
            // What it counts as sent is to leave before it.
            self.drops.note(self.batch.flush(sink));
            match short {
                true => self.say(slot, beat.path, &beat::write_short(&beat), now, sink)?,
                false => self.say(slot, beat.path, &beat::write(&beat), now, sink)?,
            }
        }
        let Some(tunnel) = &mut self.slots[slot] else { return Ok(()) };
        if tunnel.health_changed() {
            tunnel.update_paths(now);
            self.revision += 1;
        }
        Ok(())
    }

    /// Says what the peer is to know of this gateway before the heartbeat that is due.
    fn say_word(&mut self, slot: usize, now: Instant, sink: &mut impl Sink) -> Result<(), Lost> {
        let Some(tunnel) = &mut self.slots[slot] else { return Ok(()) };
        let Some((number, word)) = tunnel.health.poll_word(now) else { return Ok(()) };
        match tunnel.health.reads_short() {
            true => self.say(slot, number, &word::write_short(&word), now, sink),
            false => self.say(slot, number, &word::write(&word), now, sink),
        }
    }

    /// Sends a message of our own by a path, if the tunnel has it.
    fn say(
        &mut self,
        slot: usize,
        number: u8,
        message: &[u8],
        now: Instant,
        sink: &mut impl Sink,
    ) -> Result<(), Lost> {
        let Some(tunnel) = &mut self.slots[slot] else { return Ok(()) };
        let Some(path) = tunnel.ends.path_mut(number.into()) else { return Ok(()) };
        let target = path.end;
        let length = tunnel.noise.encrypt(message, &mut self.buffer)?;
        tunnel.note_left(now, number);
        self.drops.note(send_alone(target, &self.buffer[..length], sink));
        Ok(())
    }

    /// Takes a heartbeat, or what comes before one, which landed where packets do.
    pub(super) fn take_beat(
        &mut self,
        slot: usize,
        length: usize,
        from: SocketAddr,
        now: Instant,
    ) -> Result<(), Lost> {
        let Some(tunnel) = &mut self.slots[slot] else {
            return Err(DropReason::UnknownTunnel.into());
        };
        let packet = &self.merge.bytes()[ETHERNET..ETHERNET + length];
        if let Some(word) = word::parse(packet) {
            tunnel.reach.take(word);
            if let Some(peer) = tunnel.peer {
                self.compare_gateways_of(peer, now);
            }
            return Ok(());
        }
        let Some(beat) = beat::parse(packet).map_err(|_| DropReason::BadProbe)? else {
            return Ok(());
        };
        let taken = tunnel.health.handle_beat(now, from, &beat);
        tunnel.note_probe();
        tunnel.update_health(now);
        tunnel.look_for_size(now);
        if tunnel.health_changed() {
            tunnel.update_paths(now);
            self.revision += 1;
        }
        self.paths.next = self.paths.next.into_iter().chain(tunnel.poll_timeout()).min();
        taken.map_err(|_| DropReason::BadProbe.into())
    }
}
