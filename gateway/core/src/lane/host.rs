//! The gateway as a host with a mesh address of its own: it tells its nodes that it forwards, what it
//! reaches, and how well. All else that is sent there ends here.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use carrick_model::Mac;
use carrick_model::gateway_probe::{
    Answer, LONGEST, MAX_LISTED, PORT, Question, RANKS, Reach, digest,
};

use super::fault::Behind;
use super::nodes::{Hearers, Hearing};
use super::wire::close_frame;
use super::{ETHERNET, Lane, Lost, Sink};
use crate::checksum;
use crate::config::ForwardingConfig;
use crate::drops::DropReason;
use crate::forward::PeerIndex;
use crate::icmp::{self, Limiter};
use crate::offload::Offload;
use crate::packet::{Header, UDP};

/// IPv4 and UDP header in bytes.
const HEADERS: usize = 28;
/// Answers a second by one lane: the questions of 800 nodes that ask ten times a second.
const ANSWERS: u32 = 8192;
/// Answers a second to one node, which asks ten times, or some more when it doubts.
const ANSWERS_TO_NODE: u32 = 64;
/// A node that has asked within this time is told news unasked.
const INTERESTED: Duration = Duration::from_secs(1);
const _: () = assert!(HEADERS + LONGEST <= icmp::LONGEST);

/// A cluster's router address.
type Router = [u8; 4];

/// A cluster that is reached: its router address, and how well, as nodes are told; 0 is best.
pub type Reached = [u8; 5];

/// What a lane has for it.
pub(super) struct Host {
    address: Option<IpAddr>,
    epoch: u64,
    draining: bool,
    /// By peer, as nodes know it.
    routers: Vec<Option<Router>>,
    /// What this lane reaches, ascending.
    own: Vec<Reached>,
    /// How often that has changed.
    changes: u64,
    /// What this lane and the others reach, ascending, and their routers alone.
    all: Vec<Reached>,
    all_routers: Vec<Router>,
    others: Vec<Reached>,
    /// By Ethernet address; no more than there are nodes.
    pub(super) askers: BTreeMap<Mac, Asker>,
    pub(super) hearers: Hearers,
    limiter: Limiter,
}

/// A node that asks.
pub(super) struct Asker {
    pub(super) address: Ipv4Addr,
    port: u16,
    last: Question,
    /// It reads ranks.
    ranks: bool,
    at: Instant,
    /// Whether it hears us.
    pub(super) hearing: Hearing,
    limiter: Limiter,
}

impl Default for Host {
    fn default() -> Self {
        Self {
            address: None,
            epoch: 0,
            draining: false,
            routers: Vec::new(),
            own: Vec::new(),
            changes: 0,
            all: Vec::new(),
            all_routers: Vec::new(),
            others: Vec::new(),
            askers: BTreeMap::new(),
            hearers: Hearers::default(),
            limiter: Limiter::new(ANSWERS),
        }
    }
}

impl Host {
    /// Whether `address` is its own.
    pub fn is_at(&self, address: IpAddr) -> bool {
        self.address == Some(address)
    }

    /// What is said to one who asked; unasked, the whole list.
    fn answer(&self, asker: &Asker, unasked: bool) -> Answer<'_> {
        let question = asker.last;
        let known = if unasked { 0 } else { question.known };
        let ranked = Reach::ranked(&self.all, known).filter(|_| asker.ranks);
        let (digest, reach) = ranked.unwrap_or_else(|| Reach::of(&self.all_routers, known));
        Answer {
            nonce: question.nonce,
            sequence: question.sequence,
            epoch: self.epoch,
            draining: self.draining,
            unasked,
            digest,
            reach,
        }
    }

    /// Whether one who knows this hears us: it knows something that we said. Where we reach too much for a list
    /// there is nothing to know.
    fn hears(&self, known: u32) -> bool {
        ![0, RANKS].contains(&known) || self.all_routers.len() > MAX_LISTED
    }

    /// Whether one who knows this reads ranks, if that says so.
    fn reads_ranks(&self, known: u32) -> Option<bool> {
        match known {
            RANKS => Some(true),
            0 => Some(false),
            known if known == digest(&self.all) => Some(true),
            known if known == digest(&self.all_routers) => Some(false),
            _ => None,
        }
    }
}

impl Lane {
    /// Gives it the number that stands for its process, the same for all lanes.
    pub fn set_epoch(&mut self, epoch: u64) {
        self.host.epoch = epoch;
    }

    /// The clusters that this lane reaches, ascending, as of when it last looked, and how often that has
    /// changed.
    pub fn reached(&self) -> (&[Reached], u64) {
        (&self.host.own, self.host.changes)
    }

    /// Says what other lanes reach. Nodes that ask are told of what that changes.
    pub fn tell_reached(&mut self, now: Instant, others: Vec<Reached>, sink: &mut impl Sink) {
        if self.host.others == others {
            return;
        }
        self.host.others = others;
        let merge = |lane: &mut Self, sink: &mut Behind<'_>| {
            lane.merge_reached(now, lane.host.draining, sink);
        };
        if self.fault.is_some() && self.behind_fault(Some(now), sink, merge) {
            return;
        }
        self.merge_reached(now, self.host.draining, sink);
    }

    /// Takes over what concerns the host. Nodes that are no more are forgotten.
    pub(super) fn configure_host(&mut self, config: &ForwardingConfig) {
        let host = config.host.as_ref();
        self.host.address = host.map(|host| IpAddr::V4(host.address));
        let router = |cluster| Some(host?.routers.get(cluster)?.octets());
        self.host.routers = config.peers.iter().map(|peer| router(&peer.cluster)).collect();
        let tables = &self.tables;
        self.host.askers.retain(|mac, _| tables.node_with(*mac).is_some());
    }

    /// Looks which clusters this lane reaches.
    pub(super) fn look_around(&mut self, now: Instant, sink: &mut impl Sink) {
        let Some(host) = &self.config.host else { return };
        let draining = host.draining;
        let reached = |(peer, router): (PeerIndex, &Option<Router>)| {
            let [a, b, c, d] = (*router)?;
            Some([a, b, c, d, self.rank(peer, now)?])
        };
        let own = merged((0..).zip(&self.host.routers).filter_map(reached).collect());
        if own == self.host.own && draining == self.host.draining {
            return;
        }
        if own != self.host.own {
            self.host.own = own;
            self.host.changes += 1;
        }
        self.merge_reached(now, draining, sink);
    }

    /// Takes own and others' word together; if it is another than before, who has asked lately hears it.
    fn merge_reached(&mut self, now: Instant, draining: bool, sink: &mut impl Sink) {
        let all = merged([&self.host.own[..], &self.host.others].concat());
        let news = all != self.host.all || draining != self.host.draining;
        if !news {
            return;
        }
        self.host.all_routers = all.iter().map(|[a, b, c, d, _]| [*a, *b, *c, *d]).collect();
        (self.host.all, self.host.draining) = (all, draining);
        for (mac, asker) in &self.host.askers {
            if now.saturating_duration_since(asker.at) < INTERESTED {
                let answer = self.host.answer(asker, true);
                let told = tell(&self.host, *mac, asker, &answer, &mut self.answer[..], sink);
                self.drops.note(told);
            }
        }
    }

    /// Takes a packet to the gateway's own address from the node with this Ethernet address.
    pub(super) fn take_question(
        &mut self,
        now: Instant,
        mac: Mac,
        packet: &[u8],
        header: &Header,
        offload: Offload,
        sink: &mut impl Sink,
    ) -> Result<(), Lost> {
        let (address, port) = sender(mac, packet, header, offload)?;
        let question = packet.get(header.payload + 8..header.length).and_then(Question::parse);
        let question = question.ok_or(DropReason::BadProbe)?;
        let (ranks, hears) =
            (self.host.reads_ranks(question.known), self.host.hears(question.known));
        let elsewhere = self.host.hearers.are_elsewhere(address);
        let asker = self.host.askers.entry(mac).or_insert_with(|| Asker {
            address,
            port,
            last: question,
            ranks: false,
            at: now,
            hearing: Hearing::default(),
            limiter: Limiter::new(ANSWERS_TO_NODE),
        });
        asker.hearing.take(now, hears, elsewhere);
        (asker.port, asker.last, asker.at) = (port, question, now);
        asker.ranks = ranks.unwrap_or(asker.ranks);
        if !asker.limiter.take(now) || !self.host.limiter.take(now) {
            return Err(DropReason::ProbeLimit.into());
        }
        let Some(asker) = self.host.askers.get(&mac) else { return Ok(()) };
        let answer = self.host.answer(asker, false);
        tell(&self.host, mac, asker, &answer, &mut self.answer[..], sink)
    }
}

/// Ascending, each cluster once. A packet may leave by any lane that reaches it: the worst of them counts.
pub fn merged(mut reached: Vec<Reached>) -> Vec<Reached> {
    reached.sort_unstable_by(|a, b| b.cmp(a));
    reached.dedup_by(|next, kept| next[..4] == kept[..4]);
    reached.reverse();
    reached
}

/// The node's mesh address and its port, if the packet is a UDP packet from there to the port for
/// questions. What else is on the node, its pods above all, has nothing to ask.
fn sender(
    mac: Mac,
    packet: &[u8],
    header: &Header,
    offload: Offload,
) -> Result<(Ipv4Addr, u16), DropReason> {
    let no_probe = DropReason::NotProbe;
    let IpAddr::V4(source) = header.source else { return Err(no_probe) };
    let whole = header.protocol == UDP && !header.fragment && !matches!(offload, Offload::Cut(_));
    if Mac::of_mesh(source) != mac || !whole {
        return Err(no_probe);
    }
    let udp = packet.get(header.payload..header.length).ok_or(DropReason::MalformedPacket)?;
    let [s0, s1, d0, d1, l0, l1, c0, c1] =
        *udp.first_chunk::<8>().ok_or(DropReason::MalformedPacket)?;
    if u16::from_be_bytes([d0, d1]) != PORT {
        return Err(no_probe);
    }
    let length = u16::from_be_bytes([l0, l1]);
    // Where the device vouches for the sum, or nobody has written it yet, there is nothing to check.
    let unsummed = [c0, c1] == [0, 0] || offload != Offload::Whole;
    let sum = || checksum::add(checksum::pseudo(packet, UDP, length), udp);
    if usize::from(length) != udp.len() || !unsummed && checksum::finish(sum()) != 0 {
        return Err(DropReason::MalformedPacket);
    }
    Ok((source, u16::from_be_bytes([s0, s1])))
}

/// Writes an answer to the device.
fn tell(
    host: &Host,
    mac: Mac,
    asker: &Asker,
    answer: &Answer<'_>,
    buffer: &mut [u8],
    sink: &mut impl Sink,
) -> Result<(), Lost> {
    let Some(IpAddr::V4(own)) = host.address else { return Ok(()) };
    let packet = &mut buffer[ETHERNET..];
    let length = HEADERS + answer.write(&mut packet[HEADERS..]);
    let (total, udp) = ((length as u16).to_be_bytes(), (length as u16 - 20).to_be_bytes());
    // DF, 64 hops to go.
    packet[..12].copy_from_slice(&[0x45, 0, total[0], total[1], 0, 0, 0x40, 0, 64, UDP, 0, 0]);
    packet[12..16].copy_from_slice(&own.octets());
    packet[16..20].copy_from_slice(&asker.address.octets());
    let sum = checksum::finish(checksum::add(0, &packet[..20]));
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet[20..22].copy_from_slice(&PORT.to_be_bytes());
    packet[22..24].copy_from_slice(&asker.port.to_be_bytes());
    packet[24..28].copy_from_slice(&[udp[0], udp[1], 0, 0]);
    let pseudo = checksum::pseudo(packet, UDP, length as u16 - 20);
    // A sum of zero would say that there is none (RFC 768).
    let sum = match checksum::finish(checksum::add(pseudo, &packet[20..length])) {
        0 => 0xffff,
        sum => sum,
    };
    packet[26..28].copy_from_slice(&sum.to_be_bytes());
    close_frame(buffer, mac);
    sink.frame(&mut buffer[..ETHERNET + length], Offload::Whole)
}
