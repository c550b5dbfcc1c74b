//! "Packet too big" answers: the one thing that the emulator says in its own voice.
//!
//! They come from the address that the packet was sent to. The emulator has none of its own,
//! and this one passes every reverse-path check of the sender's site.

/// Longest answer in bytes: the IPv6 minimum MTU.
pub const MAX_LEN: usize = 1280;
/// RFC 1812 4.3.2.3: an IPv4 error stays within 576 bytes.
const MAX_V4: usize = 576;

/// Writes the answer to `packet` for a link of `mtu` bytes, and says how long it is; none for
/// IPv4 without DF and for what must not be answered (ICMP errors, later fragments).
pub fn too_big(packet: &[u8], mtu: u32, out: &mut [u8; MAX_LEN]) -> Option<usize> {
    match packet.first()? >> 4 {
        4 => v4(packet, mtu, out),
        6 => v6(packet, mtu, out),
        _ => None,
    }
}

fn v4(packet: &[u8], mtu: u32, out: &mut [u8; MAX_LEN]) -> Option<usize> {
    let header = usize::from(packet[0] & 15) * 4;
    let flags = u16::from_be_bytes([*packet.get(6)?, *packet.get(7)?]);
    let (df, offset) = (flags & 0x4000 != 0, flags & 0x1fff);
    let kind = *packet.get(header)?;
    let error = packet[9] == 1 && !matches!(kind, 0 | 8);
    if header < 20 || !df || offset != 0 || error {
        return None;
    }
    let quoted = packet.len().min(MAX_V4 - 28);
    let len = 28 + quoted;
    out[..28].fill(0);
    out[0] = 0x45;
    out[2..4].copy_from_slice(&(len as u16).to_be_bytes());
    out[8] = 64;
    out[9] = 1;
    out[12..16].copy_from_slice(&packet[16..20]);
    out[16..20].copy_from_slice(&packet[12..16]);
    let sum = checksum(0, &out[..20]);
    out[10..12].copy_from_slice(&sum.to_be_bytes());
    (out[20], out[21]) = (3, 4);
    out[26..28].copy_from_slice(&(mtu as u16).to_be_bytes());
    out[28..len].copy_from_slice(&packet[..quoted]);
    let sum = checksum(0, &out[20..len]);
    out[22..24].copy_from_slice(&sum.to_be_bytes());
    Some(len)
}

fn v6(packet: &[u8], mtu: u32, out: &mut [u8; MAX_LEN]) -> Option<usize> {
    let error = *packet.get(6)? == 58 && *packet.get(40)? < 128;
    if packet.len() < 40 || error {
        return None;
    }
    let quoted = packet.len().min(MAX_LEN - 48);
    let len = 48 + quoted;
    let payload = (len - 40) as u16;
    out[..48].fill(0);
    out[0] = 0x60;
    out[4..6].copy_from_slice(&payload.to_be_bytes());
    (out[6], out[7]) = (58, 64);
    out[8..24].copy_from_slice(&packet[24..40]);
    out[24..40].copy_from_slice(&packet[8..24]);
    out[40] = 2;
    // A link below the IPv6 minimum would make the sender fragment to 1280 all the same.
    out[44..48].copy_from_slice(&mtu.to_be_bytes());
    out[48..len].copy_from_slice(&packet[..quoted]);
    let pseudo = sum_words(u32::from(payload) + 58, &out[8..40]);
    let sum = checksum(pseudo, &out[40..len]);
    out[42..44].copy_from_slice(&sum.to_be_bytes());
    Some(len)
}

fn sum_words(start: u32, bytes: &[u8]) -> u32 {
    bytes.chunks(2).fold(start, |sum, pair| {
        sum + (u32::from(pair[0]) << 8) + u32::from(pair.get(1).copied().unwrap_or(0))
    })
}

fn checksum(start: u32, bytes: &[u8]) -> u16 {
    let mut sum = sum_words(start, bytes);
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4_packet(df: bool) -> Vec<u8> {
        let mut packet = vec![0u8; 1400];
        packet[0] = 0x45;
        packet[6] = if df { 0x40 } else { 0 };
        packet[9] = 17;
        packet[12..20].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
        packet
    }

    #[test]
    fn v4_is_answered_with_df_only() {
        let mut out = [0; MAX_LEN];
        let len = too_big(&v4_packet(true), 1280, &mut out).unwrap();
        assert_eq!(len, MAX_V4);
        assert_eq!(&out[12..20], &[10, 0, 0, 2, 10, 0, 0, 1]);
        assert_eq!(u16::from_be_bytes([out[26], out[27]]), 1280);
        // A right checksum makes the whole sum to zero.
        assert_eq!(checksum(0, &out[..20]), 0);
        assert_eq!(checksum(0, &out[20..len]), 0);
        assert_eq!(too_big(&v4_packet(false), 1280, &mut out), None);
    }

    #[test]
    fn errors_and_stumps_are_not_answered() {
        let mut out = [0; MAX_LEN];
        let mut error = v4_packet(true);
        (error[9], error[20]) = (1, 3);
        assert_eq!(too_big(&error, 1280, &mut out), None);
        for len in 0..40 {
            assert_eq!(too_big(&[0x60; 40][..len], 1280, &mut out), None);
        }
        for len in 0..20 {
            assert_eq!(too_big(&v4_packet(true)[..len], 1280, &mut out), None);
        }
    }
}
