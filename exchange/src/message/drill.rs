//! What the controller orders for a failover drill, and what is found.

use std::time::{SystemTime, UNIX_EPOCH};

/// A time as these messages say it: in milliseconds since 1970.
pub fn milliseconds(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or_default()
}

/// A fault that gateways inject, or the agent that is told.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct FaultOrder {
    /// The drill's ID (UID of the FailoverDrill). A gateway runs each once.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The gateway that it is for, by its member name; empty: every gateway.
    #[prost(string, tag = "2")]
    pub gateway: String,
    /// The peer whose paths are hit, by cluster ID; empty where the gateway is hit as a whole.
    #[prost(string, tag = "3")]
    pub cluster: String,
    /// The gateway falls silent, as after a crash.
    #[prost(bool, tag = "4")]
    pub silence: bool,
    /// Datagrams that leave are hit.
    #[prost(bool, tag = "5")]
    pub outbound: bool,
    /// Datagrams that come are hit.
    #[prost(bool, tag = "6")]
    pub inbound: bool,
    /// How many of a thousand are lost, 0–1000.
    #[prost(uint32, tag = "7")]
    pub loss_permille: u32,
    /// How many milliseconds the others take longer, 0–10000.
    #[prost(uint32, tag = "8")]
    pub delay_milliseconds: u32,
    /// By how many milliseconds that varies to both sides, 0–10000.
    #[prost(uint32, tag = "9")]
    pub jitter_milliseconds: u32,
    /// How long it lasts in milliseconds, 1–3600000.
    #[prost(uint32, tag = "10")]
    pub length_milliseconds: u32,
    /// From when on it must not act, in seconds since 1970, whatever was kept across a restart.
    #[prost(uint64, tag = "11")]
    pub not_after: u64,
    /// The gateway announces that it leaves, and comes back in the end.
    #[prost(bool, tag = "12")]
    pub drain: bool,
    /// The far end of the one path that is hit, `address:port`; empty: every path to the peer.
    #[prost(string, tag = "13")]
    pub endpoint: String,
    /// An agent's link to the controller is lost. In orders to agents alone.
    #[prost(bool, tag = "14")]
    pub unlink: bool,
}

/// What became of a fault at one gateway or agent.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct FaultState {
    /// The drill's ID.
    #[prost(string, tag = "1")]
    pub id: String,
    /// When it began, in milliseconds since 1970; 0 when it did not.
    #[prost(uint64, tag = "2")]
    pub from: u64,
    /// When it ended, in milliseconds since 1970; 0 while it acts.
    #[prost(uint64, tag = "3")]
    pub to: u64,
    /// Packets that it dropped.
    #[prost(uint64, tag = "4")]
    pub dropped: u64,
    /// Packets that it delayed.
    #[prost(uint64, tag = "5")]
    pub delayed: u64,
    /// Why it did not begin; empty when it did.
    #[prost(string, tag = "6")]
    pub error: String,
}

/// Streams that an agent sends.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StreamOrder {
    /// The drill's ID. An agent sends for each until it is no longer ordered, or `not_after`.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The remote node's mesh address, 4 bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub target: Vec<u8>,
    /// How many streams, each from a source port of its own, 1–16.
    #[prost(uint32, tag = "3")]
    pub streams: u32,
    /// Packets a second and stream, 1–1000.
    #[prost(uint32, tag = "4")]
    pub rate: u32,
    /// Bytes of each IP packet, 128–1400.
    #[prost(uint32, tag = "5")]
    pub size: u32,
    /// Counting begins anew with each phase.
    #[prost(uint32, tag = "6")]
    pub phase: u32,
    /// Milliseconds of one point of the series, 100–60000.
    #[prost(uint32, tag = "7")]
    pub point_milliseconds: u32,
    /// From when on to be silent, in seconds since 1970.
    #[prost(uint64, tag = "8")]
    pub not_after: u64,
    /// How many connections with requests and answers, 0–16.
    #[prost(uint32, tag = "9")]
    pub connections: u32,
    /// The fault that the agent is to inject itself; without it none, and one that acts ends at once.
    #[prost(message, optional, boxed, tag = "10")]
    pub fault: Option<Box<FaultOrder>>,
}

/// What an agent's streams found.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StreamState {
    /// The drill's ID.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The phase that this is about.
    #[prost(uint32, tag = "2")]
    pub phase: u32,
    /// When counting began, in milliseconds since 1970.
    #[prost(uint64, tag = "3")]
    pub from: u64,
    /// Packets whose fate is known.
    #[prost(uint64, tag = "4")]
    pub sent: u64,
    /// Answers that came more than 200 ms later than the fastest.
    #[prost(uint64, tag = "5")]
    pub late: u64,
    /// To the remote node.
    #[prost(message, optional, tag = "6")]
    pub there: Option<DirectionState>,
    /// Back from it.
    #[prost(message, optional, tag = "7")]
    pub back: Option<DirectionState>,
    /// The median round-trip time in microseconds.
    #[prost(uint64, tag = "8")]
    pub rtt_p50: u64,
    /// The round-trip time that one of a hundred exceeds, in microseconds.
    #[prost(uint64, tag = "9")]
    pub rtt_p99: u64,
    /// For how many milliseconds no stream has had an answer.
    #[prost(uint64, tag = "10")]
    pub silent: u64,
    /// Connections that were opened.
    #[prost(uint32, tag = "11")]
    pub opened: u32,
    /// Connections that never waited longer than their time-out.
    #[prost(uint32, tag = "12")]
    pub survived: u32,
    /// What happened over time.
    #[prost(message, repeated, tag = "13")]
    pub points: Vec<Point>,
    /// Why it does not send; empty when it does.
    #[prost(string, tag = "14")]
    pub error: String,
    /// When the series began, in milliseconds since 1970.
    #[prost(uint64, tag = "15")]
    pub begun: u64,
}

/// One direction of an agent's streams.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct DirectionState {
    /// Packets lost.
    #[prost(uint64, tag = "1")]
    pub lost: u64,
    /// The longest time without an arrival in which something was lost, in microseconds.
    #[prost(uint64, tag = "2")]
    pub longest_gap: u64,
    /// For how long packets were sent in it that were lost, in microseconds.
    #[prost(uint64, tag = "3")]
    pub detection: u64,
    /// From the arrival before the first loss until the one after the last, in microseconds.
    #[prost(uint64, tag = "4")]
    pub recovery: u64,
    /// The longest time between two arrivals, with a loss or without, in microseconds.
    #[prost(uint64, tag = "5")]
    pub longest_pause: u64,
    /// Packets sent back, as far as is known; 0 from agents of older releases, and for the way there, where it is
    /// [`StreamState::sent`].
    #[prost(uint64, tag = "6")]
    pub sent: u64,
}

/// A piece of the series.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Point {
    /// Its number, from the beginning of the drill's first phase.
    #[prost(uint32, tag = "1")]
    pub index: u32,
    /// Packets sent in it whose fate is known.
    #[prost(uint32, tag = "2")]
    pub sent: u32,
    /// Of these, how many got no answer.
    #[prost(uint32, tag = "3")]
    pub lost: u32,
    /// The mean round-trip time of the others in microseconds; 0 for none.
    #[prost(uint32, tag = "4")]
    pub rtt: u32,
}
