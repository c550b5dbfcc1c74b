//! Cutting in the kernel's place, where it does not take a merged packet back.

use carrick_gateway_core::{Cut, DropReason, Framing, Offload, packet, segment::Segments};

use super::device::Device;
use super::worker::drop_of;

/// Length of an Ethernet header.
const ETHERNET: usize = 14;

/// Writes the packets that `frame` stands for, one by one.
pub(super) fn write_cut(
    device: &impl Device,
    frame: &mut [u8],
    cut: Cut,
) -> Result<(), DropReason> {
    let link = match device.framing() {
        Framing::Ethernet => ETHERNET,
        Framing::Ip => 0,
    };
    let malformed = DropReason::MalformedPacket;
    let mut before = [0; ETHERNET];
    let (ethernet, bytes) = frame.split_at_mut_checked(link).ok_or(malformed)?;
    before[..link].copy_from_slice(ethernet);
    let header = packet::parse(bytes).map_err(|_| malformed)?;
    let mut segments = Segments::new(bytes, &header, cut.kind, cut.size).map_err(|_| malformed)?;
    while let Some(packet) = segments.next_packet() {
        device.write([&before[..link], packet], Offload::Checked).map_err(|e| drop_of(&e))?;
    }
    Ok(())
}
