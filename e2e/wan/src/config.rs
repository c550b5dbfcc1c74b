//! What to emulate: sites, their prefixes, and the conditions at the start.

use crate::conditions::{Conditions, ConditionsError, by_name};
use crate::pool::MAX_POOL_BYTES;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Most sites of one emulator.
pub const MAX_SITES: usize = 64;

/// The emulator's configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// At least two.
    pub sites: Vec<SiteConfig>,
    /// Conditions at the start; directions that aren't named are perfect.
    #[serde(default)]
    pub links: Vec<LinkConfig>,
    /// MTU of the devices in bytes (1280 to 9000).
    #[serde(default = "default_mtu")]
    pub mtu: u32,
    /// Seed of all chance.
    #[serde(default)]
    pub seed: u64,
    /// Packets of one site that can be under way.
    #[serde(default = "default_buffers")]
    pub buffers_per_site: usize,
}

/// One site.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SiteConfig {
    /// Its name.
    pub name: String,
    /// Path of its network namespace.
    pub netns: PathBuf,
    /// What lies in it.
    pub prefixes: Vec<IpNet>,
    /// The network that it belongs to: sites of one reach each other only. This is also its device's name, so
    /// that one namespace can be a site of several networks.
    #[serde(default = "default_network")]
    pub network: String,
}

impl SiteConfig {
    /// A site of the network `wan0`.
    pub fn new(name: String, netns: PathBuf, prefixes: Vec<IpNet>) -> Self {
        Self { name, netns, prefixes, network: default_network() }
    }
}

fn default_network() -> String {
    "wan0".to_owned()
}

/// The longest name of a device.
const LONGEST_DEVICE: usize = 15;

/// Conditions of one direction at the start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LinkConfig {
    /// The sending site.
    pub from: String,
    /// The receiving site.
    pub to: String,
    /// Named conditions; `conditions` must be absent then.
    #[serde(default)]
    pub named: Option<String>,
    /// Conditions of its own.
    #[serde(default)]
    pub conditions: Option<Conditions>,
}

fn default_mtu() -> u32 {
    1500
}

fn default_buffers() -> usize {
    65_536
}

/// A configuration that can't be run.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not a number of sites that can be joined.
    #[error("{0} sites are given; give between 2 and {MAX_SITES}")]
    SiteCount(usize),
    /// Two sites of one name.
    #[error("site {0:?} is given twice; give each site a name of its own")]
    DuplicateSite(String),
    /// A name that no site has.
    #[error("{field} names site {name:?}, which isn't a site; add it or correct the name")]
    UnknownSite {
        /// The field.
        field: &'static str,
        /// The name.
        name: String,
    },
    /// A network that no device can be called by.
    #[error(
        "network {0:?} of a site must have 1 to 15 letters, digits or dashes, as it names a device"
    )]
    Network(String),
    /// A link between two networks.
    #[error(
        "link {0} to {1} goes from one network to another; sites of one network reach each other only"
    )]
    Networks(String, String),
    /// A prefix of two sites.
    #[error("prefix {0} belongs to two sites; give it to one")]
    DuplicatePrefix(IpNet),
    /// From a site to itself.
    #[error("a link goes from {0:?} to itself; name two sites")]
    SelfLink(String),
    /// Both or neither of named and own conditions.
    #[error("link {0} to {1} needs either named or conditions, not both or none")]
    Ambiguous(String, String),
    /// MTU out of range.
    #[error("mtu is {0}, but must be between 1280 and 9000")]
    Mtu(u32),
    /// Too many or no buffers.
    #[error("buffersPerSite is {count}, but must be between 64 and {max} with this mtu")]
    Buffers {
        /// What was asked.
        count: usize,
        /// What is possible.
        max: usize,
    },
    /// Conditions out of range.
    #[error(transparent)]
    Conditions(#[from] ConditionsError),
}

impl Config {
    /// A configuration with defaults.
    pub fn new(sites: Vec<SiteConfig>) -> Self {
        let links = Vec::new();
        Self { sites, links, mtu: default_mtu(), seed: 0, buffers_per_site: default_buffers() }
    }

    /// The index of a site.
    pub(crate) fn site(&self, field: &'static str, name: &str) -> Result<usize, ConfigError> {
        let found = self.sites.iter().position(|site| site.name == name);
        found.ok_or_else(|| ConfigError::UnknownSite { field, name: name.to_owned() })
    }

    /// Checks everything that needs no system, and gives conditions by [from][to].
    ///
    /// # Errors
    /// Names the first thing that is wrong.
    pub fn validate(&self) -> Result<Vec<Vec<Conditions>>, ConfigError> {
        let count = self.sites.len();
        if !(2..=MAX_SITES).contains(&count) {
            return Err(ConfigError::SiteCount(count));
        }
        if !(1280..=9000).contains(&self.mtu) {
            return Err(ConfigError::Mtu(self.mtu));
        }
        let max = MAX_POOL_BYTES / self.mtu as usize;
        if !(64..=max).contains(&self.buffers_per_site) {
            return Err(ConfigError::Buffers { count: self.buffers_per_site, max });
        }
        self.validate_sites()?;
        let mut conditions = vec![vec![Conditions::default(); count]; count];
        for link in &self.links {
            let (from, to) = (self.site("from", &link.from)?, self.site("to", &link.to)?);
            if from == to {
                return Err(ConfigError::SelfLink(link.from.clone()));
            }
            if self.sites[from].network != self.sites[to].network {
                return Err(ConfigError::Networks(link.from.clone(), link.to.clone()));
            }
            conditions[from][to] = link.resolve()?;
        }
        Ok(conditions)
    }

    fn validate_sites(&self) -> Result<(), ConfigError> {
        let mut prefixes = Vec::new();
        for (index, site) in self.sites.iter().enumerate() {
            if self.sites[..index].iter().any(|other| other.name == site.name) {
                return Err(ConfigError::DuplicateSite(site.name.clone()));
            }
            let network = &site.network;
            let fits = |c: char| c.is_ascii_alphanumeric() || c == '-';
            if !(1..=LONGEST_DEVICE).contains(&network.len()) || !network.chars().all(fits) {
                return Err(ConfigError::Network(network.clone()));
            }
            for prefix in site.prefixes.iter().map(IpNet::trunc) {
                if prefixes.contains(&prefix) {
                    return Err(ConfigError::DuplicatePrefix(prefix));
                }
                prefixes.push(prefix);
            }
        }
        Ok(())
    }
}

impl LinkConfig {
    fn resolve(&self) -> Result<Conditions, ConfigError> {
        let conditions = match (&self.named, &self.conditions) {
            (Some(name), None) => by_name(name)?,
            (None, Some(conditions)) => conditions.clone(),
            _ => return Err(ConfigError::Ambiguous(self.from.clone(), self.to.clone())),
        };
        conditions.validate()?;
        Ok(conditions)
    }
}
