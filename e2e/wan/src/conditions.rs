//! What a packet meets on one direction between two sites, as data with provenance.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Longest delay, jitter or extra delay that is accepted, in microseconds (one minute).
pub const MAX_DELAY_US: u64 = 60_000_000;
/// Fastest rate that is accepted, in bits per second (one terabit).
pub const MAX_RATE: u64 = 1_000_000_000_000;

/// Conditions of one direction. The default is a perfect link.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Conditions {
    /// One-way delay in microseconds.
    pub delay_us: u64,
    /// Variation around the delay in microseconds; never reorders by itself.
    pub jitter_us: u64,
    /// How the variation is distributed.
    pub jitter_distribution: Distribution,
    /// Probability (0 to 1) that a packet is lost, each on its own.
    pub loss: f64,
    /// Loss in bursts.
    pub burst: Option<GilbertElliott>,
    /// Packets that later ones may overtake.
    pub reorder: Option<Reorder>,
    /// Probability (0 to 1) that a packet arrives twice.
    pub duplicate: f64,
    /// A bottleneck with a bounded queue.
    pub rate: Option<Rate>,
    /// Largest IP packet in bytes that passes; larger ones are dropped, whatever their DF bit.
    pub mtu: Option<u32>,
    /// Whether the sender of a packet above `mtu` is told (false makes a black hole). IPv4
    /// packets without DF are never answered.
    pub icmp_too_big: bool,
    /// Packets larger than this many bytes vanish: "passes small packets only".
    pub drop_larger_than: Option<u32>,
    /// Nothing passes.
    pub cut: bool,
}

/// Shape of the jitter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Distribution {
    /// Even over delay ± jitter.
    #[default]
    Uniform,
    /// Bell curve with jitter as standard deviation, cut off at no delay.
    Normal,
}

/// Two-state loss (Gilbert–Elliott): the state may change before each packet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GilbertElliott {
    /// Probability of going from good to bad.
    pub p: f64,
    /// Probability of going from bad to good.
    pub r: f64,
    /// Loss probability in the bad state.
    pub loss_bad: f64,
    /// Loss probability in the good state.
    #[serde(default)]
    pub loss_good: f64,
}

/// Packets held back so that later ones overtake them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Reorder {
    /// Probability that a packet is held back.
    pub probability: f64,
    /// For how long, in microseconds.
    pub extra_delay_us: u64,
}

/// A bottleneck.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rate {
    /// Bits of IP packet a second.
    pub bits_per_second: u64,
    /// Bytes that may wait; what finds the queue full is dropped.
    pub queue_bytes: u64,
}

/// A condition that can't be emulated.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum ConditionsError {
    /// A probability outside 0 to 1.
    #[error("{field} is {value}, but a probability lies between 0 and 1; correct {field}")]
    Probability {
        /// The field.
        field: &'static str,
        /// What it was.
        value: f64,
    },
    /// A number outside its range.
    #[error("{field} is {value}, but must be between {min} and {max}; correct {field}")]
    Range {
        /// The field.
        field: &'static str,
        /// What it was.
        value: u64,
        /// Smallest accepted.
        min: u64,
        /// Largest accepted.
        max: u64,
    },
    /// No named conditions of that name.
    #[error("no conditions are named {name:?}; choose one of: {known}")]
    Unknown {
        /// The name asked for.
        name: String,
        /// All names.
        known: String,
    },
}

impl Conditions {
    /// A link that only delays, by `us` microseconds one way.
    pub fn delay_us(us: u64) -> Self {
        Self { delay_us: us, ..Self::default() }
    }

    /// Checks every field's range.
    ///
    /// # Errors
    /// Names the first field that is out of range.
    pub fn validate(&self) -> Result<(), ConditionsError> {
        range("delayUs", self.delay_us, 0, MAX_DELAY_US)?;
        range("jitterUs", self.jitter_us, 0, MAX_DELAY_US)?;
        probability("loss", self.loss)?;
        probability("duplicate", self.duplicate)?;
        if let Some(burst) = &self.burst {
            probability("burst.p", burst.p)?;
            probability("burst.r", burst.r)?;
            probability("burst.lossBad", burst.loss_bad)?;
            probability("burst.lossGood", burst.loss_good)?;
        }
        if let Some(reorder) = &self.reorder {
            probability("reorder.probability", reorder.probability)?;
            range("reorder.extraDelayUs", reorder.extra_delay_us, 0, MAX_DELAY_US)?;
        }
        if let Some(rate) = &self.rate {
            range("rate.bitsPerSecond", rate.bits_per_second, 1_000, MAX_RATE)?;
            range("rate.queueBytes", rate.queue_bytes, 1, 1 << 30)?;
        }
        if let Some(mtu) = self.mtu {
            range("mtu", mtu.into(), 68, 65_535)?;
        }
        Ok(())
    }
}

fn probability(field: &'static str, value: f64) -> Result<(), ConditionsError> {
    if (0.0..=1.0).contains(&value) {
        Ok(())
    } else {
        Err(ConditionsError::Probability { field, value })
    }
}

fn range(field: &'static str, value: u64, min: u64, max: u64) -> Result<(), ConditionsError> {
    if (min..=max).contains(&value) {
        Ok(())
    } else {
        Err(ConditionsError::Range { field, value, min, max })
    }
}

/// Conditions with a name's provenance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NamedConditions {
    /// Where the numbers come from.
    pub source: String,
    /// One direction; the other is the same.
    pub conditions: Conditions,
}

/// All named conditions, by name.
pub fn named() -> BTreeMap<String, NamedConditions> {
    serde_yaml::from_str(include_str!("../conditions.yaml"))
        .expect("conditions.yaml is compiled in and parsed by a unit test")
}

/// Looks up named conditions.
///
/// # Errors
/// Lists the names that exist.
pub fn by_name(name: &str) -> Result<Conditions, ConditionsError> {
    let mut all = named();
    match all.remove(name) {
        Some(found) => Ok(found.conditions),
        None => Err(ConditionsError::Unknown {
            name: name.to_owned(),
            known: all.into_keys().collect::<Vec<_>>().join(", "),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_conditions_are_valid_and_sourced() {
        let all = named();
        assert!(all.len() >= 8);
        for (name, item) in all {
            item.conditions.validate().unwrap_or_else(|e| panic!("{name}: {e}"));
            assert!(item.source.len() > 30, "{name} has no real source");
        }
    }

    #[test]
    fn bad_values_are_named() {
        let bad = Conditions { loss: 1.5, ..Conditions::default() };
        assert!(bad.validate().unwrap_err().to_string().contains("loss is 1.5"));
        let nan = Conditions { duplicate: f64::NAN, ..Conditions::default() };
        assert!(nan.validate().is_err());
        let slow = Conditions::delay_us(MAX_DELAY_US + 1);
        assert!(slow.validate().unwrap_err().to_string().contains("delayUs"));
        assert!(by_name("moon").unwrap_err().to_string().contains("lan"));
        assert!(serde_json::from_str::<Conditions>(r#"{"dealyUs":1}"#).is_err());
    }
}
