//! WireGuard's protocol: the only file that names boringtun.
//!
//! Wrapped here are its sharp edges: it panics on short buffers, queues packets out of our sight, has
//! no limit of messages a session, gives up for good after 90 s, and answers every handshake with a
//! cookie unless its rate limiter is reset. It reads the clock and the system's randomness itself;
//! whoever simulates replaces its clock by boringtun's `mock-instant` feature.

#[cfg(carrick_floor)]
mod floor;
#[cfg(carrick_null)]
pub mod null;

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use boringtun::noise::errors::WireGuardError;
use boringtun::noise::handshake::parse_handshake_anon;
use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Packet, Tunn, TunnResult};
use carrick_model::TunnelKey;
use x25519_dalek::{PublicKey, StaticSecret};

use crate::drops::DropReason;
use crate::flood::{self, Flood};

/// What a data message adds to a packet, in bytes.
pub const OVERHEAD: usize = 32;
/// The longest handshake message in bytes: every output buffer is at least this long.
pub const LONGEST_HANDSHAKE: usize = 148;
/// WireGuard's REKEY_AFTER_MESSAGES.
const REKEY_AFTER_MESSAGES: u64 = 1 << 60;
/// WireGuard's REJECT_AFTER_MESSAGES. It also keeps boringtun's replay window from overflowing.
const REJECT_AFTER_MESSAGES: u64 = u64::MAX - (1 << 13);
/// How many sessions boringtun keeps.
const SESSIONS: usize = 8;
const DATA: u8 = 4;
const INITIATION: u8 = 1;
const RESPONSE: u8 = 2;
const COOKIE: u8 = 3;

/// A lane's private X25519 key. It is never printed.
#[derive(Clone)]
pub struct SecretKey(StaticSecret);

impl SecretKey {
    /// From 32 random bytes; X25519 clamps them at use (RFC 7748, section 5).
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(StaticSecret::from(bytes))
    }

    /// The public half.
    pub fn public(&self) -> TunnelKey {
        #[cfg(carrick_null)]
        if let Some(public) = null::public(self.0.as_bytes()) {
            return public;
        }
        TunnelKey::from_bytes(PublicKey::from(&self.0).to_bytes())
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey(of {})", self.public())
    }
}

/// To whom a datagram is addressed, once the gate let it in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Addressee {
    /// A handshake initiation by the holder of this key (not yet proven).
    Key(TunnelKey),
    /// The tunnel with this 24-bit index.
    Index(u32),
}

/// Why the gate let a datagram not in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Dropped.
    Drop(DropReason),
    /// Dropped, and the first so many bytes of the buffer are to be sent back: a cookie.
    Cookie(usize),
}

/// What all datagrams to a lane pass first: form, first MAC, and the limit of handshakes.
pub struct Gate {
    secret: StaticSecret,
    public: PublicKey,
    limiter: RateLimiter,
    flood: Flood,
    /// How many tunnels, and where their peers are known to be.
    tunnels: (usize, BTreeSet<IpAddr>),
}

impl Gate {
    /// The gate of the lane with this key, without tunnels.
    pub fn new(secret: &SecretKey) -> Self {
        let public = PublicKey::from(&secret.0);
        let (limiter, flood) =
            (RateLimiter::new(&public, flood::limit(0)), Flood::new(0, BTreeSet::new()));
        Self { secret: secret.0.clone(), public, limiter, flood, tunnels: (0, BTreeSet::new()) }
    }

    /// Sets the limits for a lane with so many tunnels, whose peers are known to be at `known`. Others than
    /// before make cookies void that were given: who holds one gets a new one.
    pub fn set_tunnels(&mut self, tunnels: usize, known: BTreeSet<IpAddr>) {
        let wanted = (tunnels, known);
        if self.tunnels != wanted {
            self.limiter = RateLimiter::new(&self.public, flood::limit(tunnels));
            self.flood = Flood::new(tunnels, wanted.1.clone());
            self.tunnels = wanted;
        }
    }

    /// Says for whom `datagram` is. `reply` must have room for [`LONGEST_HANDSHAKE`] bytes.
    pub fn admit(
        &mut self,
        now: Instant,
        from: IpAddr,
        datagram: &[u8],
        reply: &mut [u8],
    ) -> Result<Addressee, Refusal> {
        let malformed = Refusal::Drop(DropReason::MalformedDatagram);
        if matches!(datagram.first(), Some(&(INITIATION | RESPONSE))) {
            self.limiter.reset_count();
        }
        let packet = match self.limiter.verify_packet(Some(from), datagram, reply) {
            Ok(packet) => packet,
            Err(TunnResult::WriteToNetwork(cookie)) => return Err(Refusal::Cookie(cookie.len())),
            Err(TunnResult::Err(error)) => return Err(Refusal::Drop(handshake_drop(&error))),
            Err(_) => return Err(malformed),
        };
        let costs = matches!(packet, Packet::HandshakeInit(_) | Packet::HandshakeResponse(_));
        if costs && !self.flood.admits(now, from) {
            return Err(Refusal::Drop(DropReason::UnderLoad));
        }
        match packet {
            Packet::HandshakeInit(init) => {
                let half = parse_handshake_anon(&self.secret, &self.public, &init)
                    .map_err(|_| Refusal::Drop(DropReason::HandshakeFailed))?;
                Ok(Addressee::Key(TunnelKey::from_bytes(half.peer_static_public)))
            }
            Packet::HandshakeResponse(p) => Ok(Addressee::Index(p.receiver_idx >> 8)),
            Packet::PacketCookieReply(p) => Ok(Addressee::Index(p.receiver_idx >> 8)),
            Packet::PacketData(p) => Ok(Addressee::Index(p.receiver_idx >> 8)),
        }
    }
}

/// The 24-bit index of the tunnel that `datagram` is for, if it has the form of a data message: such
/// need no gate, since only the holder of a session's key makes one.
pub fn data_index(datagram: &[u8]) -> Option<u32> {
    let (kind, rest) = datagram.split_first_chunk::<4>()?;
    let (receiver, rest) = rest.split_first_chunk::<4>()?;
    let is_data = *kind == [DATA, 0, 0, 0] && rest.len() >= OVERHEAD - 8;
    is_data.then(|| u32::from_le_bytes(*receiver) >> 8)
}

/// What came of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// A keepalive: nothing to do.
    Nothing,
    /// A cookie, kept for the next handshake. It proves nothing about its sender.
    Cookie,
    /// The first so many bytes of the buffer are to be sent back.
    Reply(usize),
    /// The first so many bytes of the buffer are an inner packet.
    Packet(usize),
}

/// What the timers want.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tick {
    /// Nothing.
    Nothing,
    /// The first so many bytes of the buffer are to be sent.
    Send(usize),
    /// The session, or the attempt to get one, is over; [`NoiseTunnel::initiate`] begins anew.
    Expired,
}

/// One WireGuard session pair with one remote key.
pub struct NoiseTunnel {
    tunn: Tunn,
    ready: bool,
    /// Our indices of the newest sessions; late packets may still come for any of them.
    recent: [Option<u32>; SESSIONS],
    next_counter: u64,
    sessions: u64,
    #[cfg(carrick_floor)]
    floor: floor::Floor,
}

impl NoiseTunnel {
    /// A tunnel to `remote`. `index` names it in 24 bits in the messages that come back.
    pub fn new(secret: &SecretKey, remote: &TunnelKey, psk: Option<[u8; 32]>, index: u32) -> Self {
        let public = PublicKey::from(&secret.0);
        // The gate limits already; a second limiter would ask for cookies of its own.
        let unlimited = Arc::new(RateLimiter::new(&public, u64::MAX));
        let remote = PublicKey::from(*remote.as_bytes());
        let tunn =
            Tunn::new(secret.0.clone(), remote, psk, None, index & 0xff_ffff, Some(unlimited));
        Self {
            tunn,
            ready: false,
            recent: [None; SESSIONS],
            next_counter: 0,
            sessions: 0,
            #[cfg(carrick_floor)]
            floor: floor::Floor::default(),
        }
    }

    /// Whether packets can be encrypted now.
    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// How many sessions were established since it was made.
    pub fn sessions(&self) -> u64 {
        self.sessions
    }

    /// Whether the session has carried so much that a new one is due.
    pub fn wants_rekey(&self) -> bool {
        self.next_counter >= REKEY_AFTER_MESSAGES
    }

    /// Writes a new handshake initiation into `out` and says its length.
    pub fn initiate(&mut self, out: &mut [u8]) -> Option<usize> {
        match self.tunn.format_handshake_initiation(out, true) {
            TunnResult::WriteToNetwork(message) => Some(message.len()),
            _ => None,
        }
    }

    /// Encrypts `packet` (empty: a keepalive) into `out` and says the message's length.
    pub fn encrypt(&mut self, packet: &[u8], out: &mut [u8]) -> Result<usize, DropReason> {
        if !self.ready {
            return Err(DropReason::NoSession);
        }
        if self.next_counter >= REJECT_AFTER_MESSAGES {
            return Err(DropReason::MessageLimit);
        }
        if out.len() < (packet.len() + OVERHEAD).max(LONGEST_HANDSHAKE) {
            return Err(DropReason::TooBig);
        }
        #[cfg(carrick_floor)]
        if let Some(length) = self.floor.seal(packet, out) {
            return Ok(length);
        }
        match self.tunn.encapsulate(packet, out) {
            TunnResult::WriteToNetwork(message) if message[0] == DATA => {
                #[cfg(carrick_floor)]
                self.floor.note(message);
                self.next_counter = counter(message).map_or(0, |last| last + 1);
                Ok(message.len())
            }
            _ => Err(DropReason::NoSession),
        }
    }

    /// Takes a datagram that the gate let in; what comes of it is written into `out`.
    pub fn receive(
        &mut self,
        from: IpAddr,
        datagram: &[u8],
        out: &mut [u8],
    ) -> Result<Received, DropReason> {
        if out.len() < datagram.len().max(LONGEST_HANDSHAKE) {
            return Err(DropReason::OversizedDatagram);
        }
        let kind = datagram.first().copied().unwrap_or_default();
        if kind == DATA && counter(datagram).is_none_or(|c| c >= REJECT_AFTER_MESSAGES) {
            return Err(DropReason::MessageLimit);
        }
        #[cfg(carrick_floor)]
        if let Some(length) = floor::Floor::open(datagram, out) {
            self.note_session(kind, datagram);
            return Ok(if length == 0 { Received::Nothing } else { Received::Packet(length) });
        }
        let received = match self.tunn.decapsulate(Some(from), datagram, out) {
            TunnResult::Done if kind == COOKIE => Received::Cookie,
            TunnResult::Done => Received::Nothing,
            TunnResult::WriteToNetwork(reply) => Received::Reply(reply.len()),
            TunnResult::WriteToTunnelV4(packet, _) => Received::Packet(packet.len()),
            TunnResult::WriteToTunnelV6(packet, _) => Received::Packet(packet.len()),
            TunnResult::Err(error) if kind == DATA => return Err(data_drop(&error)),
            TunnResult::Err(error) => return Err(handshake_drop(&error)),
        };
        self.note_session(kind, datagram);
        Ok(received)
    }

    /// A session begins with the response that we got, or with the first data under a new index when
    /// the other side began. Late packets of the session before are no news.
    fn note_session(&mut self, kind: u8, datagram: &[u8]) {
        let at = match kind {
            RESPONSE => 8,
            DATA => 4,
            _ => return,
        };
        self.ready = true;
        let receiver = datagram[at..].first_chunk().map(|bytes| u32::from_le_bytes(*bytes));
        if !self.recent.contains(&receiver) {
            self.recent.rotate_right(1);
            self.recent[0] = receiver;
            self.sessions += 1;
            self.next_counter = 0;
            #[cfg(carrick_floor)]
            self.floor.renew();
        }
    }

    /// Moves the timers; call it every 100–250 ms. `out` must have room for [`LONGEST_HANDSHAKE`].
    pub fn tick(&mut self, out: &mut [u8]) -> Tick {
        let tick = match self.tunn.update_timers(out) {
            TunnResult::WriteToNetwork(message) => Tick::Send(message.len()),
            TunnResult::Err(WireGuardError::ConnectionExpired) => Tick::Expired,
            _ => Tick::Nothing,
        };
        self.ready = self.tunn.time_since_last_handshake().is_some();
        tick
    }
}

fn counter(message: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(*message.get(8..16)?.first_chunk()?))
}

fn handshake_drop(error: &WireGuardError) -> DropReason {
    match error {
        WireGuardError::InvalidMac => DropReason::BadMac,
        WireGuardError::UnderLoad => DropReason::UnderLoad,
        WireGuardError::WrongTai64nTimestamp => DropReason::Replayed,
        WireGuardError::InvalidPacket
        | WireGuardError::IncorrectPacketLength
        | WireGuardError::WrongPacketType => DropReason::MalformedDatagram,
        WireGuardError::DestinationBufferTooSmall
        | WireGuardError::UnexpectedPacket
        | WireGuardError::WrongIndex
        | WireGuardError::WrongKey
        | WireGuardError::InvalidTai64nTimestamp
        | WireGuardError::InvalidAeadTag
        | WireGuardError::InvalidCounter
        | WireGuardError::DuplicateCounter
        | WireGuardError::NoCurrentSession
        | WireGuardError::LockFailed
        | WireGuardError::ConnectionExpired => DropReason::HandshakeFailed,
    }
}

fn data_drop(error: &WireGuardError) -> DropReason {
    match error {
        WireGuardError::InvalidCounter | WireGuardError::DuplicateCounter => DropReason::Replayed,
        WireGuardError::InvalidAeadTag => DropReason::BadAuthentication,
        // Authentic, but what was inside is no IP packet.
        WireGuardError::InvalidPacket => DropReason::MalformedPacket,
        WireGuardError::NoCurrentSession | WireGuardError::WrongIndex => DropReason::NoSession,
        other => handshake_drop(other),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;
    use crate::testing::start;

    const FROM: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn pair() -> (NoiseTunnel, NoiseTunnel) {
        let (a, b) = (SecretKey::from_bytes([1; 32]), SecretKey::from_bytes([2; 32]));
        let psk = Some([3; 32]);
        (NoiseTunnel::new(&a, &b.public(), psk, 1), NoiseTunnel::new(&b, &a.public(), psk, 2))
    }

    /// Runs a handshake from `a` and returns the data message that ended it.
    fn connect(a: &mut NoiseTunnel, b: &mut NoiseTunnel) {
        let (mut x, mut y) = ([0; 2048], [0; 2048]);
        let n = a.initiate(&mut x).expect("an initiation");
        let Ok(Received::Reply(n)) = b.receive(FROM, &x[..n], &mut y) else {
            panic!("no response")
        };
        let Ok(Received::Reply(n)) = a.receive(FROM, &y[..n], &mut x) else {
            panic!("no keepalive")
        };
        assert_eq!(b.receive(FROM, &x[..n], &mut y), Ok(Received::Nothing));
    }

    #[test]
    fn a_handshake_makes_both_ready_and_counts_once() {
        let (mut a, mut b) = pair();
        assert_eq!(a.encrypt(b"x", &mut [0; 2048]), Err(DropReason::NoSession));
        connect(&mut a, &mut b);
        assert!(a.is_ready() && b.is_ready());
        assert_eq!((a.sessions(), b.sessions()), (1, 1));
        connect(&mut b, &mut a);
        assert_eq!((a.sessions(), b.sessions()), (2, 2));
    }

    #[test]
    fn late_packets_of_the_session_before_are_no_new_session() {
        let (mut a, mut b) = pair();
        connect(&mut a, &mut b);
        let (mut late, mut out) = ([0; 2048], [0; 2048]);
        let n = a.encrypt(&[], &mut late).expect("a message");
        connect(&mut a, &mut b);
        assert_eq!(b.receive(FROM, &late[..n], &mut out), Ok(Received::Nothing));
        let m = a.encrypt(&[], &mut out).expect("a message");
        assert_eq!(b.receive(FROM, &out[..m], &mut late), Ok(Received::Nothing));
        assert_eq!(b.sessions(), 2);
    }

    #[test]
    fn short_buffers_are_refused_without_panic() {
        let (mut a, mut b) = pair();
        connect(&mut a, &mut b);
        assert_eq!(a.encrypt(&[0; 1400], &mut [0; 1431]), Err(DropReason::TooBig));
        assert_eq!(a.initiate(&mut [0; 100]), None);
        let mut message = [0; 2048];
        let n = a.encrypt(&[0; 1400], &mut message).expect("a message");
        let received = b.receive(FROM, &message[..n], &mut [0; 1000]);
        assert_eq!(received, Err(DropReason::OversizedDatagram));
    }

    #[test]
    fn a_counter_at_the_limit_is_refused_before_it_is_looked_at() {
        let (mut a, mut b) = pair();
        connect(&mut a, &mut b);
        let mut message = [0; 2048];
        let n = a.encrypt(&[0; 40], &mut message).expect("a message");
        message[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
        let received = b.receive(FROM, &message[..n], &mut [0; 2048]);
        assert_eq!(received, Err(DropReason::MessageLimit));
        a.next_counter = REKEY_AFTER_MESSAGES;
        assert!(a.wants_rekey());
        a.next_counter = REJECT_AFTER_MESSAGES;
        assert_eq!(a.encrypt(&[], &mut message), Err(DropReason::MessageLimit));
    }

    #[test]
    fn the_gate_tells_initiations_by_key_and_the_rest_by_index() {
        let (mut a, _) = pair();
        let (key, mut gate) =
            (SecretKey::from_bytes([1; 32]), Gate::new(&SecretKey::from_bytes([2; 32])));
        let now = start();
        let (mut message, mut reply) = ([0; LONGEST_HANDSHAKE], [0; LONGEST_HANDSHAKE]);
        a.initiate(&mut message).expect("an initiation");
        assert_eq!(gate.admit(now, FROM, &message, &mut reply), Ok(Addressee::Key(key.public())));
        let mut data = [0; 48];
        data[0] = DATA;
        data[4..8].copy_from_slice(&0x0001_0203_u32.to_le_bytes());
        assert_eq!(gate.admit(now, FROM, &data, &mut reply), Ok(Addressee::Index(0x0102)));
        message[120] ^= 1;
        let bad_mac = Err(Refusal::Drop(DropReason::BadMac));
        assert_eq!(gate.admit(now, FROM, &message, &mut reply), bad_mac);
    }

    /// boringtun's limiter counts by the real clock, a second at a time: what a busy machine stretches
    /// over the end of one is done again.
    fn within_a_second<T>(mut attempt: impl FnMut() -> T) -> T {
        for _ in 0..50 {
            let began = start();
            let result = attempt();
            if start() - began < Duration::from_millis(900) {
                return result;
            }
        }
        panic!("this machine takes seconds for some hundred handshakes");
    }

    /// Whoever knows our public key can make messages that the first MAC lets in.
    #[test]
    fn under_a_flood_a_peer_gets_in_with_the_cookie_it_is_given() {
        let (secret, now) = (SecretKey::from_bytes([2; 32]), start());
        let own = SecretKey::from_bytes([1; 32]);
        let limit = flood::limit(0) as u32;
        let forged = |number: u32| IpAddr::V4(Ipv4Addr::from(0x0a00_0000 | number));
        let (cookies, first, learned, second) = within_a_second(|| {
            let mut gate = Gate::new(&secret);
            let mut peer = NoiseTunnel::new(&own, &secret.public(), None, 1);
            let stranger = SecretKey::from_bytes([9; 32]);
            let mut stranger = NoiseTunnel::new(&stranger, &secret.public(), None, 1);
            let (mut message, mut reply) = ([0; LONGEST_HANDSHAKE], [0; LONGEST_HANDSHAKE]);
            stranger.initiate(&mut message).expect("an initiation");
            let answers = (0..4 * limit).map(|n| gate.admit(now, forged(n), &message, &mut reply));
            let cookies = answers.filter(|answer| *answer == Err(Refusal::Cookie(64))).count();

            peer.initiate(&mut message).expect("an initiation");
            let first = gate.admit(now, FROM, &message, &mut reply);
            let learned = peer.receive(FROM, &reply[..64], &mut message);
            peer.initiate(&mut message).expect("an initiation");
            (cookies as u32, first, learned, gate.admit(now, FROM, &message, &mut reply))
        });
        assert_eq!(cookies, 3 * limit, "all but the first get no more than a cookie");
        assert_eq!(first, Err(Refusal::Cookie(64)));
        assert_eq!(learned, Ok(Received::Cookie));
        assert_eq!(second, Ok(Addressee::Key(own.public())));
    }

    #[test]
    fn a_cookie_is_no_licence_to_flood() {
        let (secret, now) = (SecretKey::from_bytes([2; 32]), start());
        let own = SecretKey::from_bytes([1; 32]);
        let let_in = within_a_second(|| {
            let mut gate = Gate::new(&secret);
            let mut flooder = NoiseTunnel::new(&own, &secret.public(), None, 1);
            let (mut message, mut reply) = ([0; LONGEST_HANDSHAKE], [0; LONGEST_HANDSHAKE]);
            let mut let_in = 0;
            for _ in 0..3 * flood::limit(0) {
                flooder.initiate(&mut message).expect("an initiation");
                match gate.admit(now, FROM, &message, &mut reply) {
                    Ok(_) => let_in += 1,
                    Err(Refusal::Cookie(length)) => {
                        let cookie = flooder.receive(FROM, &reply[..length], &mut message);
                        assert_eq!(cookie, Ok(Received::Cookie));
                    }
                    Err(Refusal::Drop(reason)) => assert_eq!(reason, DropReason::UnderLoad),
                }
            }
            let_in
        });
        assert!(let_in < flood::limit(0) + 50, "{let_in} handshakes looked at");
    }

    #[test]
    fn a_secret_is_never_printed() {
        let secret = SecretKey::from_bytes([7; 32]);
        assert_eq!(format!("{secret:?}"), format!("SecretKey(of {})", secret.public()));
    }
}
