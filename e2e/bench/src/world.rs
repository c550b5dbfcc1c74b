//! Two network namespaces with a cable between them, and nothing else: one for each end. They have no
//! name and no way out, and vanish with the run.

use std::net::Ipv4Addr;
use std::process::Command;

use anyhow::Context as _;
use carrick_e2e::run::run;
use carrick_wan::netns::{Netns, add_address};

use crate::plan::Profile;

/// The device of the underlay in both ends.
const UNDERLAY: &str = "underlay";

/// The underlay's MTU; tunnels have 80 less.
pub const MTU: u32 = 1500;

/// One end.
#[derive(Debug)]
pub struct End {
    /// Its network.
    pub netns: Netns,
    /// Its address on the underlay.
    pub underlay: Ipv4Addr,
    /// Its address inside a tunnel.
    pub inner: Ipv4Addr,
    /// The name of its tunnel device. Control sockets have that name in a folder that all network
    /// namespaces share, so the ends must differ.
    pub device: &'static str,
}

/// Both ends, joined.
#[derive(Debug)]
pub struct World {
    /// The first end, where clients are.
    pub near: End,
    /// The second, where servers are.
    pub far: End,
}

impl World {
    /// Makes both ends with an underlay of this profile.
    ///
    /// # Errors
    /// When the kernel refuses, most often for want of root.
    pub fn new(profile: Profile) -> anyhow::Result<Self> {
        let end = |number: u8, device| {
            let netns = Netns::create().context("making a network namespace; run as root")?;
            let underlay = Ipv4Addr::new(192, 0, 2, number);
            let inner = Ipv4Addr::new(198, 51, 100, number);
            anyhow::Ok(End { netns, underlay, inner, device })
        };
        let world = Self { near: end(1, "carrick-bench-a")?, far: end(2, "carrick-bench-b")? };
        let mut link = world.near.command("ip");
        link.args(["link", "add", UNDERLAY, "mtu", &MTU.to_string(), "type", "veth"]);
        link.args(["peer", "name", UNDERLAY, "mtu", &MTU.to_string(), "netns"]);
        run(link.arg(world.far.netns.path()))?;
        for end in [&world.near, &world.far] {
            end.bring_up(profile)?;
        }
        Ok(world)
    }

    /// The addresses between which traffic is sent: through the tunnel, or beside it.
    #[must_use]
    pub fn targets(&self, tunnel: bool) -> (Ipv4Addr, Ipv4Addr) {
        match tunnel {
            true => (self.near.inner, self.far.inner),
            false => (self.near.underlay, self.far.underlay),
        }
    }
}

impl End {
    /// A short command in this end's network, not meant to stay.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.netns.path().display())).arg("--").arg(program);
        command
    }

    fn bring_up(&self, profile: Profile) -> anyhow::Result<()> {
        let address = format!("{}/24", self.underlay).parse().context("a constant address")?;
        self.netns.run(|| add_address(UNDERLAY, address))?.context("adding an address")?;
        if !profile.features().is_empty() {
            run(self.command("ethtool").args(["-K", UNDERLAY]).args(profile.features()))
                .with_context(|| format!("profile {} on veth", profile.name()))?;
        }
        run(self.command("ip").args(["link", "set", UNDERLAY, "up"]))?;
        Ok(())
    }
}
