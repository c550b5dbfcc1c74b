//! From lane to lane: frames whose tunnel another lane has.
//!
//! The kernel puts a flow on a lane by its hash, and knows nothing of tunnels. Between gateways with as
//! many lanes each lane has a tunnel of its own; a plain WireGuard peer, or a gateway with fewer lanes,
//! is on some lanes only. What the others read for it goes through a socket of the lane that has it: one
//! copy more, bounded by the socket's buffer, in order within a flow.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use carrick_gateway_core::{DropReason, Offload};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, recvmsg, sendmsg, setsockopt, socketpair, sockopt,
};

use super::device::virtio;

/// Room for what a lane has not taken yet, in bytes.
const BUFFER: usize = 4 << 20;

/// One lane's end.
#[derive(Debug)]
pub(super) struct Handover {
    own: OwnedFd,
    /// Where each lane is given frames, by index.
    lanes: Arc<Vec<OwnedFd>>,
}

/// Ends for so many lanes.
pub(super) fn between(lanes: usize) -> std::io::Result<Vec<Handover>> {
    let (mut own, mut to) = (Vec::new(), Vec::new());
    for _ in 0..lanes {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let (sender, receiver) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
        // A smaller buffer than asked for only drops earlier.
        let _ = setsockopt(&sender, sockopt::SndBufForce, &BUFFER)
            .or_else(|_| setsockopt(&sender, sockopt::SndBuf, &BUFFER));
        own.push(receiver);
        to.push(sender);
    }
    let lanes = Arc::new(to);
    Ok(own.into_iter().map(|own| Handover { own, lanes: lanes.clone() }).collect())
}

impl Handover {
    /// Gives a frame to another lane.
    pub fn send(&self, lane: u32, frame: &[u8], offload: Offload) -> Result<(), DropReason> {
        let lane = self.lanes.get(lane as usize).ok_or(DropReason::NoTunnel)?;
        let header = virtio::write(offload);
        let parts = [IoSlice::new(&header), IoSlice::new(frame)];
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        sendmsg::<()>(lane.as_raw_fd(), &parts, &[], flags, None)
            .map(drop)
            .map_err(|_| DropReason::LaneFull)
    }

    /// Takes a frame that another lane gave.
    pub fn receive(&self, buffer: &mut [u8]) -> Option<(usize, Offload)> {
        let mut header = [0; virtio::HEADER];
        let mut parts = [IoSliceMut::new(&mut header), IoSliceMut::new(buffer)];
        let flags = MsgFlags::MSG_DONTWAIT;
        let length = recvmsg::<()>(self.own.as_raw_fd(), &mut parts, None, flags).ok()?.bytes;
        let frame = length.checked_sub(virtio::HEADER)?;
        Some((frame, virtio::read(&header, frame)))
    }
}

impl AsFd for Handover {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.own.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_go_where_they_are_sent_and_too_many_are_refused() {
        let ends = between(2).expect("two ends");
        let checksum = Offload::Checksum { start: 34, offset: 16 };
        ends[0].send(1, b"frame", checksum).expect("taken");
        let mut buffer = vec![0; 1 << 16];
        assert_eq!(ends[0].receive(&mut buffer), None);
        assert_eq!(ends[1].receive(&mut buffer), Some((5, checksum)));
        assert_eq!(buffer[..5], *b"frame");
        assert_eq!(ends[0].send(2, b"frame", checksum), Err(DropReason::NoTunnel));
        let frame = vec![7; 60_000];
        let taken = (0..10_000).take_while(|_| ends[0].send(1, &frame, checksum).is_ok()).count();
        assert!((1..10_000).contains(&taken), "bounded: {taken}");
        assert_eq!(ends[0].send(1, &frame, checksum), Err(DropReason::LaneFull));
    }
}
