//! Cutting in the kernel's place, where it does not take a merged packet back.

use carrick_gateway_core::lane::ETHERNET;
use carrick_gateway_core::{Cut, DropReason, Framing, Lost, Offload, packet, segment::Segments};

use super::device::Device;
use super::worker::drop_of;

/// Writes the packets that `frame` stands for, one by one; one that fails stops none of the others.
pub(super) fn write_cut(device: &impl Device, frame: &mut [u8], cut: Cut) -> Result<(), Lost> {
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
    let mut lost: Option<Lost> = None;
    while let Some(packet) = segments.next_packet() {
        if let Err(error) = device.write([&before[..link], packet], Offload::Checked) {
            let packets = lost.map_or(1, |lost| lost.packets + 1);
            lost = Some(Lost { reason: drop_of(&error), packets });
        }
    }
    lost.map_or(Ok(()), Err)
}
