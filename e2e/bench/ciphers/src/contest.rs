//! Who takes how long for a packet.

use std::time::{Duration, Instant};

use crate::library::{AwsLc, Library, Ring, TAG};

/// Packets that are sealed in turn: what one send of a lane has, and no more than fits the nearest caches.
const PACKETS: usize = 16;
/// Between two looks at the clock.
const TURNS: usize = 8;

/// Nanoseconds a packet of one way of sealing, packets of one length.
#[derive(Clone, Debug, PartialEq)]
pub struct Cost {
    /// Who.
    pub name: &'static str,
    /// The median of all looks at the clock.
    pub nanoseconds: f64,
}

/// Costs of all ways for packets of `length` bytes, each measured for `time`, in small turns one after
/// the other, so that what else the machine does meets all of them.
///
/// # Errors
/// When a library refuses.
pub fn costs(length: usize, time: Duration) -> anyhow::Result<Vec<Cost>> {
    let key = [7; 32];
    let (ring, aws_lc) = (Ring::new(&key)?, AwsLc::new(&key)?);
    let mut packets = vec![0x5a; PACKETS * (length + TAG)];
    let stride = length + TAG;
    let mut ways: Vec<Way<'_>> = vec![
        ("ring, one at a time", Box::new(|first, packets| each(&ring, first, packets, stride))),
        (
            "aws-lc-rs, one at a time",
            Box::new(|first, packets| each(&aws_lc, first, packets, stride)),
        ),
    ];
    several(&mut ways, key, length);
    let mut looks = vec![Vec::new(); ways.len()];
    let (start, mut number) = (Instant::now(), 0);
    while start.elapsed() < time * ways.len() as u32 {
        for ((_, way), looks) in ways.iter_mut().zip(&mut looks) {
            let start = Instant::now();
            for _ in 0..TURNS {
                way(number, &mut packets)?;
                number += PACKETS as u64;
            }
            looks.push(start.elapsed().as_secs_f64() * 1e9 / (TURNS * PACKETS) as f64);
        }
    }
    let cost = |((name, _), looks): (Way<'_>, Vec<f64>)| Cost { name, nanoseconds: median(looks) };
    Ok(ways.into_iter().zip(looks).map(cost).collect())
}

/// Seals all packets, numbered from the first argument.
type Way<'a> = (&'static str, Box<dyn FnMut(u64, &mut [u8]) -> anyhow::Result<()> + 'a>);

fn each(
    library: &impl Library,
    first: u64,
    packets: &mut [u8],
    stride: usize,
) -> anyhow::Result<()> {
    let packets = packets.chunks_exact_mut(stride);
    (first..).zip(packets).try_for_each(|(number, packet)| library.seal(number, packet))
}

#[cfg(target_arch = "x86_64")]
fn several(ways: &mut Vec<Way<'_>>, key: [u8; 32], length: usize) {
    use crate::several::{can, seal};
    if !can() {
        return;
    }
    let eight = move |first: u64, packets: &mut [u8]| {
        let half = packets.len() / 2;
        seal::<8>(&key, first, &mut packets[..half], length);
        seal::<8>(&key, first + 8, &mut packets[half..], length);
        Ok(())
    };
    let sixteen = move |first: u64, packets: &mut [u8]| {
        seal::<16>(&key, first, packets, length);
        Ok(())
    };
    ways.push(("prototype, 8 at once", Box::new(eight)));
    ways.push(("prototype, 16 at once", Box::new(sixteen)));
}

#[cfg(not(target_arch = "x86_64"))]
fn several(_: &mut Vec<Way<'_>>, _: [u8; 32], _: usize) {}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_has_a_cost() {
        let costs = costs(64, Duration::from_millis(5)).expect("costs");
        assert!(costs.len() >= 2 && costs.iter().all(|cost| cost.nanoseconds > 0.0), "{costs:?}");
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
    }
}
