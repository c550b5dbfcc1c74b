//! What the data plane is started with, once.

use carrick_gateway_core::SecretKey;

/// How many packets may wait in the TAP or TUN for a lane that is busy: the kernel's 500 are two
/// milliseconds of small packets.
pub const DEVICE_QUEUE: u32 = 2000;

/// What the data plane is started with.
#[derive(Debug)]
pub struct DataplaneOptions {
    /// One a lane, by index.
    pub lanes: Vec<LaneOptions>,
    /// Where the inner packets are.
    pub device: DeviceOptions,
    /// What may be left to the kernel.
    pub offloads: Offloads,
}

/// What is left to the kernel, or done by us in its place: cutting and merging packets. Asked for, it is
/// what may be used; reported, what is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offloads {
    /// TCP streams cross the device uncut (TSO, and its reverse).
    pub device_tcp: bool,
    /// UDP trains cross the device uncut (USO, and its reverse).
    pub device_udp: bool,
    /// The kernel cuts what a lane sends (UDP_SEGMENT).
    pub socket_send: bool,
    /// The kernel merges what a lane receives (UDP_GRO).
    pub socket_receive: bool,
}

impl Default for Offloads {
    fn default() -> Self {
        Self { device_tcp: true, device_udp: true, socket_send: true, socket_receive: true }
    }
}

impl Offloads {
    /// None at all.
    pub const OFF: Self =
        Self { device_tcp: false, device_udp: false, socket_send: false, socket_receive: false };

    /// Those that are in both.
    #[must_use]
    pub fn common(self, other: Self) -> Self {
        Self {
            device_tcp: self.device_tcp && other.device_tcp,
            device_udp: self.device_udp && other.device_udp,
            socket_send: self.socket_send && other.socket_send,
            socket_receive: self.socket_receive && other.socket_receive,
        }
    }

    /// Each with its name in metrics, status and configuration.
    pub fn iter(&self) -> [(&'static str, bool); 4] {
        [
            ("device_tcp", self.device_tcp),
            ("device_udp", self.device_udp),
            ("socket_send", self.socket_send),
            ("socket_receive", self.socket_receive),
        ]
    }

    /// These, but for what the kernel of this release (`uname -r`) is known to get wrong: UDP trains
    /// below a VXLAN up to 6.8.4, and UDP segmentation from 7.0 to 7.1.4. What cannot be read is taken
    /// as new.
    #[must_use]
    pub fn on_kernel(self, release: &str) -> Self {
        let mut numbers =
            release.split(|c: char| !c.is_ascii_digit()).map_while(|n| n.parse().ok());
        let mut next = || numbers.next().unwrap_or(0);
        let version: [u32; 3] = [next(), next(), next()];
        let known = version[0] > 0;
        let breaks_trains = known && version <= [6, 8, 4];
        let corrupts = ([7, 0, 0]..=[7, 1, 4]).contains(&version);
        Self {
            device_udp: self.device_udp && !breaks_trains && !corrupts,
            socket_send: self.socket_send && !corrupts,
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_with_known_faults_get_less() {
        let on = |release| Offloads::default().on_kernel(release);
        let (udp, send) = (
            Offloads { device_udp: false, ..Offloads::default() },
            Offloads { device_udp: false, socket_send: false, ..Offloads::default() },
        );
        for (release, offloads) in [
            ("6.18.5", Offloads::default()),
            ("6.8.4-generic", udp),
            ("6.8.5", Offloads::default()),
            ("5.15.0-91-generic", udp),
            ("7.0.0", send),
            ("7.1.4+", send),
            ("7.1.5", Offloads::default()),
            ("7.2-rc1", Offloads::default()),
            ("custom", Offloads::default()),
        ] {
            assert_eq!(on(release), offloads, "{release}");
        }
        assert_eq!(Offloads::OFF.on_kernel("6.18.0"), Offloads::OFF);
    }
}

/// One lane.
#[derive(Debug, Default)]
pub struct LaneOptions {
    /// The UDP port to listen on, on all addresses of both families; 0 lets the kernel choose.
    pub port: u16,
    /// Its key; a random one when there is none.
    pub secret: Option<SecretKey>,
}

/// Which kind of device carries the inner packets. It vanishes with the data plane.
#[derive(Debug, Clone)]
pub enum DeviceOptions {
    /// Ethernet frames; the gateway is the router (in a pod, bridged with a VXLAN).
    Tap {
        /// Its name, 1–15 bytes.
        name: String,
    },
    /// IP packets; the kernel is the router (standalone).
    Tun {
        /// Its name, 1–15 bytes.
        name: String,
    },
}
