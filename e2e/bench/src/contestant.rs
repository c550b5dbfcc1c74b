//! A contestant in place: a gateway in each end, their keys exchanged, a first packet across.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use carrick_e2e::run::run;
use carrick_e2e::wait::wait_until;
use x25519_dalek::{PublicKey, StaticSecret};

use crate::control::{SOCKETS, configure, hex};
use crate::ledger::Ledger;
use crate::measure::probe;
use crate::plan::Contestant;
use crate::process::{Process, command};
use crate::programs::Program;
use crate::world::{End, World};

const PORT: u16 = 51820;
const MTU: u32 = 1420;
/// For a gateway to start, and for a first packet to cross.
const SOON: Duration = Duration::from_secs(10);

/// A contestant that carries packets; it ends when dropped.
#[derive(Debug)]
pub struct Tunnel {
    /// The gateways of the near and the far end; none on the plain path.
    pub gateways: Option<[Process; 2]>,
    _sockets: Vec<ControlSocket>,
}

/// A key pair; the same in every run: nothing here is secret.
struct Keys {
    private: [u8; 32],
    public: [u8; 32],
}

impl Keys {
    fn of(seed: u8) -> Self {
        let secret = StaticSecret::from([seed; 32]);
        Self { private: secret.to_bytes(), public: PublicKey::from(&secret).to_bytes() }
    }
}

/// Removed when dropped: not every implementation removes its own, and a stale one can stop the next.
#[derive(Debug)]
struct ControlSocket(PathBuf);

impl Drop for ControlSocket {
    fn drop(&mut self) {
        // Most remove it themselves.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Tunnel {
    /// None: packets go their own way.
    #[must_use]
    pub fn none() -> Self {
        Self { gateways: None, _sockets: Vec::new() }
    }

    /// Starts a contestant's gateways and waits for a first packet across.
    ///
    /// # Errors
    /// When a gateway doesn't start or nothing crosses; with the end of its log.
    pub fn start(
        contestant: Contestant,
        program: &Program,
        world: &World,
        ledger: &Ledger,
    ) -> anyhow::Result<Self> {
        let tunnel = match contestant {
            Contestant::Plain => Self::none(),
            Contestant::Carrick | Contestant::Floor => Self::ours(program, world, ledger)?,
            other => Self::by_control_socket(other, program, world, ledger)?,
        };
        let (near, far) = world.targets(contestant != Contestant::Plain);
        let crossed = wait_until(SOON, "a first packet through the tunnel", || {
            probe::crosses(world, near, far).map_err(|error| format!("{error:#}"))
        });
        let logs = || format!("{}{}", tail(&world.near, ledger), tail(&world.far, ledger));
        crossed.with_context(|| format!("{}: {}", contestant.name(), logs()))?;
        Ok(tunnel)
    }

    /// What a gateway's last words were, if one has ended.
    pub fn last_words(&mut self, world: &World, ledger: &Ledger) -> Option<String> {
        let ends = [&world.near, &world.far].into_iter().zip(self.gateways.iter_mut().flatten());
        let ended = ends.filter_map(|(end, gateway)| gateway.ended().then(|| tail(end, ledger)));
        let words: String = ended.collect();
        (!words.is_empty()).then_some(words)
    }

    fn ours(program: &Program, world: &World, ledger: &Ledger) -> anyhow::Result<Self> {
        let start = |own: &End, other: &End, keys: &Keys, peer: &Keys| {
            let text = format!(
                "interface:\n  name: {}\n  addresses: [{}/24]\n  mtu: {MTU}\n\
                 private_key: {}\nlisten_port: {PORT}\npeers:\n- public_key: {}\n  \
                 endpoint: {}:{PORT}\n  allowed_prefixes: [{}/32]\n",
                own.device,
                own.inner,
                STANDARD.encode(keys.private),
                STANDARD.encode(peer.public),
                other.underlay,
                other.inner
            );
            let settings = program.settings.iter().map(|line| format!("{line}\n"));
            let text = settings.fold(text, |text, line| text + &line);
            let file = ledger.folder().join(format!("{}.yaml", own.device));
            ledger.add_file(&file)?;
            std::fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
            let mut command = command(&own.netns, &program.path);
            command.args(["run", "--config"]).arg(&file).env("RUST_LOG", "warn");
            Process::start(&mut command, &log(own, ledger)?, ledger)
        };
        let (near, far) = (Keys::of(1), Keys::of(2));
        let gateways = [
            start(&world.near, &world.far, &near, &far)?,
            start(&world.far, &world.near, &far, &near)?,
        ];
        Ok(Self { gateways: Some(gateways), _sockets: Vec::new() })
    }

    fn by_control_socket(
        contestant: Contestant,
        program: &Program,
        world: &World,
        ledger: &Ledger,
    ) -> anyhow::Result<Self> {
        let flags: &[&str] = match contestant {
            Contestant::BoringtunCli => &["--foreground", "--disable-drop-privileges"],
            Contestant::Gotatun => {
                &["--foreground", "--disable-drop-privileges", "--verbosity", "error"]
            }
            _ => &["-f"],
        };
        let start = |own: &End, other: &End, keys: &Keys, peer: &Keys| {
            let path = Path::new(SOCKETS).join(format!("{}.sock", own.device));
            ledger.add_file(&path)?;
            let socket = ControlSocket(path);
            let _ = std::fs::remove_file(&socket.0);
            let mut command = command(&own.netns, &program.path);
            command.args(flags).arg(own.device).env("LOG_LEVEL", "error");
            let mut process = Process::start(&mut command, &log(own, ledger)?, ledger)?;
            let request = format!(
                "set=1\nprivate_key={}\nlisten_port={PORT}\nreplace_peers=true\npublic_key={}\n\
                 endpoint={}:{PORT}\nreplace_allowed_ips=true\nallowed_ip={}/32\n\n",
                hex(&keys.private),
                hex(&peer.public),
                other.underlay,
                other.inner
            );
            let name = contestant.name();
            wait_until(SOON, &format!("{name}'s control socket"), || match process.ended() {
                true => Err(format!("it has ended: {}", tail(own, ledger))),
                false => configure(&socket.0, &request).map_err(|error| format!("{error:#}")),
            })?;
            let address = format!("{}/24", own.inner);
            run(own.command("ip").args(["address", "add", &address, "dev", own.device]))?;
            let mtu = MTU.to_string();
            run(own.command("ip").args(["link", "set", own.device, "mtu", &mtu, "up"]))?;
            anyhow::Ok((process, socket))
        };
        let (near, far) = (Keys::of(1), Keys::of(2));
        let (one, one_socket) = start(&world.near, &world.far, &near, &far)?;
        let (two, two_socket) = start(&world.far, &world.near, &far, &near)?;
        Ok(Self { gateways: Some([one, two]), _sockets: vec![one_socket, two_socket] })
    }
}

fn log(end: &End, ledger: &Ledger) -> anyhow::Result<PathBuf> {
    let path = ledger.folder().join(format!("{}.log", end.device));
    ledger.add_file(&path)?;
    Ok(path)
}

fn tail(end: &End, ledger: &Ledger) -> String {
    let path = ledger.folder().join(format!("{}.log", end.device));
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.trim().lines().rev().take(5).collect();
    lines
        .into_iter()
        .rev()
        .fold(format!("\n  log of {}:", end.device), |all, line| format!("{all}\n    {line}"))
}
