//! Heartbeats: what two gateways say of each other's paths, several times a second.
//!
//! A heartbeat is the shortest packet that a WireGuard implementation takes, so that a tunnel at rest costs
//! little: 20 bytes that begin like an IPv4 header with a length of 0 words, which no packet has, and say their
//! own length. In the long form, for those who may not know that, it is an IPv4 packet of protocol 253 between
//! two fixed link-local addresses, which are among nobody's allowed prefixes; where its identification is 1, its
//! sender reads the short form. Then come, in network byte order:
//!
//! | bytes | what |
//! |---|---|
//! | 0 | version (4 bits), 1; kind (4 bits), 1 |
//! | 1 | bit 7: datagrams of the path echoed were missing of late; bit 6: the sender leaves; bits 5–3: the receiver's path that is echoed, 7 for none; bits 2–0: the sender's path |
//! | 2 | bit 7: the sender misses heartbeats and asks for some at once; bit 6: it gives them when it is asked so; bits 5–0: which of the receiver's paths are heard, a bit each |
//! | 3 | how much of what leaves by the path echoed is lost, as 255 times the root of the share |
//! | 4–5 | sequence number, one count for all paths of the tunnel |
//! | 6–7 | the newest sequence number that was heard by the path echoed |
//! | 8–9 | how long ago that was, in units of 20 µs; with bit 15, of 2 ms |
//! | 10–13 | how many datagrams left by the sender's path so far, this one not counted |
//! | 14–15 | the interval that the sender asks for, in ms |
//!
//! Other versions and kinds are ignored, so that later ones can be added: see [`super::word`].

use std::net::Ipv4Addr;
use std::time::Duration;

use super::message::Malformed;

/// The length of a heartbeat in the long form, in bytes.
pub const LENGTH: usize = HEADER + CONTENT;
/// The length of one in the short form, in bytes.
pub const SHORT_LENGTH: usize = SHORT_HEADER.len() + CONTENT;
/// How many paths a tunnel may have; they are numbered from 0.
pub const MOST_PATHS: usize = 6;

const HEADER: usize = 20;
pub(super) const CONTENT: usize = 16;
const SHORT_HEADER: [u8; 4] = [0x40, 0, 0, 20];
/// The identification in a long header of one who reads the short form.
const READS_SHORT: [u8; 2] = [0, 1];
/// The addresses: `cr` in ASCII, and the one after it.
const FROM: Ipv4Addr = Ipv4Addr::new(169, 254, 99, 114);
const TO: Ipv4Addr = Ipv4Addr::new(169, 254, 99, 115);
/// "Use for experimentation and testing" (RFC 3692).
const PROTOCOL: u8 = 253;
const KIND: u8 = 1 << 4 | 1;
const MISSING: u8 = 1 << 7;
const DRAINING: u8 = 1 << 6;
const NO_PATH: u8 = 7;
const ASKS: u8 = 1 << 7;
const ANSWERS: u8 = 1 << 6;
const HEARS: u8 = (1 << MOST_PATHS) - 1;
const _: () = assert!(HEARS & (ASKS | ANSWERS) == 0);
/// Units of times, in microseconds, and the bit that says which.
const FINE: u128 = 20;
const COARSE: u128 = 2000;
const IS_COARSE: u16 = 1 << 15;

/// A heartbeat.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Beat {
    /// The path that it takes, by its sender's number.
    pub path: u8,
    /// Its number among all that its sender sent in this tunnel.
    pub sequence: u16,
    /// The sender leaves: others are to be chosen.
    pub draining: bool,
    /// Which of the receiver's paths the sender hears, a bit each.
    pub hears: u8,
    /// The interval that the sender asks for.
    pub interval: Duration,
    /// How many datagrams left by this path before, modulo 2³².
    pub sent: u32,
    /// What the sender knows of one of the receiver's paths.
    pub echo: Option<Echo>,
    /// The sender reads the short form.
    pub reads_short: bool,
    /// The sender misses heartbeats: some are to be sent to it at once.
    pub asks: bool,
    /// The sender sends some at once when it is asked so.
    pub answers: bool,
}

/// What the other side knows of a path of ours.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Echo {
    /// Which.
    pub path: u8,
    /// The newest heartbeat that came by it.
    pub sequence: u16,
    /// How long ago that was.
    pub held: Duration,
    /// How much of what leaves by it is lost, from 0 to 1.
    pub loss: f64,
    /// Something was lost between its two newest heartbeats.
    pub missing: bool,
}

/// Whether `packet` is a heartbeat: then it is for the gateway itself and goes no further.
pub fn is_beat(packet: &[u8]) -> bool {
    is_short(packet)
        || packet.len() >= HEADER
            && packet[0] == 0x45
            && packet[9] == PROTOCOL
            && packet[12..16] == FROM.octets()
            && packet[16..20] == TO.octets()
}

fn is_short(packet: &[u8]) -> bool {
    packet.len() == SHORT_LENGTH && packet.starts_with(&SHORT_HEADER)
}

/// Reads a heartbeat; `None` if it is of a version or kind that we do not know.
pub fn parse(packet: &[u8]) -> Result<Option<Beat>, Malformed> {
    if !is_beat(packet) {
        return Err(Malformed);
    }
    let is_short = is_short(packet);
    let content = &packet[if is_short { SHORT_HEADER.len() } else { HEADER }..];
    if content.first().is_some_and(|kind| *kind != KIND) {
        return Ok(None);
    }
    let content: &[u8; CONTENT] = content.try_into().map_err(|_| Malformed)?;
    let short = |at: usize| u16::from_be_bytes([content[at], content[at + 1]]);
    let (path, echoed) = (content[1] & 7, content[1] >> 3 & 7);
    if usize::from(path) >= MOST_PATHS || usize::from(echoed) >= MOST_PATHS && echoed != NO_PATH {
        return Err(Malformed);
    }
    let echo = (echoed != NO_PATH).then(|| Echo {
        path: echoed,
        sequence: short(6),
        held: time(short(8)),
        loss: (f64::from(content[3]) / 255.0).powi(2),
        missing: content[1] & MISSING != 0,
    });
    Ok(Some(Beat {
        path,
        sequence: short(4),
        draining: content[1] & DRAINING != 0,
        hears: content[2] & HEARS,
        interval: Duration::from_millis(short(14).into()),
        sent: u32::from_be_bytes(std::array::from_fn(|i| content[10 + i])),
        echo,
        reads_short: is_short || packet[4..6] == READS_SHORT,
        asks: content[2] & ASKS != 0,
        answers: content[2] & ANSWERS != 0,
    }))
}

/// Writes a heartbeat in the long form. What it says must be within the bounds above.
pub fn write(beat: &Beat) -> [u8; LENGTH] {
    long(&content(beat), beat.reads_short)
}

/// Writes a heartbeat in the short form, to one who reads it.
pub fn write_short(beat: &Beat) -> [u8; SHORT_LENGTH] {
    short(&content(beat))
}

/// What is behind the header, if it is as long as it should be.
pub(super) fn content_of(packet: &[u8]) -> Option<&[u8; CONTENT]> {
    let header = if is_short(packet) { SHORT_HEADER.len() } else { HEADER };
    packet.get(header..).filter(|_| is_beat(packet))?.try_into().ok()
}

/// Puts the long header before a content.
pub(super) fn long(content: &[u8; CONTENT], reads_short: bool) -> [u8; LENGTH] {
    let mut packet = [0; LENGTH];
    packet[..HEADER].copy_from_slice(&header(reads_short));
    packet[HEADER..].copy_from_slice(content);
    packet
}

/// Puts the short header before a content.
pub(super) fn short(content: &[u8; CONTENT]) -> [u8; SHORT_LENGTH] {
    let mut packet = [0; SHORT_LENGTH];
    let (header, rest) = packet.split_at_mut(SHORT_HEADER.len());
    header.copy_from_slice(&SHORT_HEADER);
    rest.copy_from_slice(content);
    packet
}

fn content(beat: &Beat) -> [u8; CONTENT] {
    let mut content = [0; CONTENT];
    content[0] = KIND;
    content[1] = beat.path & 7 | beat.echo.map_or(NO_PATH, |echo| echo.path & 7) << 3;
    content[2] = beat.hears & HEARS;
    if beat.asks {
        content[2] |= ASKS;
    }
    if beat.answers {
        content[2] |= ANSWERS;
    }
    content[4..6].copy_from_slice(&beat.sequence.to_be_bytes());
    if beat.draining {
        content[1] |= DRAINING;
    }
    if let Some(echo) = beat.echo {
        if echo.missing {
            content[1] |= MISSING;
        }
        content[3] = (echo.loss.clamp(0.0, 1.0).sqrt() * 255.0).round() as u8;
        content[6..8].copy_from_slice(&echo.sequence.to_be_bytes());
        content[8..10].copy_from_slice(&units(echo.held).to_be_bytes());
    }
    content[10..14].copy_from_slice(&beat.sent.to_be_bytes());
    let interval = u16::try_from(beat.interval.as_millis()).unwrap_or(u16::MAX);
    content[14..16].copy_from_slice(&interval.to_be_bytes());
    content
}

/// The IPv4 header, one hop to go and its checksum right.
fn header(reads_short: bool) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..10].copy_from_slice(&[0x45, 0, 0, LENGTH as u8, 0, 0, 0x40, 0, 1, PROTOCOL]);
    if reads_short {
        header[4..6].copy_from_slice(&READS_SHORT);
    }
    header[12..16].copy_from_slice(&FROM.octets());
    header[16..20].copy_from_slice(&TO.octets());
    let sum = crate::checksum::finish(crate::checksum::add(0, &header));
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    header
}

fn units(time: Duration) -> u16 {
    let (micros, most) = (time.as_micros(), u128::from(IS_COARSE - 1));
    if micros / FINE <= most {
        (micros / FINE) as u16
    } else {
        (micros / COARSE).min(most) as u16 | IS_COARSE
    }
}

fn time(units: u16) -> Duration {
    let unit = if units & IS_COARSE == 0 { FINE } else { COARSE };
    Duration::from_micros(u64::from(units & !IS_COARSE) * unit as u64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::packet;

    const ECHO: Echo = Echo {
        path: 3,
        sequence: 0x0102,
        held: Duration::from_micros(20),
        loss: 0.0,
        missing: true,
    };
    const BEAT: Beat = Beat {
        path: 5,
        sequence: 0xfffe,
        draining: true,
        hears: 0b10_0001,
        interval: Duration::from_millis(100),
        sent: u32::MAX - 1,
        echo: Some(ECHO),
        reads_short: true,
        asks: true,
        answers: true,
    };
    /// What the release before asking knew.
    const OLDER: Beat = Beat { asks: false, answers: false, ..BEAT };

    #[test]
    fn what_is_written_is_read_again_and_is_a_packet_for_nobody_else() {
        let another = Beat { echo: None, draining: false, reads_short: false, ..OLDER };
        for beat in [BEAT, another] {
            let bytes = write(&beat);
            assert!(is_beat(&bytes));
            assert_eq!(parse(&bytes), Ok(Some(beat)));
            let header = packet::parse(&bytes).expect("an IPv4 packet");
            assert_eq!((header.length, header.hop_limit), (LENGTH, 1));
            assert_eq!(crate::checksum::finish(crate::checksum::add(0, &bytes[..HEADER])), 0);
        }
    }

    #[test]
    fn the_short_form_says_the_same_and_is_no_packet() {
        for beat in [BEAT, Beat { echo: None, draining: false, ..OLDER }] {
            let bytes = write_short(&beat);
            assert!(is_beat(&bytes) && bytes.len() == 20);
            assert_eq!(parse(&bytes), Ok(Some(beat)));
            assert!(packet::parse(&bytes).is_err(), "none that a device could give");
            assert_eq!(parse(&bytes[..19]), Err(Malformed));
            let mut other = bytes;
            other[4] = 2 << 4 | 1;
            assert_eq!(parse(&other), Ok(None));
        }
    }

    /// What the release before the short form wrote and read: neither side may change it.
    #[test]
    fn an_older_release_is_understood_and_understands() {
        let head = [0x45, 0, 0, 36, 0, 0, 0x40, 0, 1, 253, 0x5d, 0xfb];
        let said = [
            &head[..],
            &[169, 254, 99, 114, 169, 254, 99, 115, 0x11, 0xdd, 0x21, 0, 0xff, 0xfe, 1, 2, 0, 1],
            &[0xff, 0xff, 0xff, 0xfe, 0, 100],
        ]
        .concat();
        let beat = Beat { reads_short: false, ..OLDER };
        assert_eq!(parse(&said), Ok(Some(beat)));
        assert_eq!(write(&beat)[..], said);
        // It looks at neither identification nor checksum of what we write, and at none of the upper bits of which
        // paths are heard.
        let mut ours = write(&BEAT);
        assert_eq!(ours[HEADER + 2], said[HEADER + 2] | 0xc0);
        ours[HEADER + 2] &= 0x3f;
        ours[4..6].fill(0);
        ours[10..12].copy_from_slice(&said[10..12]);
        assert_eq!(ours[..], said);
    }

    #[test]
    fn other_versions_and_kinds_are_ignored_and_lies_refused() {
        let with = |at: usize, value: u8| {
            let mut bytes = write(&BEAT);
            bytes[at] = value;
            parse(&bytes)
        };
        assert_eq!((with(HEADER, 2 << 4 | 1), with(HEADER, 1 << 4 | 2)), (Ok(None), Ok(None)));
        assert_eq!(with(HEADER + 1, 6), Err(Malformed), "no such path");
        assert_eq!(with(HEADER + 1, 6 << 3), Err(Malformed), "no such path echoed");
        assert_eq!(with(19, 0), Err(Malformed), "to somebody else");
        assert_eq!(parse(&write(&BEAT)[..LENGTH - 1]), Err(Malformed));
    }

    #[test]
    fn losses_keep_their_size() {
        for loss in [0.0, 0.001, 0.02, 0.3, 1.0] {
            let beat = Beat { echo: Some(Echo { loss, ..ECHO }), ..BEAT };
            let read = parse(&write(&beat)).expect("good").expect("ours").echo.expect("an echo");
            assert!((read.loss - loss).abs() <= loss / 20.0, "{loss} became {}", read.loss);
        }
    }

    proptest! {
        #[test]
        fn times_keep_their_size(micros in 0u64..60_000_000) {
            let held = Duration::from_micros(micros);
            let off = held.abs_diff(time(units(held)));
            prop_assert!(off < Duration::from_micros(20).max(held / 300), "{held:?}");
        }

        #[test]
        fn any_bytes_are_read_or_refused(
            content in proptest::collection::vec(any::<u8>(), 0..30), ours: bool,
        ) {
            let mut bytes = write(&BEAT)[..HEADER].to_vec();
            bytes.extend(&content);
            let short = [&SHORT_HEADER[..], &content].concat();
            prop_assert!(parse(&short).is_err() || short.len() == SHORT_LENGTH);
            if let (Some(kind), true) = (bytes.get_mut(HEADER), ours) {
                *kind = KIND;
            }
            let is_kind = content.first().is_some_and(|_| bytes[HEADER] == KIND);
            match parse(&bytes) {
                Ok(Some(_)) => prop_assert!(is_kind && content.len() == LENGTH - HEADER),
                Ok(None) => prop_assert!(!is_kind),
                Err(Malformed) => prop_assert!(is_kind || content.is_empty()),
            }
            prop_assert_eq!(parse(&content), Err(Malformed));
        }
    }
}
