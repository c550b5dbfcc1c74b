//! The header before each frame of a TAP or TUN with IFF_VNET_HDR (virtio 1.2, section 5.1.6), in the
//! machine's byte order.

use carrick_gateway_core::{Cut, CutKind, Offload};

/// Its length in bytes.
pub(crate) const HEADER: usize = 10;

const NEEDS_CHECKSUM: u8 = 1;
const DATA_VALID: u8 = 2;
const NONE: u8 = 0;
const TCP4: u8 = 1;
const TCP6: u8 = 4;
const UDP: u8 = 5;
/// Set beside the kind when the first packet carries CWR; cutting knows that by itself.
const ECN: u8 = 0x80;

/// What `header` says of a frame of `length` bytes. Kinds that were not asked for are taken as whole;
/// what follows refuses them as malformed if they are not.
pub(crate) fn read(header: &[u8; HEADER], length: usize) -> Offload {
    let word = |at: usize| usize::from(u16::from_ne_bytes([header[at], header[at + 1]]));
    let (size, start, offset) = (word(4), word(6), word(8));
    let kind = match header[1] & !ECN {
        TCP4 => CutKind::Tcp4,
        TCP6 => CutKind::Tcp6,
        UDP => CutKind::Udp,
        _ if header[0] & NEEDS_CHECKSUM != 0 => return Offload::Checksum { start, offset },
        _ => return Offload::Whole,
    };
    Offload::Cut(Cut { kind, size, upper: start, payload: word(2).min(length) })
}

/// The header for a frame.
pub(crate) fn write(offload: Offload) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    let mut word = |at: usize, value: usize| {
        header[at..at + 2].copy_from_slice(&(value as u16).to_ne_bytes());
    };
    let (flags, kind) = match offload {
        Offload::Whole => (0, NONE),
        Offload::Checked => (DATA_VALID, NONE),
        Offload::Checksum { start, offset } => {
            word(6, start);
            word(8, offset);
            (NEEDS_CHECKSUM, NONE)
        }
        Offload::Cut(cut) => {
            let (kind, field) = match cut.kind {
                CutKind::Tcp4 => (TCP4, 16),
                CutKind::Tcp6 => (TCP6, 16),
                CutKind::Udp => (UDP, 6),
            };
            word(2, cut.payload);
            word(4, cut.size);
            word(6, cut.upper);
            word(8, field);
            (NEEDS_CHECKSUM, kind)
        }
    };
    (header[0], header[1]) = (flags, kind);
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        for kind in [CutKind::Tcp4, CutKind::Tcp6, CutKind::Udp] {
            let cut = Offload::Cut(Cut { kind, size: 1400, upper: 34, payload: 66 });
            assert_eq!(read(&write(cut), 9000), cut);
        }
        let checksum = Offload::Checksum { start: 34, offset: 16 };
        assert_eq!(read(&write(checksum), 100), checksum);
        assert_eq!(read(&write(Offload::Whole), 100), Offload::Whole);
    }

    #[test]
    fn the_mark_of_congestion_is_no_kind_and_unknown_kinds_are_whole() {
        let mut header =
            write(Offload::Cut(Cut { kind: CutKind::Tcp4, size: 1400, upper: 20, payload: 40 }));
        header[1] |= ECN;
        assert!(matches!(read(&header, 9000), Offload::Cut(Cut { kind: CutKind::Tcp4, .. })));
        let fragments = [0, 3, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(read(&fragments, 100), Offload::Whole);
    }
}
