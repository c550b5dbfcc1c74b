//! What the controller orders, parsed.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use carrick_exchange::message::drill::StreamOrder;
use carrick_exchange::probe::stream;
use carrick_exchange::wire;

/// IPv4 and UDP header in bytes.
const HEADERS: usize = 28;
const MOST_STREAMS: u32 = 16;
const MOST_RATE: u32 = 1000;

/// Streams to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The drill.
    pub id: String,
    /// The remote node.
    pub target: Ipv4Addr,
    /// How many streams.
    pub streams: usize,
    /// Between two packets of a stream.
    pub interval: Duration,
    /// Bytes of UDP payload.
    pub size: usize,
    /// Counting begins anew with each.
    pub phase: u32,
    /// The length of one point of the series.
    pub point: Duration,
    /// From when on to be silent.
    pub not_after: SystemTime,
    /// How many connections.
    pub connections: usize,
}

impl Order {
    /// Reads an order, or says what is wrong with it.
    pub fn parse(wire: &StreamOrder) -> Result<Self, String> {
        let within = |name: &str, value: u32, least: u32, most: u32| {
            let fits = (least..=most).contains(&value);
            let error = || format!("{name} of {value} is not within {least}-{most}");
            fits.then_some(value).ok_or_else(error)
        };
        let smallest = (stream::HEADER + HEADERS) as u32;
        let size = within("a size", wire.size, smallest, stream::MAX as u32)? as usize;
        let point = within("a point", wire.point_milliseconds, 100, 60_000)?;
        Ok(Self {
            id: wire.id.clone(),
            target: wire::ipv4(&wire.target, "target").map_err(|error| error.to_string())?,
            streams: within("a number of streams", wire.streams, 1, MOST_STREAMS)? as usize,
            interval: Duration::from_secs(1) / within("a rate", wire.rate, 1, MOST_RATE)?,
            size: size - HEADERS,
            phase: wire.phase,
            point: Duration::from_millis(point.into()),
            not_after: UNIX_EPOCH + Duration::from_secs(wire.not_after.min(u32::MAX.into())),
            connections: within("a number of connections", wire.connections, 0, MOST_STREAMS)?
                as usize,
        })
    }

    /// From when on to be silent. To be asked when the order comes: later steps of the wall clock change nothing.
    pub fn until(&self, now: Instant, wall: SystemTime) -> Instant {
        now + self.not_after.duration_since(wall).unwrap_or_default()
    }
}

#[cfg(test)]
pub(super) fn sample() -> StreamOrder {
    StreamOrder {
        id: "d".to_owned(),
        target: vec![240, 2, 16, 2],
        streams: 2,
        rate: 100,
        size: 128,
        phase: 0,
        point_milliseconds: 100,
        not_after: 4_000_000_000,
        connections: 1,
        fault: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_time_is_read_off_the_wall_clock_once() {
        let order = Order::parse(&sample()).expect("order");
        let (now, wall) = (Instant::now(), UNIX_EPOCH + Duration::from_secs(3_999_999_990));
        assert_eq!(order.until(now, wall), now + Duration::from_secs(10));
        assert_eq!(order.until(now, wall + Duration::from_secs(60)), now, "one that is over");
    }

    #[test]
    fn what_is_out_of_range_is_named() {
        assert_eq!(Order::parse(&sample()).expect("order").interval, Duration::from_millis(10));
        type Spoil = fn(&mut StreamOrder);
        let spoilers: [(&str, Spoil); 6] = [
            ("target", |o| o.target.clear()),
            ("streams of 17", |o| o.streams = 17),
            ("rate of 0", |o| o.rate = 0),
            ("rate of 1001", |o| o.rate = 1001),
            ("size of 9000", |o| o.size = 9000),
            ("point of 0", |o| o.point_milliseconds = 0),
        ];
        for (name, spoil) in spoilers {
            let mut order = sample();
            spoil(&mut order);
            let error = Order::parse(&order).expect_err(name);
            assert!(error.contains(name), "{error}");
        }
    }
}
