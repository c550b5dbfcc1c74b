//! What the kernel dropped because a queue was full: where the machine is too busy, that is where packets
//! end, before or behind the gateways.

use std::collections::BTreeMap;

use anyhow::Context as _;

use crate::world::End;

/// Packets dropped in one end, by queue. A train that a device dropped counts once.
///
/// # Errors
/// When the kernel's figures can't be read.
pub fn dropped(end: &End) -> anyhow::Result<BTreeMap<String, u64>> {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/thread-self/net/{name}"));
    let texts =
        end.netns.run(|| Ok::<_, std::io::Error>([read("snmp")?, read("snmp6")?, read("dev")?]))?;
    let [v4, v6, devices] = texts.context("reading the kernel's figures")?;
    let mut dropped = by_device(&devices);
    for (name, value) in by_name(&v4).chain(by_line(&v6)) {
        if name.ends_with("RcvbufErrors") || name.ends_with("ReasmFails") {
            *dropped.entry(name).or_default() += value;
        }
    }
    dropped.retain(|_, value| *value > 0);
    Ok(dropped)
}

/// /proc/net/snmp: a line of names, then one of values, each after the protocol's name.
fn by_name(text: &str) -> impl Iterator<Item = (String, u64)> {
    let lines: Vec<&str> = text.lines().collect();
    let pairs = lines.chunks_exact(2).flat_map(|pair| {
        let (names, values) = (pair[0].split_whitespace(), pair[1].split_whitespace());
        let protocol = pair[0].split(':').next().unwrap_or_default();
        let named = names.zip(values).skip(1);
        let named =
            named.filter_map(move |(n, v)| Some((format!("{protocol}{n}"), v.parse().ok()?)));
        named.collect::<Vec<_>>()
    });
    pairs.collect::<Vec<_>>().into_iter()
}

/// /proc/net/snmp6: a name and a value on each line.
fn by_line(text: &str) -> impl Iterator<Item = (String, u64)> {
    text.lines().filter_map(|line| {
        let (name, value) = line.split_once(char::is_whitespace)?;
        Some((name.to_owned(), value.trim().parse().ok()?))
    })
}

/// /proc/net/dev: after the name, eight figures of receiving and eight of sending; the fourth of each
/// are drops.
fn by_device(text: &str) -> BTreeMap<String, u64> {
    let devices = text.lines().filter_map(|line| line.split_once(':'));
    devices
        .flat_map(|(name, figures)| {
            let figures: Vec<u64> =
                figures.split_whitespace().filter_map(|figure| figure.parse().ok()).collect();
            let at = |place: usize| figures.get(place).copied().unwrap_or_default();
            let name = name.trim();
            [(format!("{name} in"), at(3)), (format!("{name} out"), at(11))]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_tables_are_read() {
        let snmp = "Ip: Forwarding ReasmFails\nIp: 2 7\nUdp: InDatagrams RcvbufErrors\nUdp: 5 3\n";
        let named: BTreeMap<_, _> = by_name(snmp).collect();
        assert_eq!((named["IpReasmFails"], named["UdpRcvbufErrors"]), (7, 3));
        let six = by_line("Udp6RcvbufErrors                \t4\n").collect::<Vec<_>>();
        assert_eq!(six, [("Udp6RcvbufErrors".to_owned(), 4)]);
        let dev = "Inter-|   Receive\n tun0: 1 2 0 9 0 0 0 0 5 6 0 8 0 0 0 0\n";
        let devices = by_device(dev);
        assert_eq!((devices["tun0 in"], devices["tun0 out"]), (9, 8));
    }
}
