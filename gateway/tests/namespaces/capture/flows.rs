//! What is sent: flows of every kind, in groups that cross one after the other.

use super::packets::{Ip, Left, Packet, Tcp, payload, udp};

/// Source port of what tells one group from the next.
pub const MARKER: u16 = 9;

const DF: u16 = 0x4000;
const MORE: u16 = 0x2000;
const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;
const URG: u8 = 0x20;
const ECE: u8 = 0x40;
const CWR: u8 = 0x80;
/// Kinds of super-packets in virtio's header.
const TCP4: u8 = 1;
const TCP6: u8 = 4;
const TRAIN: u8 = 5;
const ECN: u8 = 0x80;

/// From where to where.
pub struct Ends {
    from: usize,
}

impl Ends {
    /// From host 0 or host 1 to the other.
    pub fn of(from: usize) -> Self {
        Self { from }
    }

    fn ip(&self, address: impl Fn(u8) -> Vec<u8>) -> Ip {
        let (own, other) = (self.from as u8 + 1, 2 - self.from as u8);
        Ip {
            source: address(own),
            destination: address(other),
            class: 0,
            hops: 64,
            number: 100,
            fragment: DF,
            options: Vec::new(),
            extensions: Vec::new(),
            last: None,
        }
    }

    /// An IPv4 header, DF set.
    pub fn v4(&self) -> Ip {
        self.ip(|net| vec![10, net, 0, 5])
    }

    /// An IPv6 header.
    pub fn v6(&self) -> Ip {
        self.ip(|net| vec![0xfd, 0, 0, net, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5])
    }

    /// Whether a packet comes from the one end.
    pub fn are_of(&self, packet: &[u8]) -> bool {
        match packet.first().map(|first| first >> 4) {
            Some(4) => packet.get(12..16) == Some(&self.v4().source[..]),
            Some(6) => packet.get(8..24) == Some(&self.v6().source[..]),
            _ => false,
        }
    }
}

/// All groups, with their names.
pub fn all(ends: &Ends) -> Vec<(&'static str, Vec<Packet>)> {
    let mut groups = Vec::new();
    for ip in [ends.v4(), ends.v6()] {
        groups.extend([
            ("streams", streams(&ip)),
            ("segments", segments(&ip)),
            ("odd segments", odd_segments(&ip)),
            ("trains", trains(&ip)),
            ("datagrams", datagrams(&ip)),
            ("wrong sums", wrong_sums(&ip)),
            ("marks", marks(&ip)),
            ("hop limits", hop_limits(&ip)),
            ("fragments", fragments(&ip)),
            ("odd protocols", protocols(&ip)),
            ("options", options(&ip)),
        ]);
    }
    let numbered = Ip { fragment: 0, ..ends.v4() };
    groups.push(("streams without DF", streams(&numbered)));
    groups.push(("segments without DF", segments(&numbered)));
    groups.push(("trains without DF", trains(&numbered)));
    groups.push(("datagrams without DF", datagrams(&numbered)));
    groups
}

fn tcp(port: u16) -> Tcp {
    Tcp { port, sequence: u32::MAX - 5000, flags: ACK, options: Vec::new() }
}

/// Timestamps (RFC 7323), aligned as everybody does it.
fn timestamps() -> Vec<u8> {
    vec![1, 1, 8, 10, 0, 0, 1, 2, 0, 0, 3, 4]
}

fn whole(ip: &Ip, protocol: u8, upper: &[u8]) -> Packet {
    Packet { bytes: ip.packet(protocol, upper), left: Left::Nothing }
}

fn segment(ip: &Ip, tcp: &Tcp, bytes: usize) -> Packet {
    let mut segment = tcp.segment(bytes);
    ip.finish(6, &mut segment, 16);
    whole(ip, 6, &segment)
}

/// A stream's bytes as a kernel hands them over.
fn super_packet(ip: &Ip, tcp: &Tcp, size: usize, bytes: usize) -> Packet {
    let mut segment = tcp.segment(bytes);
    ip.unfinish(6, &mut segment, 16);
    let (start, headers) = (ip.length(), ip.length() + 20 + tcp.options.len());
    let ecn = if tcp.flags & CWR != 0 { ECN } else { 0 };
    let kind = if ip.is_v6() { TCP6 } else { TCP4 } | ecn;
    let left = Left::Cut { kind, size, headers, start, offset: 16 };
    Packet { bytes: ip.packet(6, &segment), left }
}

fn train(ip: &Ip, port: u16, size: usize, bytes: usize) -> Packet {
    let mut datagram = [port.to_be_bytes(), 53u16.to_be_bytes()].concat();
    datagram.extend(((8 + bytes) as u16).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(payload(bytes));
    ip.unfinish(17, &mut datagram, 6);
    let (start, headers) = (ip.length(), ip.length() + 8);
    let left = Left::Cut { kind: TRAIN, size, headers, start, offset: 6 };
    Packet { bytes: ip.packet(17, &datagram), left }
}

/// Uncut streams: several in a row, with options, with flags that belong to the first or last only.
fn streams(ip: &Ip) -> Vec<Packet> {
    let mut packets = Vec::new();
    let mut one = tcp(1000);
    let mut ip = ip.clone();
    for bytes in [40_000, 1340 * 3, 60_000, 1341, 64_000] {
        packets.push(super_packet(&ip, &one, 1340, bytes));
        one.sequence = one.sequence.wrapping_add(bytes as u32);
        ip.number = ip.number.wrapping_add(bytes.div_ceil(1340) as u16);
    }
    for (port, flags) in [(1001, ACK | PSH), (1002, ACK | FIN | PSH), (1003, ACK | ECE | CWR)] {
        packets.push(super_packet(&ip, &Tcp { flags, ..tcp(port) }, 1200, 20_000));
    }
    let options = timestamps();
    packets.push(super_packet(&ip, &Tcp { options, ..tcp(1004) }, 1348, 50_000));
    packets.push(super_packet(&Ip { class: 0xb9, ..ip.clone() }, &tcp(1005), 500, 9_999));
    packets
}

/// Whole segments that could be merged, and where their row ends.
fn segments(ip: &Ip) -> Vec<Packet> {
    let mut packets = Vec::new();
    let (mut one, mut two) = (tcp(1100), Tcp { options: timestamps(), ..tcp(1101) });
    let mut ip = ip.clone();
    for number in 0..60 {
        let bytes = if number % 20 == 19 { 700 } else { 1340 };
        one.flags = if number % 30 == 29 { ACK | PSH } else { ACK };
        packets.push(segment(&ip, &one, bytes));
        one.sequence = one.sequence.wrapping_add(bytes as u32);
        ip.number = ip.number.wrapping_add(if number % 25 == 24 { 9 } else { 1 });
        if number % 3 == 0 {
            packets.push(segment(&ip, &two, 900));
            two.sequence = two.sequence.wrapping_add(900);
            ip.number = ip.number.wrapping_add(1);
        }
    }
    packets
}

/// Segments that follow each other but must not be merged, or are odd in themselves.
fn odd_segments(ip: &Ip) -> Vec<Packet> {
    let mut packets = Vec::new();
    let mut one = tcp(1200);
    for flags in [ACK, ACK | URG, ACK, 0, ACK, ACK | ECE, ACK | CWR, ACK, 4, ACK | FIN, 2, 0xff] {
        // A SYN with an MSS is clamped, which is documented: this one has none.
        one.flags = flags;
        packets.push(segment(ip, &one, 100));
        one.sequence = one.sequence.wrapping_add(100);
    }
    for bytes in [0, 1, 0, 1, 1] {
        packets.push(segment(ip, &Tcp { sequence: one.sequence, ..tcp(1200) }, bytes));
        one.sequence = one.sequence.wrapping_add(bytes as u32);
    }
    // Twice the same, a gap, and one that is to be summed only.
    for sequence in [9, 9, 400, 300] {
        packets.push(segment(ip, &Tcp { sequence, ..tcp(1201) }, 100));
    }
    let mut unsummed = tcp(1202).segment(333);
    ip.unfinish(6, &mut unsummed, 16);
    let left = Left::Sum { start: ip.length(), offset: 16 };
    packets.push(Packet { bytes: ip.packet(6, &unsummed), left });
    packets
}

/// Uncut trains.
fn trains(ip: &Ip) -> Vec<Packet> {
    let sizes = [(1200, 36_000), (1200, 1201), (64, 640), (1372, 30_000), (1, 20), (333, 9_000)];
    let trains = sizes.into_iter().zip(2000..);
    trains.map(|((size, bytes), port)| train(ip, port, size, bytes)).collect()
}

/// Whole datagrams of all sizes, some that could be merged, and the ports of tunnels.
fn datagrams(ip: &Ip) -> Vec<Packet> {
    let sizes = [0, 1, 2, 17, 18, 46, 47, 100, 999, 1371, 1372];
    let mut packets: Vec<Packet> = Vec::new();
    let mut ip = ip.clone();
    let mut push = |port: u16, size: usize| {
        packets.push(udp(&ip, port, &payload(size)));
        ip.number = ip.number.wrapping_add(1);
    };
    sizes.into_iter().for_each(|size| push(2100, size));
    (0..70).for_each(|_| push(2101, 512));
    [300, 300, 300, 200, 300, 300].into_iter().for_each(|size| push(2102, size));
    (0..6).for_each(|number| push(2103 + number % 2, 800));
    [4789, 8472, 6081].into_iter().for_each(|port| (0..4).for_each(|_| push(port, 700)));
    packets
}

/// Makes the sum at `sum` wrong in one of three ways, or leaves it right, by `number`.
fn spoil(packet: &mut [u8], number: u32, sum: usize) {
    match (number, packet) {
        (2 | 3, [.., last]) => *last ^= 0x40,
        (5, packet) => packet[sum] ^= 1,
        (7, packet) => packet[sum..sum + 2].fill(0),
        _ => {}
    }
}

/// Sums that are wrong on the way in and must be so on the way out, between right ones; and UDP without
/// a sum.
fn wrong_sums(ip: &Ip) -> Vec<Packet> {
    let mut packets = Vec::new();
    let mut one = tcp(1300);
    for number in 0..9 {
        let mut packet = segment(ip, &one, 600);
        spoil(&mut packet.bytes, number, ip.length() + 16);
        packets.push(packet);
        one.sequence = one.sequence.wrapping_add(600);
    }
    for number in 0..9 {
        let mut packet = udp(ip, 2200, &payload(600));
        spoil(&mut packet.bytes, number, ip.length() + 6);
        packets.push(packet);
    }
    // Lengths of UDP that do not fit.
    for length in [0u16, 7, 607, 609, 0xffff] {
        let mut packet = udp(ip, 2201, &payload(600));
        let at = ip.length() + 4;
        packet.bytes[at..at + 2].copy_from_slice(&length.to_be_bytes());
        packets.push(packet);
    }
    packets
}

/// Every ECN mark with several DSCPs.
fn marks(ip: &Ip) -> Vec<Packet> {
    let classes = (0..4).flat_map(|ecn| [0, 8 << 2, 46 << 2, 63 << 2].map(|dscp| dscp | ecn));
    let marked = classes.map(|class| Ip { class, ..ip.clone() });
    marked
        .flat_map(|ip| {
            let stream = super_packet(&ip, &tcp(1400 + u16::from(ip.class)), 1000, 5000);
            [udp(&ip, 2300, b"marked"), segment(&ip, &tcp(1400), 50), stream]
        })
        .collect()
}

/// Of those with too few nothing arrives.
fn hop_limits(ip: &Ip) -> Vec<Packet> {
    let limited = [0, 1, 2, 3, 4, 64, 128, 255].map(|hops| Ip { hops, ..ip.clone() });
    let both = |ip: &Ip| {
        [udp(ip, 2400, &[ip.hops]), super_packet(ip, &tcp(1500 + u16::from(ip.hops)), 1000, 3000)]
    };
    limited.iter().flat_map(both).collect()
}

/// Fragments of a datagram, in order and not, the first with ports.
fn fragments(ip: &Ip) -> Vec<Packet> {
    let whole_one = udp(ip, 2500, &payload(3000));
    let datagram = &whole_one.bytes[ip.length()..];
    let pieces = [(0, 1200, true), (1200, 2400, true), (2400, 3008, false)];
    let piece = |number: u16, (from, to, more): (usize, usize, bool)| {
        let bytes = &datagram[from..to];
        let ip = match ip.is_v6() {
            false => {
                let fragment = (from / 8) as u16 | if more { MORE } else { 0 };
                Ip { fragment, number, ..ip.clone() }
            }
            true => {
                let place = (from as u16 | u16::from(more)).to_be_bytes();
                let header = vec![0, 0, place[0], place[1], 0, 0, 0, number as u8];
                Ip { extensions: vec![(44, header)], ..ip.clone() }
            }
        };
        whole(&ip, 17, bytes)
    };
    let mut packets: Vec<Packet> = pieces.map(|one| piece(7, one)).into();
    packets.extend([pieces[2], pieces[0], pieces[1], pieces[0]].map(|one| piece(8, one)));
    packets
}

/// Protocols that nobody looks into, and ICMP with right and wrong sums.
fn protocols(ip: &Ip) -> Vec<Packet> {
    let icmp = if ip.is_v6() { 58 } else { 1 };
    let mut packets = Vec::new();
    for (kind, size) in
        [(8, 56), (0, 1392 - ip.length()), (128, 32), (129, 1000), (13, 12), (200, 0)]
    {
        let mut message = vec![kind, 0, 0, 0, 0x12, 0x34, 0, size as u8];
        message.extend(payload(size));
        let sums = if ip.is_v6() { ip.clone() } else { zero_pseudo(ip, message.len()) };
        sums.finish(icmp, &mut message, 2);
        packets.push(whole(ip, icmp, &message));
        message[2] ^= 0x10;
        packets.push(whole(ip, icmp, &message));
    }
    for protocol in [2, 33, 47, 50, 89, 103, 112, 132, 136, 253, 254, 255] {
        for size in [0, 3, 40, 1000] {
            packets.push(whole(ip, protocol, &payload(size)));
        }
    }
    packets
}

/// ICMPv4 has no pseudo-header: one whose sum is nothing.
fn zero_pseudo(ip: &Ip, length: usize) -> Ip {
    let cancel = !(length as u16 + 1);
    Ip {
        source: vec![0; 4],
        destination: [&[0; 2], &cancel.to_be_bytes()[..]].concat(),
        ..ip.clone()
    }
}

/// IPv4 options that routers leave alone, IPv6 extension headers, under packets of all kinds.
fn options(ip: &Ip) -> Vec<Packet> {
    let padding = |number: u8| (number, vec![0, 0, 1, 4, 0, 0, 0, 0]);
    let kinds: Vec<Ip> = match ip.is_v6() {
        // Nothing, a stream's name, and a record of a route that is full.
        false => [vec![1; 8], vec![0x88, 4, 1, 2], vec![7, 7, 8, 1, 2, 3, 4, 0]]
            .map(|options| Ip { options, ..ip.clone() })
            .into(),
        // Hop by hop, destination options, a route that is at its end, all of them, and one to come.
        true => {
            let segment: Vec<u8> = [&[0, 2, 2, 0, 0, 0, 0, 0], &ip.destination[..]].concat();
            let mut to_come = segment.clone();
            to_come[3] = 1;
            let last = to_come[8..].iter_mut().last();
            *last.expect("an address") = 0x77;
            let last = Some(to_come[8..].to_vec());
            let all = vec![padding(0), padding(60), (43, segment.clone()), padding(60)];
            let several = [vec![padding(0)], vec![padding(60)], vec![(43, segment)], all];
            let mut kinds: Vec<Ip> =
                several.map(|extensions| Ip { extensions, ..ip.clone() }).into();
            kinds.push(Ip { extensions: vec![(43, to_come)], last, ..ip.clone() });
            kinds
        }
    };
    let under = |(ip, number): (&Ip, u16)| {
        let size = 1300 - ip.length();
        [
            udp(ip, 2600 + number, &payload(500)),
            udp(ip, 2600 + number, &payload(500)),
            segment(ip, &tcp(1600 + number), size),
            super_packet(ip, &tcp(1700 + number), size, 20_000),
            train(ip, 2700 + number, size, 20_000),
            whole(ip, 253, &payload(100)),
        ]
    };
    kinds.iter().zip(0..).flat_map(under).collect()
}
