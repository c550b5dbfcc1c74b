//! A gateway in an end, ours or wireguard-go, and what it says of itself.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use carrick_bench::control::{SOCKETS, configure, hex};
use carrick_bench::ledger::Ledger;
use carrick_bench::process::{Process, command};
use carrick_e2e::run::run;
use carrick_e2e::wait::wait_until;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use x25519_dalek::{PublicKey, StaticSecret};

use crate::world::End;

/// Where gateways listen.
pub const PORT: u16 = 51820;
const MTU: u32 = 1420;
const METRICS: &str = "127.0.0.1:9586";
/// The preshared key; nothing here is secret.
const PSK: [u8; 32] = [3; 32];
/// For a gateway to start or to end.
const SOON: Duration = Duration::from_secs(10);

/// Whose program it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// carrick-gateway, standalone.
    Carrick,
    /// wireguard-go.
    WireguardGo,
}

/// The programs of both kinds.
#[derive(Clone, Debug)]
pub struct Programs {
    /// Our gateway.
    pub carrick: PathBuf,
    /// wireguard-go; an empty path where it takes no part.
    pub wireguard_go: PathBuf,
}

/// A gateway that runs; it ends when dropped.
pub struct Gateway {
    /// The process.
    pub process: Process,
    kind: Kind,
    place: Place,
}

/// What a gateway keeps over a restart.
#[derive(Clone)]
struct Place {
    program: PathBuf,
    device: String,
    folder: PathBuf,
    private: StaticSecret,
    peer: PublicKey,
    /// Where the peer listens; none waits to be called.
    endpoint: Option<SocketAddr>,
    /// The peer's addresses.
    prefixes: [String; 2],
}

/// The key of a side, 0 or 1; the same in every run.
fn secret(side: usize) -> StaticSecret {
    StaticSecret::from([side as u8 + 1; 32])
}

/// Its public half.
#[must_use]
pub fn public_key(side: usize) -> PublicKey {
    PublicKey::from(&secret(side))
}

/// Both gateways of a pair of ends. The first calls the second, which learns the first's endpoint.
///
/// # Errors
/// When one does not start, with the end of its log.
pub fn start_pair(
    ends: [&End; 2],
    kinds: [Kind; 2],
    programs: &Programs,
    ledger: &Ledger,
) -> anyhow::Result<[Gateway; 2]> {
    let start = |own: usize| {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let (other, number) = (ends[1 - own], NEXT.fetch_add(1, Ordering::Relaxed));
        let place = Place {
            program: match kinds[own] {
                Kind::Carrick => programs.carrick.clone(),
                Kind::WireguardGo => programs.wireguard_go.clone(),
            },
            // The names of control sockets are shared by all network namespaces.
            device: format!("ce{}x{number}", std::process::id()),
            folder: ledger.folder().to_owned(),
            private: secret(own),
            peer: public_key(1 - own),
            endpoint: (own == 0).then(|| SocketAddr::from((other.underlay, PORT))),
            prefixes: other.inner.map(|a| format!("{a}/{}", if a.is_ipv4() { 32 } else { 128 })),
        };
        Gateway::start(kinds[own], place, ends[own], ledger)
    };
    // Who waits is there first.
    let second = start(1)?;
    Ok([start(0)?, second])
}

impl Gateway {
    fn start(kind: Kind, place: Place, end: &End, ledger: &Ledger) -> anyhow::Result<Self> {
        for file in [place.config(), place.log(), place.socket()] {
            ledger.add_file(&file)?;
        }
        let process = match kind {
            Kind::Carrick => place.carrick(end, ledger),
            Kind::WireguardGo => place.wireguard_go(end, ledger),
        };
        let process =
            process.with_context(|| format!("{}: {}", place.device, place.last_words()))?;
        Ok(Self { process, kind, place })
    }

    /// Ends the process and starts another in its place.
    ///
    /// # Errors
    /// When the old one does not end, or the new one does not start.
    pub fn restart(&mut self, end: &End, ledger: &Ledger) -> anyhow::Result<()> {
        self.signal(Signal::SIGTERM)?;
        wait_until(SOON, "the gateway's end", || match self.process.ended() {
            true => Ok(()),
            false => Err("it runs".to_owned()),
        })?;
        *self = Self::start(self.kind, self.place.clone(), end, ledger)?;
        Ok(())
    }

    /// Makes ours read its file again, with `more` peers that never answer.
    ///
    /// # Errors
    /// When the file can't be written or the process is gone.
    pub fn reload(&self, more: u8) -> anyhow::Result<()> {
        self.place.write_config(more)?;
        self.signal(Signal::SIGHUP)
    }

    /// Whose it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Its last words, if it has ended by itself.
    pub fn last_words(&mut self) -> Option<String> {
        self.process.ended().then(|| self.place.last_words())
    }

    /// What ours counts: names without their common prefix, with labels, and values.
    ///
    /// # Errors
    /// When its metrics can't be read.
    pub fn counters(&self, end: &End) -> anyhow::Result<Vec<(String, u64)>> {
        let mut text = String::new();
        end.netns
            .run(|| {
                let mut stream = TcpStream::connect(METRICS)?;
                stream.set_read_timeout(Some(SOON))?;
                stream.write_all(b"GET /metrics HTTP/1.0\r\nConnection: close\r\n\r\n")?;
                stream.read_to_string(&mut text)
            })?
            .with_context(|| format!("metrics of {}", self.place.device))?;
        Ok(parse(&text))
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        kill(Pid::from_raw(self.process.pid()), signal).context("signalling a gateway")
    }
}

fn parse(metrics: &str) -> Vec<(String, u64)> {
    let ours = metrics.lines().filter_map(|line| line.strip_prefix("carrick_gateway_"));
    ours.filter_map(|line| {
        let (name, value) = line.rsplit_once(' ')?;
        Some((name.to_owned(), value.parse().ok()?))
    })
    .collect()
}

impl Place {
    fn config(&self) -> PathBuf {
        self.folder.join(format!("{}.yaml", self.device))
    }

    fn log(&self) -> PathBuf {
        self.folder.join(format!("{}.log", self.device))
    }

    fn socket(&self) -> PathBuf {
        Path::new(SOCKETS).join(format!("{}.sock", self.device))
    }

    fn last_words(&self) -> String {
        let text = std::fs::read_to_string(self.log()).unwrap_or_default();
        let start = text.trim().rmatch_indices('\n').nth(4).map_or(0, |(at, _)| at + 1);
        text.trim()[start..].to_owned()
    }

    fn write_config(&self, more: u8) -> anyhow::Result<()> {
        let Self { device, endpoint, prefixes: [v4, v6], .. } = self;
        let endpoint = endpoint.map_or(String::new(), |at| format!("  endpoint: {at}\n"));
        let mut text = format!(
            "interface:\n  name: {device}\n  mtu: {MTU}\nprivate_key: {}\nlisten_port: {PORT}\n\
             metrics: {METRICS}\npeers:\n- name: other\n  public_key: {}\n  preshared_key: {}\n\
             {endpoint}  allowed_prefixes: ['{v4}', '{v6}']\n",
            STANDARD.encode(self.private.as_bytes()),
            STANDARD.encode(self.peer.as_bytes()),
            STANDARD.encode(PSK),
        );
        for number in 0..more {
            let key = PublicKey::from(&StaticSecret::from([100 + number; 32]));
            let key = STANDARD.encode(key.as_bytes());
            text += &format!("- public_key: {key}\n  allowed_prefixes: [203.0.113.{number}/32]\n");
        }
        std::fs::write(self.config(), text)
            .with_context(|| format!("writing {}", self.config().display()))
    }

    fn carrick(&self, end: &End, ledger: &Ledger) -> anyhow::Result<Process> {
        self.write_config(0)?;
        let mut command = command(&end.netns, &self.program);
        command.args(["run", "--config"]).arg(self.config()).env("RUST_LOG", "warn");
        let mut process = Process::start(&mut command, &self.log(), ledger)?;
        // Its routes come last, those of IPv6 after those of IPv4.
        wait_until(SOON, "the gateway's routes", || match process.ended() {
            true => Err("it has ended".to_owned()),
            false => {
                let mut routes = end.command("ip");
                routes.args(["-6", "route", "show", "dev", &self.device]);
                let shown = run(&mut routes).map_err(|error| error.to_string())?;
                shown.contains("fd98:").then_some(()).ok_or(shown)
            }
        })?;
        Ok(process)
    }

    fn wireguard_go(&self, end: &End, ledger: &Ledger) -> anyhow::Result<Process> {
        // One that was killed leaves its own, which stops the next.
        let _ = std::fs::remove_file(self.socket());
        let mut command = command(&end.netns, &self.program);
        command.args(["-f", &self.device]).env("LOG_LEVEL", "error");
        let mut process = Process::start(&mut command, &self.log(), ledger)?;
        let endpoint = self.endpoint.map_or(String::new(), |at| format!("endpoint={at}\n"));
        let [v4, v6] = &self.prefixes;
        let request = format!(
            "set=1\nprivate_key={}\nlisten_port={PORT}\nreplace_peers=true\npublic_key={}\n\
             preshared_key={}\n{endpoint}replace_allowed_ips=true\nallowed_ip={v4}\n\
             allowed_ip={v6}\n\n",
            hex(self.private.as_bytes()),
            hex(self.peer.as_bytes()),
            hex(&PSK),
        );
        wait_until(SOON, "the control socket", || match process.ended() {
            true => Err("it has ended".to_owned()),
            false => configure(&self.socket(), &request).map_err(|error| format!("{error:#}")),
        })?;
        let mtu = MTU.to_string();
        run(end.command("ip").args(["link", "set", &self.device, "mtu", &mtu, "up"]))?;
        for prefix in &self.prefixes {
            run(end.command("ip").args(["route", "add", prefix, "dev", &self.device]))?;
        }
        Ok(process)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_with_their_labels() {
        let text = "# TYPE x counter\ncarrick_gateway_tunnel_sessions_total{peer=\"other\"} 3\n\
                    other 4\ncarrick_gateway_dropped_packets_total{reason=\"replayed\"} 12\n";
        let expected = [
            ("tunnel_sessions_total{peer=\"other\"}".to_owned(), 3),
            ("dropped_packets_total{reason=\"replayed\"}".to_owned(), 12),
        ];
        assert_eq!(parse(text), expected);
    }
}
