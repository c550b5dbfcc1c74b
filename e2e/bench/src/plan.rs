//! What is measured: contestants, underlay profiles, measures, rounds.

use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

/// Something that carries packets from one end to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Contestant {
    /// No tunnel: the underlay itself.
    Plain,
    /// A gateway of ours that does all but the cipher: what input and output cost.
    Floor,
    /// Our gateway.
    Carrick,
    /// WireGuard's own userspace implementation, in Go.
    WireguardGo,
    /// Cloudflare's, in Rust.
    BoringtunCli,
    /// Mullvad's, in Rust.
    Gotatun,
}

impl Contestant {
    /// All, in the order of tables.
    pub const ALL: [Self; 6] = [
        Self::Plain,
        Self::Floor,
        Self::Carrick,
        Self::WireguardGo,
        Self::BoringtunCli,
        Self::Gotatun,
    ];

    /// Its name in flags, tables and files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Floor => "floor",
            Self::Carrick => "carrick",
            Self::WireguardGo => "wireguard-go",
            Self::BoringtunCli => "boringtun-cli",
            Self::Gotatun => "gotatun",
        }
    }
}

/// What the underlay's devices can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// A NIC with UDP segmentation: a batch crosses as one packet.
    Segmentation,
    /// A NIC without, but receiving with GRO: most clouds.
    Receive,
    /// Neither.
    None,
}

impl Profile {
    /// All, in the order of reports.
    pub const ALL: [Self; 3] = [Self::Segmentation, Self::Receive, Self::None];

    /// Its name in flags, tables and files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Segmentation => "segmentation",
            Self::Receive => "receive",
            Self::None => "none",
        }
    }

    /// What it stands for, in few words.
    #[must_use]
    pub fn short(self) -> &'static str {
        match self {
            Self::Segmentation => "NIC with UDP segmentation",
            Self::Receive => "NIC without UDP segmentation, GRO on receive",
            Self::None => "NIC with neither",
        }
    }

    /// What it stands for, for reports.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Segmentation => "NIC with UDP segmentation (veth as it comes)",
            Self::Receive => {
                "NIC without UDP segmentation, GRO on receive (tx-udp-segmentation off, gro on, \
                 rx-udp-gro-forwarding on)"
            }
            Self::None => "NIC with neither (tx-udp-segmentation off, gro off)",
        }
    }

    /// The features that `ethtool -K` sets on both ends, in pairs.
    #[must_use]
    pub fn features(self) -> &'static [&'static str] {
        match self {
            Self::Segmentation => &[],
            Self::Receive => {
                &["tx-udp-segmentation", "off", "gro", "on", "rx-udp-gro-forwarding", "on"]
            }
            Self::None => &["tx-udp-segmentation", "off", "gro", "off"],
        }
    }
}

/// A group of figures that are taken together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Measure {
    /// Round trips on an idle tunnel.
    Rtt,
    /// One TCP stream: there, back, both at once.
    Tcp1,
    /// Four.
    Tcp4,
    /// Sixteen.
    Tcp16,
    /// Round trips beside one TCP stream.
    RttLoaded,
    /// UDP datagrams of 64 bytes at rising rate.
    Udp64,
    /// Of 512 bytes.
    Udp512,
    /// Of 1200 bytes.
    Udp1200,
    /// New TCP connections.
    Connections,
    /// Resident memory of the gateways, at rest and at its highest.
    Memory,
}

impl Measure {
    /// All, in the order in which they are taken: memory last, to see what the others cost.
    pub const ALL: [Self; 10] = [
        Self::Rtt,
        Self::Tcp1,
        Self::Tcp4,
        Self::Tcp16,
        Self::RttLoaded,
        Self::Udp64,
        Self::Udp512,
        Self::Udp1200,
        Self::Connections,
        Self::Memory,
    ];

    /// Its name in flags.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Rtt => "rtt",
            Self::Tcp1 => "tcp1",
            Self::Tcp4 => "tcp4",
            Self::Tcp16 => "tcp16",
            Self::RttLoaded => "rtt-loaded",
            Self::Udp64 => "udp64",
            Self::Udp512 => "udp512",
            Self::Udp1200 => "udp1200",
            Self::Connections => "connections",
            Self::Memory => "memory",
        }
    }
}

/// A measure of its own: it has no contestants and no underlay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Apart {
    /// Two lanes on two cores against one on one, packets in memory.
    LanesInMemory,
    /// Pod to pod through two real clusters against gateway to gateway.
    PodToPod,
}

impl Apart {
    /// All, in the order in which they are taken.
    pub const ALL: [Self; 2] = [Self::LanesInMemory, Self::PodToPod];

    /// Its name in flags.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::LanesInMemory => "lanes-in-memory",
            Self::PodToPod => "pod-to-pod",
        }
    }
}

/// What can be asked for by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// A measure of each contestant.
    Measure(Measure),
    /// One of its own.
    Apart(Apart),
}

impl Named {
    /// All.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let apart = Apart::ALL.into_iter().map(Self::Apart);
        Measure::ALL.into_iter().map(Self::Measure).chain(apart).collect()
    }

    /// Its name in flags.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Measure(measure) => measure.name(),
            Self::Apart(apart) => apart.name(),
        }
    }
}

/// A whole run.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// Who takes part.
    pub contestants: Vec<Contestant>,
    /// On which underlays.
    pub profiles: Vec<Profile>,
    /// What is measured.
    pub measures: Vec<Measure>,
    /// And what besides, that has no contestants.
    pub apart: Vec<Apart>,
    /// How often.
    pub rounds: usize,
    /// How long each TCP transfer takes.
    pub seconds: u32,
}

impl Plan {
    /// The contestants in the order of a round: each round another one comes first.
    #[must_use]
    pub fn order(&self, round: usize) -> Vec<Contestant> {
        let mut order = self.contestants.clone();
        if !order.is_empty() {
            order.rotate_left(round % self.contestants.len());
        }
        order
    }

    /// About how long the run takes.
    #[must_use]
    pub fn estimate(&self) -> Duration {
        let seconds = f64::from(self.seconds);
        let of = |measure: &Measure| match measure {
            Measure::Rtt => 2.5,
            Measure::Tcp1 | Measure::Tcp4 | Measure::Tcp16 => 3.0 * (seconds + 0.3),
            Measure::RttLoaded => 3.5,
            Measure::Udp64 | Measure::Udp512 | Measure::Udp1200 => 5.0,
            Measure::Connections => 2.2,
            Measure::Memory => 0.1,
        };
        let apart = |apart: &Apart| match apart {
            Apart::LanesInMemory => 3.5,
            Apart::PodToPod => 4.0 * (seconds + 0.5) + 1.0,
        };
        let apart: f64 = self.apart.iter().map(apart).sum();
        let one: f64 = 1.0 + self.measures.iter().map(of).sum::<f64>();
        let runs = match self.measures[..] {
            [] => 0,
            _ => self.profiles.len() * self.contestants.len(),
        };
        Duration::from_secs_f64((one * runs as f64 + apart) * self.rounds as f64)
    }
}

/// Parses a list such as `carrick,wireguard-go`.
///
/// # Errors
/// Names the word that is none of `known`, and those that are.
pub fn parse_list<T: Copy>(
    flag: &str,
    text: &str,
    known: &[T],
    name: impl Fn(T) -> &'static str,
) -> anyhow::Result<Vec<T>> {
    let mut found = Vec::new();
    for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        let one = known.iter().copied().find(|one| name(*one) == word).with_context(|| {
            let all: Vec<_> = known.iter().map(|one| name(*one)).collect();
            format!("{flag} has {word:?}; choose from {}", all.join(", "))
        })?;
        if !found.iter().any(|other| name(*other) == word) {
            found.push(one);
        }
    }
    if found.is_empty() {
        bail!("{flag} is empty; name at least one");
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        Plan {
            contestants: vec![Contestant::Plain, Contestant::Carrick, Contestant::Gotatun],
            profiles: vec![Profile::Segmentation],
            measures: vec![Measure::Tcp1],
            apart: vec![],
            rounds: 2,
            seconds: 1,
        }
    }

    #[test]
    fn every_round_starts_with_another() {
        let plan = plan();
        let first: Vec<_> = (0..4).map(|round| plan.order(round)[0]).collect();
        let [one, two, three] = [Contestant::Plain, Contestant::Carrick, Contestant::Gotatun];
        assert_eq!(first, [one, two, three, one]);
        assert_eq!(plan.order(1), [two, three, one]);
        assert!(plan.estimate() > Duration::from_secs(6));
    }

    #[test]
    fn what_has_no_contestants_takes_time_once_a_round() {
        let apart = vec![Apart::LanesInMemory];
        let plan = Plan { measures: vec![], apart, ..plan() };
        assert_eq!(plan.estimate(), Duration::from_secs(7));
        let names: Vec<_> = Named::all().into_iter().map(Named::name).collect();
        assert!(names.contains(&"tcp1") && names.contains(&"lanes-in-memory"), "{names:?}");
    }

    #[test]
    fn a_list_takes_known_words_once_and_names_others() {
        let parse = |text| parse_list("--only", text, &Contestant::ALL, Contestant::name);
        let both = [Contestant::WireguardGo, Contestant::Carrick];
        assert_eq!(parse("wireguard-go, carrick,wireguard-go").expect("a list"), both);
        let error = parse("carrick,wireguard").expect_err("unknown").to_string();
        assert!(error.contains("\"wireguard\"") && error.contains("boringtun-cli"), "{error}");
        assert!(parse(",").expect_err("empty").to_string().contains("--only"));
    }
}
