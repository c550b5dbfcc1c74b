//! Numbers that are made at each scrape, encoded from within a
//! [`Collector`](prometheus_client::collector::Collector).

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

/// Labels with their values. Whoever gives them bounds their number.
pub type Labels = Vec<(&'static str, String)>;

/// One number without labels.
pub fn one(value: u64) -> [(Labels, u64); 1] {
    [(Labels::new(), value)]
}

/// What only grows; its name is shown with `_total` at the end.
pub fn counters(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: impl IntoIterator<Item = (Labels, u64)>,
) -> fmt::Result {
    each(encoder, MetricType::Counter, (name, help), values, |encoder, value| {
        encoder.encode_counter::<NoLabelSet, u64, f64>(&value, None)
    })
}

/// What goes up and down.
pub fn gauges(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: impl IntoIterator<Item = (Labels, u64)>,
) -> fmt::Result {
    each(encoder, MetricType::Gauge, (name, help), values, |encoder, value| {
        encoder.encode_gauge(&value)
    })
}

fn each(
    encoder: &mut DescriptorEncoder<'_>,
    kind: MetricType,
    (name, help): (&str, &str),
    values: impl IntoIterator<Item = (Labels, u64)>,
    encode: impl Fn(&mut MetricEncoder<'_>, u64) -> fmt::Result,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, kind)?;
    for (labels, value) in values {
        match labels.is_empty() {
            // Else an empty pair of braces would stand behind the name.
            true => encode(&mut family, value)?,
            false => encode(&mut family.encode_family(&labels)?, value)?,
        }
    }
    Ok(())
}
