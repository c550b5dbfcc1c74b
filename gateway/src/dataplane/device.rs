//! TAP and TUN devices behind one trait.
#![expect(unsafe_code, reason = "TUNSETIFF and TUNGETIFF are ioctls that no crate here wraps")]

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt as _;

use carrick_gateway_core::Framing;

use super::options::DeviceOptions;

const CLONE_DEVICE: &str = "/dev/net/tun";

/// A source and sink of frames or IP packets. Neither call blocks; both say `WouldBlock` instead.
pub(super) trait Device: AsFd {
    /// What it carries.
    fn framing(&self) -> Framing;
    /// Reads one frame into `buffer`.
    fn read(&self, buffer: &mut [u8]) -> io::Result<usize>;
    /// Writes one frame.
    fn write(&self, frame: &[u8]) -> io::Result<()>;
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

/// One queue of a TAP or TUN.
#[derive(Debug)]
pub(super) struct Queue {
    file: File,
    framing: Framing,
    name: String,
}

/// Opens the device with one queue a lane.
pub(super) fn open(options: &DeviceOptions, queues: usize) -> Result<Vec<Queue>, DeviceError> {
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
    (0..queues).map(|_| open_queue(name, framing, kind | libc::IFF_NO_PI | many)).collect()
}

fn open_queue(name: &str, framing: Framing, flags: libc::c_int) -> Result<Queue, DeviceError> {
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
    attach(&file, name, flags).map_err(|source| match source.raw_os_error() {
        Some(libc::EPERM) => DeviceError::NoNetAdmin(name.to_owned()),
        Some(libc::EBUSY) => DeviceError::Busy(name.to_owned()),
        _ => DeviceError::System { step: "create", device: name.to_owned(), source },
    })?;
    Ok(Queue { file, framing, name: name.to_owned() })
}

/// Makes `file` a queue of the device `name`, which is created if need be.
fn attach(file: &File, name: &str, flags: libc::c_int) -> io::Result<()> {
    // SAFETY: ifreq is plain data, for which all zeros is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (slot, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *slot = byte as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    // SAFETY: the descriptor is open, and the request outlives the call, which reads and writes no
    // more than an ifreq.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF as _, &raw mut request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

impl Queue {
    /// The device's name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl AsFd for Queue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Device for Queue {
    fn framing(&self) -> Framing {
        self.framing
    }

    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        (&self.file).read(buffer)
    }

    fn write(&self, frame: &[u8]) -> io::Result<()> {
        (&self.file).write(frame).map(drop)
    }
}
