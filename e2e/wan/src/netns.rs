//! Network namespaces: entering one on a thread, and the few rtnetlink requests that a site
//! needs (link up, route, address). Also anonymous namespaces for benches and tests, which
//! vanish with the last descriptor.

use ipnet::IpNet;
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};
use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// A namespace that nobody else names.
#[derive(Debug)]
pub struct Netns {
    file: File,
}

impl Netns {
    /// Makes a namespace with its loopback up. Needs root.
    ///
    /// # Errors
    /// The kernel's, most often for want of CAP_SYS_ADMIN.
    pub fn create() -> io::Result<Self> {
        let made = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            set_up("lo", None, None)?;
            File::open("/proc/thread-self/ns/net")
        });
        Ok(Self { file: made.join().map_err(|_| io::Error::other("thread panicked"))?? })
    }

    /// One that exists: that of a process, by its path in /proc. It stays while this value lives.
    ///
    /// # Errors
    /// When there is none at the path.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        Ok(Self { file: File::open(path)? })
    }

    /// A path by which other processes can open it while this value lives.
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd()).into()
    }

    /// Runs something on a thread of its own inside the namespace.
    ///
    /// # Errors
    /// When the namespace can't be entered, or a panic inside.
    pub fn run<T: Send>(&self, inside: impl FnOnce() -> T + Send) -> io::Result<T> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| -> io::Result<T> {
                enter(&self.file)?;
                Ok(inside())
            });
            thread.join().map_err(|_| io::Error::other("thread in the namespace panicked"))?
        })
    }
}

/// Moves the calling thread into a namespace.
pub(crate) fn enter(namespace: &File) -> io::Result<()> {
    Ok(setns(namespace, CloneFlags::CLONE_NEWNET)?)
}

/// Brings a device up in the thread's namespace, with an MTU and a transmit queue length.
pub(crate) fn set_up(device: &str, mtu: Option<u32>, queue: Option<u32>) -> io::Result<()> {
    let mut body = vec![0u8; 4];
    body.extend(index(device)?.to_ne_bytes());
    let up = libc::IFF_UP as u32;
    body.extend(up.to_ne_bytes());
    body.extend(up.to_ne_bytes());
    for (kind, value) in [(libc::IFLA_MTU, mtu), (libc::IFLA_TXQLEN, queue)] {
        if let Some(value) = value {
            attribute(&mut body, kind, &value.to_ne_bytes());
        }
    }
    request(libc::RTM_SETLINK, 0, &body)
}

/// Adds an address to a device of the thread's namespace.
///
/// # Errors
/// The kernel's answer.
pub fn add_address(device: &str, address: IpNet) -> io::Result<()> {
    // IFA_F_NODAD: usable at once.
    let mut body = vec![family(address.addr()), address.prefix_len(), 0x02, 0];
    body.extend(index(device)?.to_ne_bytes());
    let bytes = octets(address.addr());
    attribute(&mut body, libc::IFA_LOCAL, &bytes);
    attribute(&mut body, libc::IFA_ADDRESS, &bytes);
    request(libc::RTM_NEWADDR, libc::NLM_F_CREATE | libc::NLM_F_REPLACE, &body)
}

/// Adds (or replaces) a route through a device of the thread's namespace.
pub(crate) fn add_route(device: &str, to: IpNet) -> io::Result<()> {
    let scope = if to.addr().is_ipv4() { libc::RT_SCOPE_LINK } else { libc::RT_SCOPE_UNIVERSE };
    let mut body = vec![family(to.addr()), to.prefix_len(), 0, 0];
    body.extend([libc::RT_TABLE_MAIN, libc::RTPROT_STATIC, scope, libc::RTN_UNICAST]);
    body.extend([0u8; 4]);
    attribute(&mut body, libc::RTA_DST, &octets(to.network()));
    attribute(&mut body, libc::RTA_OIF, &index(device)?.to_ne_bytes());
    request(libc::RTM_NEWROUTE, libc::NLM_F_CREATE | libc::NLM_F_REPLACE, &body)
}

fn index(device: &str) -> io::Result<u32> {
    Ok(nix::net::if_::if_nametoindex(device)?)
}

fn family(address: IpAddr) -> u8 {
    (if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 }) as u8
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// Appends an rtnetlink attribute; all that are used here are multiples of four bytes long.
fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    body.extend((value.len() as u16 + 4).to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
}

/// Sends one request and reads its acknowledgement.
fn request(kind: u16, flags: i32, body: &[u8]) -> io::Result<()> {
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    )?;
    let flags = (flags | libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
    let mut message = Vec::with_capacity(16 + body.len());
    message.extend((16 + body.len() as u32).to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend([1, 0, 0, 0, 0, 0, 0, 0]);
    message.extend(body);
    sendto(socket.as_raw_fd(), &message, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    let mut answer = [0u8; 4096];
    let len = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    let code = answer[..len].get(16..20).and_then(|bytes| bytes.try_into().ok());
    match code.map(i32::from_ne_bytes) {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(-code)),
        None => Err(io::Error::other("the kernel's netlink answer was too short")),
    }
}
