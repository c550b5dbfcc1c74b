//! iperf3: its command lines, and what it says.

use std::time::Duration;

use anyhow::{Context as _, bail};
use carrick_e2e::wait::wait_until;
use serde_json::Value;

use crate::measure::Subject;
use crate::process::{Process, command};

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the near end to the far one.
    There,
    /// From the far end to the near one.
    Back,
    /// Both at once.
    Both,
}

/// What arrived.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Transfer {
    /// Bytes that arrived, both ways together.
    pub bytes: f64,
    /// Bits a second, both ways together.
    pub bits_per_second: f64,
}

/// Its port.
const PORT: u16 = 5201;
/// For a server to start.
const SOON: Duration = Duration::from_secs(10);

/// Starts a server in the far end, and waits until it listens; it serves one client after another.
///
/// # Errors
/// When it can't be started.
pub fn server(subject: &Subject<'_>) -> anyhow::Result<Process> {
    let mut server = command(&subject.world.far.netns, "iperf3");
    server.args(["--server", "--bind", &subject.far.to_string()]);
    let log = subject.ledger.folder().join("iperf3.log");
    subject.ledger.add_file(&log)?;
    let server = Process::start(&mut server, &log, subject.ledger)?;
    // Looked at, not tried: it would take a try for a client, and turn away others meanwhile.
    let sockets = format!("/proc/{}/net/tcp", server.pid());
    wait_until(SOON, "iperf3's server", || {
        let table = std::fs::read_to_string(&sockets).map_err(|error| error.to_string())?;
        if listens(&table, PORT) { Ok(()) } else { Err("it does not listen yet".to_owned()) }
    })?;
    Ok(server)
}

/// Whether a table of TCP sockets, as the kernel writes it, has one that listens on a port.
fn listens(table: &str, port: u16) -> bool {
    let (port, listening) = (format!(":{port:04X}"), "0A");
    let mut rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.any(|row| matches!(row[..], [_, own, _, state, ..] if own.ends_with(&port) && state == listening))
}

/// Starts a client in the near end.
///
/// # Errors
/// When it can't be started.
pub fn client(
    subject: &Subject<'_>,
    way: Way,
    streams: u32,
    seconds: u32,
) -> anyhow::Result<Process> {
    let mut client = command(&subject.world.near.netns, "iperf3");
    client.args(["--client", &subject.far.to_string(), "--json", "--connect-timeout", "3000"]);
    client.args(["--time", &seconds.to_string(), "--parallel", &streams.to_string()]);
    match way {
        Way::There => {}
        Way::Back => {
            client.arg("--reverse");
        }
        Way::Both => {
            client.arg("--bidir");
        }
    }
    Process::start_piped(&mut client, subject.ledger)
}

/// Reads what a client said.
///
/// # Errors
/// Its own, or when it is not what iperf3 says.
pub fn parse(text: &str) -> anyhow::Result<Transfer> {
    let said: Value = serde_json::from_str(text)
        .with_context(|| format!("iperf3 said no JSON: {:?}", text.get(..200).unwrap_or(text)))?;
    if let Some(error) = said["error"].as_str() {
        bail!("iperf3: {error}");
    }
    let end = &said["end"];
    let there = sum(&end["sum_received"]).context("iperf3 gave no sum of received bytes")?;
    // Only with traffic both ways.
    let back = sum(&end["sum_received_bidir_reverse"]);
    let back = back.unwrap_or(Transfer { bytes: 0.0, bits_per_second: 0.0 });
    Ok(Transfer {
        bytes: there.bytes + back.bytes,
        bits_per_second: there.bits_per_second + back.bits_per_second,
    })
}

fn sum(value: &Value) -> Option<Transfer> {
    let bytes = value["bytes"].as_f64()?;
    Some(Transfer { bytes, bits_per_second: value["bits_per_second"].as_f64()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listening_socket_is_told_from_a_connected_one() {
        let head = "  sl  local_address rem_address   st tx_queue rx_queue\n";
        let row = |state: &str| format!("{head}   0: 020200C0:1451 00000000:0000 {state} 0:0 0\n");
        assert!(listens(&row("0A"), 5201));
        assert!(!listens(&row("01"), 5201) && !listens(&row("0A"), 5202) && !listens(head, 5201));
    }

    #[test]
    fn one_way_and_both_are_read() {
        let one = r#"{"start":{},"end":{"sum_sent":{"bytes":9,"bits_per_second":9.0},
            "sum_received":{"start":0,"seconds":2.0,"bytes":5000,"bits_per_second":20000.5}}}"#;
        assert_eq!(parse(one).expect("read"), Transfer { bytes: 5000.0, bits_per_second: 20000.5 });
        let both = r#"{"end":{"sum_received":{"bytes":5,"bits_per_second":1.5},
            "sum_received_bidir_reverse":{"bytes":7,"bits_per_second":2.0}}}"#;
        assert_eq!(parse(both).expect("read"), Transfer { bytes: 12.0, bits_per_second: 3.5 });
    }

    #[test]
    fn its_own_error_is_handed_on() {
        let text = r#"{"end":{},"error":"error - unable to connect to server"}"#;
        assert!(parse(text).expect_err("failed").to_string().contains("unable to connect"));
        assert!(parse("{}").expect_err("empty").to_string().contains("no sum"));
        assert!(parse("iperf3: x").expect_err("no JSON").to_string().contains("no JSON"));
    }
}
