//! A slow and plain way to make, cut and check packets, which shares nothing with the fast one.

use carrick_gateway_core::{CutKind, Offload};

use super::{Written, ip_packet};

/// One end of a TCP connection.
pub struct Flow {
    source: String,
    destination: String,
    port: u16,
    pub sequence: u32,
    identification: u16,
    pub ecn: u8,
}

/// What one segment is like.
pub struct Segment {
    pub payload: usize,
    pub flags: u8,
    /// Bytes of options, a multiple of four.
    pub options: usize,
}

impl Segment {
    pub fn of(payload: usize) -> Self {
        Self { payload, flags: 0x10, options: 0 }
    }
}

impl Flow {
    pub fn tcp(source: &str, destination: &str, port: u16) -> Self {
        let (source, destination) = (source.to_owned(), destination.to_owned());
        let sequence = u32::MAX - 3000;
        Self { source, destination, port, sequence, identification: 7, ecn: 0 }
    }

    /// Its next segment, whole.
    pub fn packet(&mut self, segment: &Segment) -> Vec<u8> {
        let mut tcp = Vec::new();
        tcp.extend(self.port.to_be_bytes());
        tcp.extend(443u16.to_be_bytes());
        tcp.extend(self.sequence.to_be_bytes());
        tcp.extend(99u32.to_be_bytes());
        tcp.push((((20 + segment.options) / 4) << 4) as u8);
        tcp.push(segment.flags);
        tcp.extend([1, 0, 0, 0, 0, 0]);
        tcp.extend(std::iter::repeat_n(1, segment.options));
        let start = self.sequence;
        tcp.extend((0..segment.payload).map(|i| (start.wrapping_add(i as u32) % 251) as u8));
        self.sequence = self.sequence.wrapping_add(segment.payload as u32);
        let mut packet = ip_packet(&self.source, &self.destination, 6, &tcp);
        if packet[0] >> 4 == 4 {
            packet[4..6].copy_from_slice(&self.identification.to_be_bytes());
            packet[1] |= self.ecn;
            self.identification = self.identification.wrapping_add(1);
        } else {
            packet[1] |= self.ecn << 4;
        }
        finish(&mut packet);
        packet
    }

    /// So many bytes as the kernel hands them over: not cut, the checksum not finished.
    pub fn stream(&mut self, size: usize, bytes: usize) -> Written {
        let mut packet = self.packet(&Segment { flags: 0x18, ..Segment::of(bytes) });
        self.identification = self.identification.wrapping_add((bytes.div_ceil(size) - 1) as u16);
        let upper = upper(&packet);
        let kind = if upper == 20 { CutKind::Tcp4 } else { CutKind::Tcp6 };
        unfinish(&mut packet);
        uncut(packet, kind, size, upper, upper + 20)
    }
}

/// A train of UDP datagrams, not cut.
pub fn udp_train(source: &str, destination: &str, size: usize, bytes: usize) -> Written {
    let mut udp = vec![0x9c, 0x40, 0, 53, 0, 0, 0, 0];
    udp[4..6].copy_from_slice(&((8 + bytes) as u16).to_be_bytes());
    udp.extend((0..bytes).map(|i| (i % 253) as u8));
    let mut packet = ip_packet(source, destination, 17, &udp);
    let upper = upper(&packet);
    finish(&mut packet);
    unfinish(&mut packet);
    uncut(packet, CutKind::Udp, size, upper, upper + 8)
}

fn uncut(packet: Vec<u8>, kind: CutKind, size: usize, upper: usize, payload: usize) -> Written {
    (packet, Offload::Cut(carrick_gateway_core::Cut { kind, size, upper, payload }))
}

fn upper(packet: &[u8]) -> usize {
    if packet[0] >> 4 == 4 { 20 } else { 40 }
}

/// Where the upper checksum is, in a packet without IP options or extension headers.
fn field(packet: &[u8]) -> usize {
    let protocol = if packet[0] >> 4 == 4 { packet[9] } else { packet[6] };
    upper(packet) + if protocol == 6 { 16 } else { 6 }
}

/// The sum over pseudo-header and upper layer, word by word.
fn upper_sum(packet: &[u8]) -> u64 {
    let (addresses, protocol) = match packet[0] >> 4 {
        4 => (&packet[12..20], packet[9]),
        _ => (&packet[8..40], packet[6]),
    };
    let upper = &packet[upper(packet)..];
    let word = |pair: &[u8]| u64::from(pair[0]) << 8 | pair.get(1).map_or(0, |b| u64::from(*b));
    let sum = |bytes: &[u8]| bytes.chunks(2).map(word).sum::<u64>();
    sum(addresses) + u64::from(protocol) + upper.len() as u64 + sum(upper)
}

fn fold(mut sum: u64) -> u16 {
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// Writes right lengths and checksums.
fn finish(packet: &mut [u8]) {
    let length = packet.len();
    if packet[0] >> 4 == 4 {
        packet[2..4].copy_from_slice(&(length as u16).to_be_bytes());
        packet[10..12].fill(0);
        let sum: u64 = packet[..20].chunks(2).map(|w| u64::from(w[0]) << 8 | u64::from(w[1])).sum();
        packet[10..12].copy_from_slice(&(!fold(sum)).to_be_bytes());
    } else {
        packet[4..6].copy_from_slice(&((length - 40) as u16).to_be_bytes());
    }
    let field = field(packet);
    packet[field..field + 2].fill(0);
    let sum = match !fold(upper_sum(packet)) {
        0 if field % 20 == 6 => 0xffff,
        sum => sum,
    };
    packet[field..field + 2].copy_from_slice(&sum.to_be_bytes());
}

/// Leaves the upper checksum to somebody else: only the pseudo-header's sum stays.
pub fn unfinish(packet: &mut [u8]) {
    let (field, at) = (field(packet), upper(packet));
    packet[field..field + 2].fill(0);
    let mut pseudo = packet.to_vec();
    pseudo[at..].fill(0);
    let sum = fold(upper_sum(&pseudo));
    packet[field..field + 2].copy_from_slice(&sum.to_be_bytes());
}

/// Whether the upper checksum is right.
pub fn is_right(packet: &[u8]) -> bool {
    fold(upper_sum(packet)) == 0xffff
}

/// The packets that a network card makes of it.
pub fn cut(packet: &[u8], offload: Offload) -> Vec<Vec<u8>> {
    let Offload::Cut(cut) = offload else { return vec![packet.to_vec()] };
    let upper = upper(packet);
    let payload = if cut.kind == CutKind::Udp {
        upper + 8
    } else {
        upper + usize::from(packet[upper + 12] >> 4) * 4
    };
    let (headers, bytes) = packet.split_at(payload);
    let pieces: Vec<&[u8]> = bytes.chunks(cut.size).collect();
    let last = pieces.len() - 1;
    let make = |(index, piece): (usize, &&[u8])| {
        let mut packet = [headers, piece].concat();
        if upper == 20 {
            let first = u16::from_be_bytes([packet[4], packet[5]]);
            packet[4..6].copy_from_slice(&first.wrapping_add(index as u16).to_be_bytes());
        }
        if cut.kind == CutKind::Udp {
            packet[upper + 4..upper + 6].copy_from_slice(&((8 + piece.len()) as u16).to_be_bytes());
        } else {
            let first: [u8; 4] = std::array::from_fn(|i| packet[upper + 4 + i]);
            let sequence = u32::from_be_bytes(first).wrapping_add((index * cut.size) as u32);
            packet[upper + 4..upper + 8].copy_from_slice(&sequence.to_be_bytes());
            packet[upper + 13] &= if index == last { 0xff } else { !0x09 };
            packet[upper + 13] &= if index == 0 { 0xff } else { !0x80 };
        }
        finish(&mut packet);
        packet
    };
    pieces.iter().enumerate().map(make).collect()
}
