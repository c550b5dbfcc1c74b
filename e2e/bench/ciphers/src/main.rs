//! `carrick-ciphers`: a table of what a packet costs. Only a release build says anything.

use std::time::Duration;

use carrick_ciphers::contest::costs;

/// Lengths of inner packets in bytes: full, and a bare acknowledgement's or a small datagram's.
const LENGTHS: [usize; 2] = [1420, 64];

fn main() -> anyhow::Result<()> {
    if cfg!(debug_assertions) {
        anyhow::bail!("figures of a debug build mean nothing; run it with `--release`");
    }
    for length in LENGTHS {
        let costs = costs(length, Duration::from_secs(1))?;
        let first = costs.first().map_or(f64::NAN, |cost| cost.nanoseconds);
        for cost in costs {
            let (name, ns) = (cost.name, cost.nanoseconds);
            let gbits = (length * 8) as f64 / ns;
            println!(
                "| {length} B | {name} | {ns:.0} ns | {gbits:.1} Gbit/s | {:.2}× |",
                first / ns
            );
        }
    }
    Ok(())
}
