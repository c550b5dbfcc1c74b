//! What is done with a tunnel to get figures.

pub mod connections;
pub mod iperf;
pub mod probe;
pub mod tcp;
pub mod udp;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;

use crate::contestant::Tunnel;
use crate::ledger::Ledger;
use crate::plan::Measure;
use crate::world::World;

/// Figures by the key of their metric.
pub type Figures = BTreeMap<String, f64>;

/// Figures in one line, but for those of single rates.
#[must_use]
pub fn in_words(figures: &Figures) -> String {
    let one = |(key, value): (&String, &f64)| format!("{key} {value:.3}");
    figures.iter().filter(|(key, _)| !key.contains(udp::AT)).map(one).collect::<Vec<_>>().join("  ")
}

/// A contestant under measurement.
#[derive(Debug)]
pub struct Subject<'a> {
    /// The two ends.
    pub world: &'a World,
    /// What is between them.
    pub tunnel: &'a Tunnel,
    /// The address of the near end that traffic uses.
    pub near: Ipv4Addr,
    /// That of the far end.
    pub far: Ipv4Addr,
    /// The record of what is started.
    pub ledger: &'a Ledger,
    /// How long a TCP transfer takes.
    pub seconds: u32,
}

impl Subject<'_> {
    /// Takes the figures of one measure.
    ///
    /// # Errors
    /// When traffic can't be sent, or the contestant breaks down under it.
    pub fn measure(&self, measure: Measure) -> anyhow::Result<Figures> {
        match measure {
            Measure::Rtt => probe::idle(self),
            Measure::RttLoaded => probe::loaded(self),
            Measure::Tcp1 => tcp::transfers(self, 1),
            Measure::Tcp4 => tcp::transfers(self, 4),
            Measure::Tcp16 => tcp::transfers(self, 16),
            Measure::Udp64 => udp::ladder(self, 64),
            Measure::Udp512 => udp::ladder(self, 512),
            Measure::Udp1200 => udp::ladder(self, 1200),
            Measure::Connections => connections::rate(self),
            Measure::Memory => self.memory("end"),
        }
    }

    /// The larger of both gateways' resident memory, now and at its highest.
    ///
    /// # Errors
    /// When a gateway has ended.
    pub fn memory(&self, when: &str) -> anyhow::Result<Figures> {
        let mut figures = Figures::new();
        for gateway in self.tunnel.gateways.iter().flatten() {
            let (now, high) = gateway.memory_mib()?;
            for (key, value) in [(format!("memory.{when}"), now), ("memory.high".to_owned(), high)]
            {
                let figure = figures.entry(key).or_insert(0.0);
                *figure = value.max(*figure);
            }
        }
        Ok(figures)
    }

    /// Processor seconds of the near and the far gateway so far; none without a tunnel.
    ///
    /// # Errors
    /// When one has ended.
    pub fn cpu(&self) -> anyhow::Result<Option<[f64; 2]>> {
        let Some([near, far]) = &self.tunnel.gateways else { return Ok(None) };
        Ok(Some([
            near.cpu_seconds().context("the near gateway")?,
            far.cpu_seconds().context("the far gateway")?,
        ]))
    }
}

/// Tells threads to stop when it is dropped: also when a measure fails half-way.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
