//! A packet socket on a device: sends frames with what is left to do with them, and sees all that come.
#![expect(unsafe_code, reason = "packet sockets and ethtool have no safe wrapper here")]

use std::io::{ErrorKind, Read as _, Write as _};
use std::mem::{size_of, zeroed};
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use super::flows::{Ends, MARKER};
use super::packets::{Left, Packet, udp};

/// In front of each frame, both ways: a virtio network header.
const HEADER: usize = 10;
const ETHERNET: usize = 14;
const NEEDS_CSUM: u8 = 1;
/// ethtool's commands that set checksums on sending, TCP segmentation, and any segmentation
/// (linux/ethtool.h).
const OFFLOADS: [u32; 3] = [0x17, 0x1f, 0x24];
/// For a marker to arrive.
const PATIENCE: Duration = Duration::from_secs(2);

/// The device's packets.
pub struct Wire {
    socket: Socket,
}

impl Wire {
    /// Opens the device of this name in the thread's namespace.
    pub fn open(device: &str) -> Self {
        let all = (libc::ETH_P_ALL as u16).to_be();
        let kind = Some(Protocol::from(i32::from(all)));
        let socket = Socket::new(Domain::PACKET, Type::RAW, kind).expect("a packet socket");
        let index = nix::net::if_::if_nametoindex(device).expect("the device");
        // SAFETY: sockaddr_ll is plain data, for which all zeros is a valid value.
        let mut address: libc::sockaddr_ll = unsafe { zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = all;
        address.sll_ifindex = index as i32;
        let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: the address outlives the call and is as long as is said.
        let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
        assert_eq!(bound, 0, "binding: {}", std::io::Error::last_os_error());
        let on: libc::c_int = 1;
        let length = size_of::<libc::c_int>() as libc::socklen_t;
        // SAFETY: the value outlives the call and is as long as is said.
        let set = unsafe {
            let (level, name) = (libc::SOL_PACKET, libc::PACKET_VNET_HDR);
            libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const on).cast(), length)
        };
        assert_eq!(set, 0, "virtio headers: {}", std::io::Error::last_os_error());
        socket.set_recv_buffer_size(32 << 20).expect("a buffer");
        socket.set_read_timeout(Some(Duration::from_millis(20))).expect("a timeout");
        Self { socket }
    }

    /// Sends an IP packet to the router.
    pub fn send(&self, packet: &Packet) {
        let mut frame = vec![0; HEADER];
        let word = |frame: &mut Vec<u8>, at: usize, value: usize| {
            frame[at..at + 2].copy_from_slice(&(value as u16).to_ne_bytes());
        };
        if let Left::Sum { start, offset } | Left::Cut { start, offset, .. } = packet.left {
            frame[0] = NEEDS_CSUM;
            word(&mut frame, 6, ETHERNET + start);
            word(&mut frame, 8, offset);
        }
        if let Left::Cut { kind, size, headers, .. } = packet.left {
            frame[1] = kind;
            word(&mut frame, 2, ETHERNET + headers);
            word(&mut frame, 4, size);
        }
        frame.extend([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]);
        frame.extend(if packet.bytes[0] >> 4 == 4 { [8, 0] } else { [0x86, 0xdd] });
        frame.extend(&packet.bytes);
        match (&self.socket).write(&frame) {
            Ok(length) => assert_eq!(length, frame.len()),
            // Kernels before 6.2 know no UDP trains; then neither way gets one.
            Err(error) => assert_eq!(error.kind(), ErrorKind::InvalidInput, "sending: {error}"),
        }
    }

    /// Sends a numbered marker by `sender` and takes all that arrives until it does; false when it does
    /// not.
    pub fn marker(
        &self,
        sender: &Self,
        ends: &Ends,
        number: u16,
        arrived: &mut Vec<Vec<u8>>,
    ) -> bool {
        sender.send(&udp(&ends.v4(), MARKER, &number.to_be_bytes()));
        let deadline = Instant::now() + PATIENCE;
        let mut buffer = vec![0; 1 << 17];
        while Instant::now() < deadline {
            let Ok(length) = (&self.socket).read(&mut buffer) else { continue };
            let Some(packet) = buffer[..length].get(HEADER + ETHERNET..) else { continue };
            if !ends.are_of(packet) {
                continue;
            }
            assert_eq!(buffer[..2], [0, 0], "the router cuts and sums");
            if packet.len() > 29 && packet[0] == 0x45 && packet[20..22] == MARKER.to_be_bytes() {
                if packet[28..30] == number.to_be_bytes() {
                    return true;
                }
                continue;
            }
            arrived.push(packet.to_vec());
        }
        false
    }
}

/// Makes the kernel cut super-packets and write checksums before a device of the thread's namespace gets
/// them, as if it could do nothing itself.
pub fn cut_and_sum(device: &str) {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).expect("a socket");
    for command in OFFLOADS {
        let mut value = [command, 0];
        // SAFETY: ifreq is plain data, for which all zeros is a valid value.
        let mut request: libc::ifreq = unsafe { zeroed() };
        for (slot, byte) in request.ifr_name.iter_mut().zip(device.bytes()) {
            *slot = byte as libc::c_char;
        }
        request.ifr_ifru.ifru_data = value.as_mut_ptr().cast();
        // SAFETY: request and value outlive the call, which reads and writes no more than an ifreq and an
        // ethtool_value.
        let set = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) };
        assert_eq!(set, 0, "ethtool {command:#x}: {}", std::io::Error::last_os_error());
    }
}
