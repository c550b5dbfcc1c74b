//! Packets of all kinds, made slowly and plainly.

/// What is left to do with a packet. Offsets count from its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// Nothing.
    Nothing,
    /// The checksum.
    Sum { start: usize, offset: usize },
    /// Cutting, and the checksum. `kind` and `size` are the virtio header's.
    Cut { kind: u8, size: usize, headers: usize, start: usize, offset: usize },
}

/// An IP packet.
#[derive(Debug, Clone)]
pub struct Packet {
    pub bytes: Vec<u8>,
    pub left: Left,
}

/// Fields of an IP header, with what stands behind it before the upper one.
#[derive(Debug, Clone)]
pub struct Ip {
    pub source: Vec<u8>,
    pub destination: Vec<u8>,
    /// TOS or traffic class.
    pub class: u8,
    /// TTL or hop limit.
    pub hops: u8,
    /// IPv4's identification.
    pub number: u16,
    /// IPv4's flags and fragment offset; DF is 0x4000.
    pub fragment: u16,
    /// IPv4's options, a multiple of four bytes.
    pub options: Vec<u8>,
    /// IPv6's extension headers: each one's number, and its bytes, of which the first is filled in.
    pub extensions: Vec<(u8, Vec<u8>)>,
    /// What the pseudo-header says in place of the destination.
    pub last: Option<Vec<u8>>,
}

impl Ip {
    pub fn is_v6(&self) -> bool {
        self.source.len() == 16
    }

    /// Bytes before the upper header.
    pub fn length(&self) -> usize {
        match self.is_v6() {
            true => 40 + self.extensions.iter().map(|(_, bytes)| bytes.len()).sum::<usize>(),
            false => 20 + self.options.len(),
        }
    }

    /// With this upper part.
    pub fn packet(&self, protocol: u8, upper: &[u8]) -> Vec<u8> {
        if self.is_v6() { self.v6(protocol, upper) } else { self.v4(protocol, upper) }
    }

    fn v4(&self, protocol: u8, upper: &[u8]) -> Vec<u8> {
        let mut ip = vec![0x40 | (self.length() / 4) as u8, self.class];
        ip.extend(((self.length() + upper.len()) as u16).to_be_bytes());
        ip.extend(self.number.to_be_bytes());
        ip.extend(self.fragment.to_be_bytes());
        ip.extend([self.hops, protocol, 0, 0]);
        ip.extend(self.source.iter().chain(&self.destination).chain(&self.options));
        let sum = !fold(sum(&ip));
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
        [&ip, upper].concat()
    }

    fn v6(&self, protocol: u8, upper: &[u8]) -> Vec<u8> {
        let mut ip = vec![0x60 | self.class >> 4, self.class << 4 | 5, 0x12, 0x34];
        ip.extend(((self.length() - 40 + upper.len()) as u16).to_be_bytes());
        ip.extend([self.extensions.first().map_or(protocol, |first| first.0), self.hops]);
        ip.extend(self.source.iter().chain(&self.destination));
        for (index, (_, bytes)) in self.extensions.iter().enumerate() {
            ip.push(self.extensions.get(index + 1).map_or(protocol, |next| next.0));
            ip.extend(&bytes[1..]);
        }
        [&ip, upper].concat()
    }

    /// The pseudo-header's sum.
    fn pseudo(&self, protocol: u8, length: usize) -> u64 {
        let destination = self.last.as_ref().unwrap_or(&self.destination);
        sum(&self.source) + sum(destination) + u64::from(protocol) + length as u64
    }

    /// Writes the right checksum into the upper part.
    pub fn finish(&self, protocol: u8, upper: &mut [u8], at: usize) {
        upper[at..at + 2].fill(0);
        let right = !fold(self.pseudo(protocol, upper.len()) + sum(upper));
        let right = if protocol == 17 && right == 0 { 0xffff } else { right };
        upper[at..at + 2].copy_from_slice(&right.to_be_bytes());
    }

    /// Writes only the pseudo-header's sum, for somebody else to finish.
    pub fn unfinish(&self, protocol: u8, upper: &mut [u8], at: usize) {
        let pseudo = fold(self.pseudo(protocol, upper.len()));
        upper[at..at + 2].copy_from_slice(&pseudo.to_be_bytes());
    }
}

fn sum(bytes: &[u8]) -> u64 {
    let word = |pair: &[u8]| u64::from(pair[0]) << 8 | pair.get(1).map_or(0, |b| u64::from(*b));
    bytes.chunks(2).map(word).sum()
}

fn fold(mut sum: u64) -> u16 {
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// Bytes that differ from place to place.
pub fn payload(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i * 31 % 253) as u8 ^ (i >> 8) as u8).collect()
}

/// Fields of a TCP header.
#[derive(Debug, Clone)]
pub struct Tcp {
    pub port: u16,
    pub sequence: u32,
    pub flags: u8,
    /// A multiple of four bytes.
    pub options: Vec<u8>,
}

impl Tcp {
    /// The header and so many bytes, the checksum left out.
    pub fn segment(&self, bytes: usize) -> Vec<u8> {
        let mut tcp = [self.port.to_be_bytes(), 443u16.to_be_bytes()].concat();
        tcp.extend(self.sequence.to_be_bytes());
        tcp.extend(77u32.to_be_bytes());
        tcp.extend([((20 + self.options.len()) * 4) as u8, self.flags, 1, 0, 0, 0, 0, 0]);
        tcp.extend(&self.options);
        tcp.extend(payload(bytes));
        tcp
    }
}

/// A whole datagram from this port.
pub fn udp(ip: &Ip, port: u16, bytes: &[u8]) -> Packet {
    let mut datagram = [port.to_be_bytes(), 53u16.to_be_bytes()].concat();
    datagram.extend(((8 + bytes.len()) as u16).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(bytes);
    ip.finish(17, &mut datagram, 6);
    Packet { bytes: ip.packet(17, &datagram), left: Left::Nothing }
}

/// What all packets of a flow share: addresses, protocol, and ports where they are.
pub fn flow(packet: &[u8]) -> Vec<u8> {
    let ports = |at: usize| packet.get(at..at + 4).unwrap_or_default();
    match packet[0] >> 4 {
        4 if packet[0] == 0x45 && packet[6] & 0x3f == 0 && packet[7] == 0 => {
            [&packet[9..10], &packet[12..20], ports(20)].concat()
        }
        4 => [&packet[9..10], &packet[12..20]].concat(),
        _ => [&packet[6..7], &packet[8..40], ports(40)].concat(),
    }
}
