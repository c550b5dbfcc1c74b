//! A lane and its peer, with a session between them.

use std::cell::RefCell;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use carrick_gateway_core::noise::{NoiseTunnel, Received};
use carrick_gateway_core::{
    Datagrams, DropReason, ForwardingConfig, Framing, HostConfig, Lane, Lost, NodeForwarding,
    Offload, PeerForwarding, Routers, SecretKey, Sink, TunnelConfig, TunnelId, packet,
};
use carrick_model::TunnelKey;

/// Room for any message.
pub const ROOM: usize = 1 << 16;
/// A session lives for 180 s.
const LIFETIME: Duration = Duration::from_secs(90);
const ETHERNET: usize = 14;

/// What a lane wrote. What no lane may write is refused with a panic.
pub struct Written {
    framing: Framing,
    /// Datagrams, cut.
    pub datagrams: Vec<Vec<u8>>,
    /// How many frames the device got.
    pub frames: usize,
}

impl Sink for Written {
    fn datagrams(&mut self, datagrams: &Datagrams<'_>) -> Result<(), Lost> {
        assert!(datagrams.segment > 0 && !datagrams.bytes.is_empty() && datagrams.ecn < 4);
        assert!(datagrams.count() <= 64 && datagrams.bytes.len() <= 65_507);
        self.datagrams.extend(datagrams.bytes.chunks(datagrams.segment).map(<[u8]>::to_vec));
        Ok(())
    }

    fn frame(&mut self, bytes: &mut [u8], offload: Offload) -> Result<(), Lost> {
        let link = if self.framing == Framing::Ethernet { ETHERNET } else { 0 };
        let header = packet::parse(&bytes[link..]).expect("the device gets IP packets only");
        assert_eq!(header.length, bytes.len() - link, "the device gets no trailing bytes");
        if let Offload::Cut(cut) = offload {
            assert!(cut.size > 0 && cut.upper < cut.payload && cut.payload < bytes.len());
        }
        self.frames += 1;
        Ok(())
    }

    fn hand_over(&mut self, _: u32, _: &[u8], _: Offload) -> Result<(), DropReason> {
        panic!("there is no other lane");
    }
}

/// A lane with a live session, and whoever has the other end of it.
pub struct Pair {
    /// Ours.
    pub lane: Lane,
    /// Theirs, which we do not trust.
    pub peer: NoiseTunnel,
    framing: Framing,
    made: Instant,
    inputs: u32,
}

/// Where the peer's datagrams come from.
pub fn peer_address() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 31_821))
}

fn secret(number: u8) -> SecretKey {
    SecretKey::from_bytes([number; 32])
}

/// The lane's public key.
pub fn lane_key() -> TunnelKey {
    secret(2).public()
}

/// The peer's end, without a session.
pub fn peer() -> NoiseTunnel {
    NoiseTunnel::new(&secret(1), &lane_key(), Some([3; 32]), 1)
}

fn config() -> ForwardingConfig {
    let prefix = |text: &str| text.parse().expect("a prefix");
    ForwardingConfig {
        tunnels: vec![TunnelConfig {
            id: TunnelId(1),
            lane: 0,
            remote_key: secret(1).public(),
            psk: Some([3; 32]),
            paths: carrick_gateway_core::PathConfig::only(Some(peer_address())),
            roaming: false,
            keepalive: None,
            initiate: false,
            probes: false,
            detection: carrick_gateway_core::path::health::DETECTION,
        }],
        peers: vec![PeerForwarding {
            cluster: "peer".parse().expect("a name"),
            prefixes: vec![prefix("10.1.0.0/16"), prefix("fd00:1::/32")],
            tunnels: vec![TunnelId(1)],
            mtu: None,
        }],
        nodes: vec![NodeForwarding {
            mesh_address: Ipv4Addr::new(240, 0, 16, 2),
            address: "192.0.2.100".parse().expect("an address"),
            prefixes: vec![prefix("10.2.0.0/24"), prefix("fd00:2::/64")],
        }],
        mtu: 1420,
        routers: Routers {
            v4: Some(Ipv4Addr::new(240, 0, 16, 1)),
            v6: Some("fd00:2::1".parse().expect("an address")),
        },
        host: Some(HostConfig {
            address: Ipv4Addr::new(240, 0, 31, 254),
            draining: false,
            routers: [("peer".parse().expect("a name"), Ipv4Addr::new(240, 1, 0, 1))].into(),
        }),
    }
}

impl Pair {
    fn new(framing: Framing) -> Self {
        let mut lane = Lane::new(0, secret(2), framing);
        let made = Instant::now();
        let mut written = Written { framing, datagrams: Vec::new(), frames: 0 };
        lane.apply(made, config(), &mut written);
        let mut pair = Self { lane, peer: peer(), framing, made, inputs: 0 };
        pair.shake_hands();
        pair
    }

    /// Makes a session by a handshake that the peer begins.
    fn shake_hands(&mut self) {
        let mut message = vec![0; ROOM];
        let length = self.peer.initiate(&mut message).expect("an initiation");
        let answers = self.deliver(&message[..length]);
        let received = self.peer.receive(peer_address().ip(), &answers.datagrams[0], &mut message);
        let Ok(Received::Reply(length)) = received else { panic!("no session: {received:?}") };
        self.deliver(&message[..length]);
    }

    /// The time of the next input: far enough from the one before that no limit of rates is reached.
    fn next_time(&mut self) -> Instant {
        self.inputs += 1;
        self.made + Duration::from_secs(self.inputs.into())
    }

    fn with(&mut self, step: impl FnOnce(&mut Lane, Instant, &mut Written)) -> Written {
        let mut written = Written { framing: self.framing, datagrams: Vec::new(), frames: 0 };
        let now = self.next_time();
        step(&mut self.lane, now, &mut written);
        self.lane.flush(&mut written);
        written
    }

    /// A datagram comes from the peer; what came of it.
    pub fn deliver(&mut self, datagram: &[u8]) -> Written {
        self.deliver_all(&[(datagram.to_vec(), 0)])
    }

    /// Datagrams come from the peer at once, with their ECN marks.
    pub fn deliver_all(&mut self, datagrams: &[(Vec<u8>, u8)]) -> Written {
        self.with(|lane, now, written| {
            for (datagram, ecn) in datagrams {
                lane.handle_datagram(now, peer_address(), datagram, *ecn, written);
            }
        })
    }

    /// The device has frames; what came of them.
    pub fn enter_all(&mut self, frames: &mut [(Vec<u8>, Offload)]) -> Written {
        self.with(|lane, now, written| {
            for (frame, offload) in frames {
                lane.handle_device(now, frame, *offload, written);
            }
        })
    }

    /// Seals what may or may not be a packet as the peer would.
    pub fn seal(&mut self, inner: &[u8]) -> Vec<u8> {
        let mut message = vec![0; inner.len() + 256];
        let length = self.peer.encrypt(inner, &mut message).expect("a live session");
        message.truncate(length);
        message
    }
}

thread_local! {
    static PAIRS: RefCell<[Option<Pair>; 2]> = const { RefCell::new([None, None]) };
}

/// Runs `step` with a pair that is kept from input to input, as a handshake is dear.
pub fn with_pair(framing: Framing, step: impl FnOnce(&mut Pair)) {
    PAIRS.with_borrow_mut(|pairs| {
        let place = &mut pairs[usize::from(framing == Framing::Ethernet)];
        let fresh = place.take().filter(|pair| pair.made.elapsed() < LIFETIME);
        step(place.insert(fresh.unwrap_or_else(|| Pair::new(framing))));
    });
}
