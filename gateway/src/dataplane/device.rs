//! TAP and TUN devices behind one trait, with what the kernel may leave to us and we to it.
//!
//! With several lanes each has its own queue to read from. The kernel would move a flow to the queue
//! that wrote it last, so that both directions chase each other from lane to lane; a queue that is
//! detached may still write and moves nothing. So each lane writes to a detached queue, and a flow stays
//! where its hash puts it.
#![expect(unsafe_code, reason = "TUNSETIFF and its like are ioctls that no crate here wraps")]

pub(super) mod virtio;

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt as _;

use carrick_gateway_core::{Framing, Offload};

use super::options::{DeviceOptions, Offloads};
use virtio::HEADER;

const CLONE_DEVICE: &str = "/dev/net/tun";

/// A source and sink of frames or IP packets. No call blocks; all say `WouldBlock` instead.
pub(super) trait Device: AsFd {
    /// What it carries.
    fn framing(&self) -> Framing;
    /// Reads one frame into `buffer`: its length, and what is left to do with it.
    fn read(&self, buffer: &mut [u8]) -> io::Result<(usize, Offload)>;
    /// Writes one frame, given in parts.
    fn write(&self, parts: [&[u8]; 2], offload: Offload) -> io::Result<()>;
}

/// Why a device could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The name does not fit the kernel's.
    #[error("device name {0:?} must be 1 to 15 bytes without '/' or blanks; choose another")]
    Name(String),
    /// The node has no such file.
    #[error(
        "{CLONE_DEVICE} does not exist: load the kernel module `tun` on the node, and mount the file \
         into the pod as hostPath of type CharDevice"
    )]
    Missing,
    /// The runtime's device policy forbids it.
    #[error(
        "opening {CLONE_DEVICE} is not permitted: the container runtime denies the device (runc 1.2.0 \
         to 1.2.3 and crun do unless it is mounted); mount it as hostPath of type CharDevice, or \
         upgrade runc to 1.2.4 or later"
    )]
    Denied,
    /// Making the device is not permitted.
    #[error(
        "creating the device {0} is not permitted: give the process the capability NET_ADMIN \
         (securityContext.capabilities.add)"
    )]
    NoNetAdmin(String),
    /// Somebody has a device of this name.
    #[error("the device {0} exists already and is in use; stop its owner or choose another name")]
    Busy(String),
    /// Anything else.
    #[error("cannot {step} {device}: {source}")]
    System {
        /// What was being done.
        step: &'static str,
        /// The device.
        device: String,
        /// Why.
        source: io::Error,
    },
}

/// One lane's share of a TAP or TUN.
#[derive(Debug)]
pub(super) struct Queue {
    read: File,
    /// A detached queue, where there are several.
    write: Option<File>,
    framing: Framing,
    name: String,
    offloads: Offloads,
}

/// Opens the device with one queue a lane. The queues say which of `offloads` the kernel has.
pub(super) fn open(
    options: &DeviceOptions,
    queues: usize,
    offloads: Offloads,
) -> Result<Vec<Queue>, DeviceError> {
    let (name, framing, kind) = match options {
        DeviceOptions::Tap { name } => (name, Framing::Ethernet, libc::IFF_TAP),
        DeviceOptions::Tun { name } => (name, Framing::Ip, libc::IFF_TUN),
    };
    let fits = matches!(name.len(), 1..=15)
        && !name.bytes().any(|b| b == b'/' || b == b'%' || b.is_ascii_whitespace() || b == 0)
        && name != "."
        && name != "..";
    if !fits {
        return Err(DeviceError::Name(name.chars().take(64).collect()));
    }
    let many = if queues > 1 { libc::IFF_MULTI_QUEUE } else { 0 };
    let flags = kind | libc::IFF_NO_PI | libc::IFF_VNET_HDR | many;
    let queue = |_| {
        let read = open_queue(name, flags)?;
        let write = (queues > 1).then(|| open_detached(name, flags)).transpose()?;
        let offloads = leave_to_us(&read, offloads).map_err(|source| system(name, source))?;
        Ok(Queue { read, write, framing, name: name.clone(), offloads })
    };
    (0..queues).map(queue).collect()
}

fn system(device: &str, source: io::Error) -> DeviceError {
    DeviceError::System { step: "set up", device: device.to_owned(), source }
}

fn open_queue(name: &str, flags: libc::c_int) -> Result<File, DeviceError> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(CLONE_DEVICE)
        .map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => DeviceError::Missing,
            io::ErrorKind::PermissionDenied => DeviceError::Denied,
            _ => DeviceError::System { step: "open", device: CLONE_DEVICE.to_owned(), source },
        })?;
    request(&file, libc::TUNSETIFF, name, flags).map_err(|source| match source.raw_os_error() {
        Some(libc::EPERM) => DeviceError::NoNetAdmin(name.to_owned()),
        Some(libc::EBUSY) => DeviceError::Busy(name.to_owned()),
        _ => DeviceError::System { step: "create", device: name.to_owned(), source },
    })?;
    Ok(file)
}

/// A queue that only writes, and to which no flow is steered.
fn open_detached(name: &str, flags: libc::c_int) -> Result<File, DeviceError> {
    let file = open_queue(name, flags)?;
    request(&file, libc::TUNSETQUEUE, "", libc::IFF_DETACH_QUEUE)
        .map_err(|source| system(name, source))?;
    Ok(file)
}

/// Makes `file` a queue of the device `name`, which is created if need be, or sets its flags.
fn request(file: &File, call: libc::Ioctl, name: &str, flags: libc::c_int) -> io::Result<()> {
    // SAFETY: ifreq is plain data, for which all zeros is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (slot, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *slot = byte as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    // SAFETY: the descriptor is open, and the request outlives the call, which reads and writes no
    // more than an ifreq.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), call, &raw mut request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Asks the kernel for uncut packets and unfinished checksums; less where it knows less. UDP trains of
/// both families go together (Linux 6.2).
fn leave_to_us(file: &File, wanted: Offloads) -> io::Result<Offloads> {
    let tcp = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN;
    let udp = libc::TUN_F_USO4 | libc::TUN_F_USO6;
    for (device_tcp, device_udp) in [(true, true), (true, false), (false, false)] {
        let asked_for = wanted.device_tcp >= device_tcp && wanted.device_udp >= device_udp;
        let flags = if device_tcp { tcp } else { 0 } | if device_udp { udp } else { 0 };
        // SAFETY: the descriptor is open; this call takes its argument by value.
        let set = asked_for
            && unsafe {
                libc::ioctl(file.as_raw_fd(), libc::TUNSETOFFLOAD, libc::c_ulong::from(flags))
            } == 0;
        if set {
            return Ok(Offloads { device_tcp, device_udp, ..wanted });
        }
    }
    Err(io::Error::last_os_error())
}

impl Queue {
    /// The device's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Which offloads the kernel has.
    pub fn offloads(&self) -> Offloads {
        self.offloads
    }
}

impl AsFd for Queue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.read.as_fd()
    }
}

impl Device for Queue {
    fn framing(&self) -> Framing {
        self.framing
    }

    fn read(&self, buffer: &mut [u8]) -> io::Result<(usize, Offload)> {
        let mut header = [0; HEADER];
        let mut parts = [IoSliceMut::new(&mut header), IoSliceMut::new(buffer)];
        let length = (&self.read).read_vectored(&mut parts)?;
        let frame = length.saturating_sub(HEADER);
        Ok((frame, virtio::read(&header, frame)))
    }

    fn write(&self, parts: [&[u8]; 2], offload: Offload) -> io::Result<()> {
        let header = virtio::write(offload);
        let parts = [IoSlice::new(&header), IoSlice::new(parts[0]), IoSlice::new(parts[1])];
        let mut file = self.write.as_ref().unwrap_or(&self.read);
        file.write_vectored(&parts).map(drop)
    }
}
