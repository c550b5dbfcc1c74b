//! Two network namespaces, joined by a cable or by an emulated wide-area link. They have no name and
//! no way out, and vanish with the run.

use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;

use anyhow::Context as _;
use carrick_e2e::run::run;
use carrick_wan::netns::{Netns, add_address};
use carrick_wan::{Conditions, Config, Emulator, SiteConfig};

/// The device of a cable in both ends.
pub const CABLE: &str = "underlay";

/// One end.
#[derive(Debug)]
pub struct End {
    /// Its network.
    pub netns: Netns,
    /// Its address on the underlay, to begin with.
    pub underlay: Ipv4Addr,
    /// Its address there after it has moved.
    pub moved: Ipv4Addr,
    /// Its addresses inside the tunnel: IPv4, then IPv6. They outlive the tunnel's device.
    pub inner: [IpAddr; 2],
}

/// What joins the ends.
#[derive(Clone, Debug)]
pub enum Path {
    /// A veth pair with an MTU of 1500 bytes.
    Cable,
    /// A wide-area link with these conditions in both directions.
    Wide(Conditions),
}

/// Both ends, joined.
pub struct World {
    /// The first.
    pub near: End,
    /// The second.
    pub far: End,
    emulator: Option<Emulator>,
}

impl World {
    /// Makes both ends.
    ///
    /// # Errors
    /// When the kernel refuses, most often for want of root.
    pub fn new(path: &Path) -> anyhow::Result<Self> {
        let (near, far) = (End::new(1)?, End::new(2)?);
        let emulator = match path {
            Path::Cable => {
                join(&near, &far)?;
                None
            }
            Path::Wide(conditions) => Some(emulate(&near, &far, conditions)?),
        };
        // After those of the underlay: the first address is the one that is sent from where the device
        // has none.
        for end in [&near, &far] {
            for (address, length) in end.inner.into_iter().zip([32, 128]) {
                end.add("lo", address, length)?;
            }
        }
        Ok(Self { near, far, emulator })
    }

    /// What the emulator lost that its conditions did not ask for; 0 with a cable.
    ///
    /// # Errors
    /// When the emulator has stopped.
    pub fn unintended_drops(&self) -> anyhow::Result<u64> {
        self.emulator.as_ref().map_or(Ok(0), |emulator| Ok(emulator.stats()?.unintended()))
    }
}

impl End {
    fn new(number: u8) -> anyhow::Result<Self> {
        let netns = Netns::create().context("making a network namespace; run as root")?;
        let underlay = Ipv4Addr::new(192, 0, 2, 64 * number + 1);
        let moved = Ipv4Addr::new(192, 0, 2, 64 * number + 2);
        let v6 = [0xfd98, 0x51, 0x100, 0, 0, 0, 0, u16::from(number)];
        let inner = [IpAddr::from([198, 51, 100, number]), IpAddr::from(v6)];
        Ok(Self { netns, underlay, moved, inner })
    }

    /// A short command in this end's network, not meant to stay.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.netns.path().display())).arg("--").arg(program);
        command
    }

    /// Gives up its address on the cable for another, as a host does that moves.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn move_away(&self) -> anyhow::Result<()> {
        self.add(CABLE, self.moved.into(), 24)?;
        let old = format!("{}/24", self.underlay);
        run(self.command("ip").args(["address", "del", &old, "dev", CABLE]))?;
        // Deleting a first address takes those of its subnet along.
        self.add(CABLE, self.moved.into(), 24)
    }

    fn add(&self, device: &str, address: IpAddr, length: u8) -> anyhow::Result<()> {
        let address = ipnet::IpNet::new(address, length)?;
        let added = self.netns.run(|| add_address(device, address))?;
        added.with_context(|| format!("adding {address} to {device}"))
    }
}

fn join(near: &End, far: &End) -> anyhow::Result<()> {
    let mut link = near.command("ip");
    link.args(["link", "add", CABLE, "type", "veth", "peer", "name", CABLE, "netns"]);
    run(link.arg(far.netns.path()))?;
    for end in [near, far] {
        end.add(CABLE, end.underlay.into(), 24)?;
        run(end.command("ip").args(["link", "set", CABLE, "up"]))?;
    }
    Ok(())
}

fn emulate(near: &End, far: &End, conditions: &Conditions) -> anyhow::Result<Emulator> {
    let site = |name: &str, end: &End| {
        end.add("lo", end.underlay.into(), 32)?;
        let prefixes = vec![ipnet::IpNet::new(end.underlay.into(), 26)?.trunc()];
        anyhow::Ok(SiteConfig::new(name.to_owned(), end.netns.path(), prefixes))
    };
    let emulator = Emulator::start(Config::new(vec![site("near", near)?, site("far", far)?]))?;
    for (from, to) in [("near", "far"), ("far", "near")] {
        emulator.set(from, to, conditions.clone())?;
    }
    Ok(emulator)
}
