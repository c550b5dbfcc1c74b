//! A cipher that hides nothing: only in builds with `--cfg carrick_null`, in which worlds of gateways are
//! simulated by the thousands (`e2e/sim`). Such a build can do both: a lane whose key was made by [`key`]
//! speaks this, all others speak WireGuard.
//!
//! Messages have WireGuard's types, lengths, indices and counters, and the machine keeps boringtun's
//! timers. In the place of tags are hashes over what a real key would be made of, so that nobody takes
//! what was sealed for somebody else, with another preshared key, or before.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use carrick_model::TunnelKey;

use super::{
    Addressee, COOKIE, DATA, INITIATION, LONGEST_HANDSHAKE, OVERHEAD, RESPONSE, Received, Refusal,
    SecretKey, Tick,
};
use crate::drops::DropReason;
use crate::flood::Flood;
use crate::spread::mix;

/// Secret keys that begin like this speak no WireGuard.
const MARK: [u8; 8] = *b"no noise";
const RESPONSE_LENGTH: usize = 92;
/// How many packets may arrive after a later one, as boringtun has it.
const WINDOW: u64 = 1024;
const SESSIONS: usize = 8;
/// WireGuard's times.
const REKEY_AFTER: Duration = Duration::from_secs(120);
const REJECT_AFTER: Duration = Duration::from_secs(180);
const ATTEMPT: Duration = Duration::from_secs(90);
const RETRY: Duration = Duration::from_secs(5);
const KEEPALIVE: Duration = Duration::from_secs(10);

thread_local! {
    static NOW: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// Sets the clock of this thread, from which timers are counted, as boringtun's mock clock is set.
pub fn set_time(now: Duration) {
    NOW.set(now);
}

/// The key of a lane without cipher; each number makes another.
pub fn key(number: u64) -> SecretKey {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&MARK);
    // Public keys are compared, and their beginning names tunnels: so that it differs, too.
    bytes[8..16].copy_from_slice(&number.to_le_bytes());
    SecretKey::from_bytes(bytes)
}

/// The public half of such a key.
pub(super) fn public(secret: &[u8; 32]) -> Option<TunnelKey> {
    if secret[..8] != MARK {
        return None;
    }
    let mut bytes = *secret;
    let number = u64::from_le_bytes(std::array::from_fn(|i| secret[8 + i]));
    bytes[..8].copy_from_slice(&mix(1, number).to_le_bytes());
    Some(TunnelKey::from_bytes(bytes))
}

fn is_null(secret: &SecretKey) -> bool {
    public(secret.0.as_bytes()).is_some()
}

/// A session pair with one remote key.
pub enum NoiseTunnel {
    /// WireGuard.
    Real(Box<super::NoiseTunnel>),
    /// None.
    Null(Box<Null>),
}

impl NoiseTunnel {
    /// As [`super::NoiseTunnel::new`].
    pub fn new(secret: &SecretKey, remote: &TunnelKey, psk: Option<[u8; 32]>, index: u32) -> Self {
        if is_null(secret) {
            Self::Null(Box::new(Null::new(&secret.public(), remote, psk, index)))
        } else {
            Self::Real(Box::new(super::NoiseTunnel::new(secret, remote, psk, index)))
        }
    }

    /// As [`super::NoiseTunnel::is_ready`].
    pub fn is_ready(&self) -> bool {
        match self {
            Self::Real(real) => real.is_ready(),
            Self::Null(null) => null.ready,
        }
    }

    /// As [`super::NoiseTunnel::sessions`].
    pub fn sessions(&self) -> u64 {
        match self {
            Self::Real(real) => real.sessions(),
            Self::Null(null) => null.established,
        }
    }

    /// As [`super::NoiseTunnel::wants_rekey`].
    pub fn wants_rekey(&self) -> bool {
        match self {
            Self::Real(real) => real.wants_rekey(),
            Self::Null(_) => false,
        }
    }

    /// As [`super::NoiseTunnel::initiate`].
    pub fn initiate(&mut self, out: &mut [u8]) -> Option<usize> {
        match self {
            Self::Real(real) => real.initiate(out),
            Self::Null(null) => Some(null.initiate(out)),
        }
    }

    /// As [`super::NoiseTunnel::encrypt`].
    pub fn encrypt(&mut self, packet: &[u8], out: &mut [u8]) -> Result<usize, DropReason> {
        match self {
            Self::Real(real) => real.encrypt(packet, out),
            Self::Null(null) => null.encrypt(packet, out),
        }
    }

    /// As [`super::NoiseTunnel::receive`].
    pub fn receive(
        &mut self,
        from: IpAddr,
        datagram: &[u8],
        out: &mut [u8],
    ) -> Result<Received, DropReason> {
        match self {
            Self::Real(real) => real.receive(from, datagram, out),
            Self::Null(null) => null.receive(datagram, out),
        }
    }

    /// As [`super::NoiseTunnel::tick`].
    pub fn tick(&mut self, out: &mut [u8]) -> Tick {
        match self {
            Self::Real(real) => real.tick(out),
            Self::Null(null) => null.tick(out),
        }
    }
}

/// What all datagrams pass first.
pub enum Gate {
    /// WireGuard's.
    Real(Box<super::Gate>),
    /// Form and the hash over our key, and the limit of handshakes.
    Null(TunnelKey, Flood),
}

impl Gate {
    /// As [`super::Gate::new`].
    pub fn new(secret: &SecretKey) -> Self {
        if is_null(secret) {
            Self::Null(secret.public(), Flood::new(0, BTreeSet::new()))
        } else {
            Self::Real(Box::new(super::Gate::new(secret)))
        }
    }

    /// As [`super::Gate::set_tunnels`].
    pub fn set_tunnels(&mut self, tunnels: usize, known: BTreeSet<IpAddr>) {
        match self {
            Self::Real(real) => real.set_tunnels(tunnels, known),
            Self::Null(_, flood) => *flood = Flood::new(tunnels, known),
        }
    }

    /// As [`super::Gate::admit`].
    pub fn admit(
        &mut self,
        now: Instant,
        from: IpAddr,
        datagram: &[u8],
        reply: &mut [u8],
    ) -> Result<Addressee, Refusal> {
        let (public, flood) = match self {
            Self::Real(real) => return real.admit(now, from, datagram, reply),
            Self::Null(public, flood) => (public, flood),
        };
        let drop = Refusal::Drop;
        let addressee = match (datagram.first(), datagram.len()) {
            (Some(&INITIATION), LONGEST_HANDSHAKE) => {
                if word(datagram, 56) != initiation_tag(datagram, public) {
                    return Err(drop(DropReason::BadMac));
                }
                Addressee::Key(TunnelKey::from_bytes(std::array::from_fn(|i| datagram[8 + i])))
            }
            (Some(&RESPONSE), RESPONSE_LENGTH) => Addressee::Index(half(datagram, 8) >> 8),
            (Some(&COOKIE | _) | None, _) => return Err(drop(DropReason::MalformedDatagram)),
        };
        if !flood.admits(now, from) {
            return Err(drop(DropReason::UnderLoad));
        }
        Ok(addressee)
    }
}

fn half(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

fn hash(seed: u64, bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let hash = words.iter().fold(seed, |hash, word| mix(hash, u64::from_le_bytes(*word)));
    rest.iter().fold(hash, |hash, byte| mix(hash, u64::from(*byte)))
}

/// What only the holder of the receiver's key takes.
fn initiation_tag(datagram: &[u8], receiver: &TunnelKey) -> u64 {
    hash(hash(2, &datagram[..56]), receiver.as_bytes())
}

/// What only the two of a session make, each its own.
fn data_tag(key: u64, sender: &TunnelKey, number: u64, length: usize) -> u64 {
    mix(mix(mix(key, word(sender.as_bytes(), 0)), number), length as u64)
}

/// One session.
#[derive(Debug, Clone)]
struct Session {
    /// Our index, and theirs.
    ours: u32,
    theirs: u32,
    key: u64,
    made: Duration,
    sent: u64,
    /// The next number that is expected, and which of those before came.
    next: u64,
    came: [u64; (WINDOW / 64) as usize],
}

impl Session {
    /// Whether a message with this number is new.
    fn take(&mut self, number: u64) -> bool {
        if number + WINDOW <= self.next {
            return false;
        }
        for skipped in (self.next..=number).take(WINDOW as usize) {
            self.came[(skipped / 64 % (WINDOW / 64)) as usize] &= !(1 << (skipped % 64));
        }
        self.next = self.next.max(number + 1);
        let (word, bit) = ((number / 64 % (WINDOW / 64)) as usize, 1 << (number % 64));
        let new = self.came[word] & bit == 0;
        self.came[word] |= bit;
        new
    }
}

/// An initiation of ours that awaits its response.
#[derive(Debug, Clone, Copy)]
struct Begun {
    ours: u32,
    nonce: u64,
    at: Duration,
}

/// When what happened last.
#[derive(Debug, Clone, Copy, Default)]
struct Times {
    established: Duration,
    started: Duration,
    received: Duration,
    sent: Duration,
    data_received: Duration,
    data_sent: Duration,
    wants_keepalive: bool,
    wants_handshake: bool,
}

/// The machine without cipher.
#[derive(Debug)]
pub struct Null {
    own: TunnelKey,
    remote: TunnelKey,
    /// What both have in common.
    shared: u64,
    index: u32,
    count: u32,
    sessions: [Option<Session>; SESSIONS],
    current: usize,
    begun: [Option<Begun>; 2],
    /// The newest initiation of theirs.
    newest: u64,
    initiator: bool,
    ready: bool,
    established: u64,
    /// Our indices of sessions that count as established.
    counted: [u32; SESSIONS],
    times: Times,
}

impl Null {
    fn new(own: &TunnelKey, remote: &TunnelKey, psk: Option<[u8; 32]>, index: u32) -> Self {
        let (low, high) = if own < remote { (own, remote) } else { (remote, own) };
        let shared = hash(hash(3, low.as_bytes()), high.as_bytes());
        let now = NOW.get();
        let times = Times {
            established: now,
            started: now,
            received: now,
            sent: now,
            data_received: now,
            data_sent: now,
            ..Times::default()
        };
        Self {
            own: *own,
            remote: *remote,
            shared: hash(shared, &psk.unwrap_or_default()),
            index,
            count: 0,
            sessions: Default::default(),
            current: 0,
            begun: [None; 2],
            newest: 0,
            initiator: false,
            ready: false,
            established: 0,
            counted: [u32::MAX; SESSIONS],
            times,
        }
    }

    fn next_index(&mut self) -> u32 {
        self.count = (self.count + 1) & 0xff;
        self.index << 8 | self.count
    }

    fn initiate(&mut self, out: &mut [u8]) -> usize {
        let now = NOW.get();
        let ours = self.next_index();
        if self.begun[0].is_none() {
            self.times.started = now;
        }
        let nonce = mix(self.shared ^ now.as_nanos() as u64, u64::from(ours));
        self.begun = [Some(Begun { ours, nonce, at: now }), self.begun[0]];
        let message = &mut out[..LONGEST_HANDSHAKE];
        message.fill(0);
        message[0] = INITIATION;
        message[4..8].copy_from_slice(&ours.to_le_bytes());
        message[8..40].copy_from_slice(self.own.as_bytes());
        message[40..48].copy_from_slice(&nonce.to_le_bytes());
        // Clocks jump, and boringtun's stamps are later than any before nevertheless.
        let stamp = (now.as_nanos() as u64).wrapping_add(u64::from(self.count));
        message[48..56].copy_from_slice(&stamp.to_le_bytes());
        let tag = initiation_tag(message, &self.remote);
        message[56..64].copy_from_slice(&tag.to_le_bytes());
        self.note_sent();
        LONGEST_HANDSHAKE
    }

    fn note_sent(&mut self) {
        self.times.sent = NOW.get();
        (self.times.wants_handshake, self.times.wants_keepalive) = (true, false);
    }

    fn note_received(&mut self) {
        self.times.received = NOW.get();
        (self.times.wants_handshake, self.times.wants_keepalive) = (false, true);
    }

    fn encrypt(&mut self, packet: &[u8], out: &mut [u8]) -> Result<usize, DropReason> {
        if !self.ready {
            return Err(DropReason::NoSession);
        }
        let session = self.sessions[self.current].as_mut().ok_or(DropReason::NoSession)?;
        let length = packet.len() + OVERHEAD;
        let message = out.get_mut(..length).ok_or(DropReason::TooBig)?;
        let number = session.sent;
        session.sent += 1;
        message[..4].copy_from_slice(&[DATA, 0, 0, 0]);
        message[4..8].copy_from_slice(&session.theirs.to_le_bytes());
        message[8..16].copy_from_slice(&number.to_le_bytes());
        message[16..length - 16].copy_from_slice(packet);
        let tag = data_tag(session.key, &self.own, number, packet.len());
        message[length - 16..length - 8].copy_from_slice(&tag.to_le_bytes());
        message[length - 8..].fill(0xff);
        self.note_sent();
        if !packet.is_empty() {
            self.times.data_sent = NOW.get();
        }
        Ok(length)
    }

    fn receive(&mut self, datagram: &[u8], out: &mut [u8]) -> Result<Received, DropReason> {
        if out.len() < datagram.len().max(LONGEST_HANDSHAKE) {
            return Err(DropReason::OversizedDatagram);
        }
        match datagram.first() {
            Some(&DATA) => self.take_data(datagram, out),
            Some(&INITIATION) => self.take_initiation(datagram, out),
            Some(&RESPONSE) => self.take_response(datagram, out),
            _ => Err(DropReason::MalformedDatagram),
        }
    }

    fn session_key(&self, initiation: u64, response: u64) -> u64 {
        mix(mix(self.shared, initiation), response)
    }

    fn put(&mut self, ours: u32, theirs: u32, key: u64) -> usize {
        let place = ours as usize % SESSIONS;
        let (made, came) = (NOW.get(), [0; (WINDOW / 64) as usize]);
        self.sessions[place] = Some(Session { ours, theirs, key, made, sent: 0, next: 0, came });
        self.times.established = made;
        place
    }

    fn take_initiation(&mut self, datagram: &[u8], out: &mut [u8]) -> Result<Received, DropReason> {
        let stamp = word(datagram, 48);
        if stamp <= self.newest {
            return Err(DropReason::Replayed);
        }
        self.newest = stamp;
        self.note_received();
        let ours = self.next_index();
        let nonce = mix(self.shared ^ stamp, u64::from(ours));
        let key = self.session_key(word(datagram, 40), nonce);
        self.put(ours, half(datagram, 4), key);
        self.initiator = false;
        let message = &mut out[..RESPONSE_LENGTH];
        message.fill(0);
        message[0] = RESPONSE;
        message[4..8].copy_from_slice(&ours.to_le_bytes());
        message[8..12].copy_from_slice(&datagram[4..8]);
        message[12..20].copy_from_slice(&nonce.to_le_bytes());
        message[20..28].copy_from_slice(&mix(key, 4).to_le_bytes());
        self.note_sent();
        Ok(Received::Reply(RESPONSE_LENGTH))
    }

    fn take_response(&mut self, datagram: &[u8], out: &mut [u8]) -> Result<Received, DropReason> {
        let ours = half(datagram, 8);
        let begun = self.begun.iter().flatten().find(|begun| begun.ours == ours);
        let begun = *begun.ok_or(DropReason::HandshakeFailed)?;
        let key = self.session_key(begun.nonce, word(datagram, 12));
        if mix(key, 4) != word(datagram, 20) {
            return Err(DropReason::HandshakeFailed);
        }
        self.begun = [None; 2];
        self.note_received();
        self.current = self.put(ours, half(datagram, 4), key);
        self.initiator = true;
        self.count(ours);
        let length = self.encrypt(&[], out)?;
        Ok(Received::Reply(length))
    }

    fn take_data(&mut self, datagram: &[u8], out: &mut [u8]) -> Result<Received, DropReason> {
        let (ours, number) = (half(datagram, 4), word(datagram, 8));
        let place = ours as usize % SESSIONS;
        let session = self.sessions[place].as_mut().filter(|session| session.ours == ours);
        let session = session.ok_or(DropReason::NoSession)?;
        let (head, tag) = datagram.split_at(datagram.len() - 16);
        let packet = &head[16..];
        if word(tag, 0) != data_tag(session.key, &self.remote, number, packet.len()) {
            return Err(DropReason::BadAuthentication);
        }
        if !session.take(number) {
            return Err(DropReason::Replayed);
        }
        let made = session.made;
        let later = self.sessions[self.current].as_ref().is_none_or(|held| made >= held.made);
        if later {
            self.current = place;
        }
        self.note_received();
        self.count(ours);
        if packet.is_empty() {
            return Ok(Received::Nothing);
        }
        self.times.data_received = NOW.get();
        out[..packet.len()].copy_from_slice(packet);
        Ok(Received::Packet(packet.len()))
    }

    /// A session begins with what first came in it.
    fn count(&mut self, ours: u32) {
        self.ready = true;
        if !self.counted.contains(&ours) {
            self.counted.rotate_right(1);
            self.counted[0] = ours;
            self.established += 1;
        }
    }

    fn tick(&mut self, out: &mut [u8]) -> Tick {
        let tick = self.run_timers(out);
        self.ready = self.ready && self.sessions[self.current].is_some();
        tick
    }

    fn run_timers(&mut self, out: &mut [u8]) -> Tick {
        let now = NOW.get();
        for session in &mut self.sessions {
            if session.as_ref().is_some_and(|held| now > held.made + REJECT_AFTER) {
                *session = None;
            }
        }
        let times = self.times;
        let passed = |since: Duration| now.saturating_sub(since);
        if let Some(begun) = self.begun[0] {
            if passed(times.started) >= ATTEMPT {
                self.begun = [None; 2];
                self.sessions = Default::default();
                return Tick::Expired;
            }
            if passed(begun.at) >= RETRY {
                return Tick::Send(self.initiate(out));
            }
            return Tick::Nothing;
        }
        let old = passed(times.established);
        let renew = self.initiator
            && (times.data_sent > times.established && old >= REKEY_AFTER
                || times.data_received > times.established
                    && old >= REJECT_AFTER - KEEPALIVE - RETRY);
        let unheard = times.data_sent > times.received
            && passed(times.received) >= KEEPALIVE + RETRY
            && std::mem::take(&mut self.times.wants_handshake);
        if renew || unheard {
            return Tick::Send(self.initiate(out));
        }
        if times.data_received > times.sent
            && passed(times.sent) >= KEEPALIVE
            && std::mem::take(&mut self.times.wants_keepalive)
            && let Ok(length) = self.encrypt(&[], out)
        {
            return Tick::Send(length);
        }
        Tick::Nothing
    }
}
