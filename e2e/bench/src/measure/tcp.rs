//! TCP transfers: there, back and both ways at once, with what they cost the gateways.

use crate::measure::iperf::{Transfer, Way, client, parse, server};
use crate::measure::{Figures, Subject};
use crate::metric::tcp_key;

/// Speeds and costs of transfers with this many streams.
///
/// # Errors
/// When iperf3 fails, or a gateway ends.
pub fn transfers(subject: &Subject<'_>, streams: u32) -> anyhow::Result<Figures> {
    let mut figures = Figures::new();
    for (way, name) in [(Way::There, "there"), (Way::Back, "back"), (Way::Both, "both")] {
        // One server for each: a gateway that loses the end of a transfer would leave it busy for the next.
        let _server = server(subject)?;
        let before = subject.cpu()?;
        let transfer = parse(&client(subject, way, streams, subject.seconds)?.output()?)?;
        let after = subject.cpu()?;
        figures.insert(tcp_key(streams, name), transfer.bits_per_second / 1e9);
        if let (Some(before), Some(after)) = (before, after) {
            let spent = [after[0] - before[0], after[1] - before[1]];
            for (side, cost) in costs(way, spent, transfer) {
                figures.insert(tcp_key(streams, &format!("{name}.{side}")), cost);
            }
        }
    }
    Ok(figures)
}

/// The speed of one transfer there, in Gbit/s.
///
/// # Errors
/// When iperf3 fails.
pub fn there(subject: &Subject<'_>, streams: u32) -> anyhow::Result<f64> {
    let _server = server(subject)?;
    let transfer = parse(&client(subject, Way::There, streams, subject.seconds)?.output()?)?;
    Ok(transfer.bits_per_second / 1e9)
}

/// Processor seconds per 10⁹ bytes by side, from those that the near and the far gateway spent.
fn costs(way: Way, [near, far]: [f64; 2], transfer: Transfer) -> Vec<(&'static str, f64)> {
    let per_gb = |seconds: f64| seconds / (transfer.bytes / 1e9);
    match way {
        Way::There => vec![("send", per_gb(near)), ("receive", per_gb(far))],
        Way::Back => vec![("send", per_gb(far)), ("receive", per_gb(near))],
        Way::Both => vec![("each", per_gb(f64::midpoint(near, far)))],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_follow_the_way_of_the_bytes() {
        let transfer = Transfer { bytes: 2e9, bits_per_second: 1e9 };
        let spent = [4.0, 2.0];
        assert_eq!(costs(Way::There, spent, transfer), [("send", 2.0), ("receive", 1.0)]);
        assert_eq!(costs(Way::Back, spent, transfer), [("send", 1.0), ("receive", 2.0)]);
        assert_eq!(costs(Way::Both, spent, transfer), [("each", 1.5)]);
    }
}
