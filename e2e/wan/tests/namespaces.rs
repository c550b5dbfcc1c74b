//! The emulator between real namespaces. Needs root.

use carrick_wan::config::LinkConfig;
use carrick_wan::netns::{Netns, add_address};
use carrick_wan::{Conditions, Config, Control, Emulator, SiteConfig};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

const ADDRESSES: [[&str; 2]; 2] = [["172.31.1.1", "172.31.2.1"], ["fd31:1::1", "fd31:2::1"]];

struct World {
    paris: Netns,
    osaka: Netns,
}

impl World {
    fn new() -> Self {
        assert!(
            nix::unistd::geteuid().is_root(),
            "these tests make network namespaces: run as root"
        );
        let world = Self { paris: Netns::create().unwrap(), osaka: Netns::create().unwrap() };
        for (side, netns) in [&world.paris, &world.osaka].into_iter().enumerate() {
            netns
                .run(|| {
                    add_address("lo", format!("{}/32", ADDRESSES[0][side]).parse().unwrap())?;
                    add_address("lo", format!("{}/128", ADDRESSES[1][side]).parse().unwrap())
                })
                .unwrap()
                .unwrap();
        }
        world
    }

    fn sites(&self) -> Vec<SiteConfig> {
        let site = |name: &str, netns: &Netns, v4: &str, v6: &str| {
            let prefixes = vec![v4.parse().unwrap(), v6.parse().unwrap()];
            SiteConfig::new(name.into(), netns.path(), prefixes)
        };
        vec![
            site("paris", &self.paris, "172.31.1.0/24", "fd31:1::/32"),
            site("osaka", &self.osaka, "172.31.2.0/24", "fd31:2::/32"),
        ]
    }

    /// A socket in paris, connected to one in osaka that a thread echoes from until it has
    /// heard nothing for five seconds.
    fn echo(&self, family: usize) -> UdpSocket {
        let [near, far] = ADDRESSES[family];
        let server = self.osaka.run(|| UdpSocket::bind((far, 0)).unwrap()).unwrap();
        server.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let target = server.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 2048];
            while let Ok((len, from)) = server.recv_from(&mut buffer) {
                server.send_to(&buffer[..len], from).unwrap();
            }
        });
        let client = self.paris.run(|| UdpSocket::bind((near, 0)).unwrap()).unwrap();
        client.connect(target).unwrap();
        client.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        client
    }
}

/// Sends and waits for the echo; the round trip, or none if nothing came.
fn ping(client: &UdpSocket, size: usize) -> Option<Duration> {
    let start = Instant::now();
    client.send(&vec![7; size]).ok()?;
    let mut buffer = [0; 2048];
    let len = client.recv(&mut buffer).ok()?;
    assert_eq!(len, size);
    Some(start.elapsed())
}

fn both(emulator: &Emulator, conditions: &Conditions) {
    emulator.set("paris", "osaka", conditions.clone()).unwrap();
    emulator.set("osaka", "paris", conditions.clone()).unwrap();
}

#[test]
fn one_namespace_may_be_a_site_of_two_networks() {
    let world = World::new();
    let mut sites = Vec::new();
    for mut site in world.sites() {
        let v6 = site.prefixes.split_off(1);
        let name = format!("{}-private", site.name);
        let private = SiteConfig::new(name, site.netns.clone(), v6);
        sites.extend([site, SiteConfig { network: "private0".into(), ..private }]);
    }
    let emulator = Emulator::start(Config::new(sites)).unwrap();
    let clients = [0, 1].map(|family| world.echo(family));
    let reached = || [0, 1].map(|family: usize| ping(&clients[family], 100).is_some());
    assert_eq!(reached(), [true; 2]);
    emulator.set_cut("osaka", "paris", true).unwrap();
    assert_eq!(reached(), [false, true]);
    emulator.set_cut("osaka", "paris", false).unwrap();
    emulator.set_cut("paris-private", "osaka-private", true).unwrap();
    assert_eq!(reached(), [true, false]);
}

#[test]
fn networks_are_apart_and_have_names_that_devices_can_have() {
    let world = World::new();
    let config = |network: &str, links: Vec<LinkConfig>| {
        let mut sites = world.sites();
        sites[1].network = network.into();
        Config { links, ..Config::new(sites) }.validate().unwrap_err().to_string()
    };
    for name in ["", "a name", "sixteen-letters0"] {
        assert!(config(name, Vec::new()).contains("names a device"), "{name:?}");
    }
    let conditions = Some(Conditions::default());
    let (from, to) = ("paris".to_owned(), "osaka".to_owned());
    let link = LinkConfig { from, to, named: None, conditions };
    assert!(config("private0", vec![link]).contains("from one network to another"));
}

#[test]
fn round_trip_cut_and_change_in_both_families() {
    let world = World::new();
    let emulator = Emulator::start(Config::new(world.sites())).unwrap();
    for family in 0..2 {
        both(&emulator, &Conditions::delay_us(10_000));
        let client = world.echo(family);
        // The least of several: a shared machine may be late, but must never be early.
        let least = (0..10).filter_map(|_| ping(&client, 100)).min().expect("an echo");
        let range = Duration::from_micros(20_000)..Duration::from_micros(22_000);
        assert!(range.contains(&least), "{least:?}");

        emulator.set_cut("osaka", "paris", true).unwrap();
        assert_eq!(ping(&client, 100), None);
        emulator.set_cut("osaka", "paris", false).unwrap();
        assert!(ping(&client, 100).is_some());

        both(&emulator, &Conditions::default());
        let least = (0..10).filter_map(|_| ping(&client, 100)).min().expect("an echo");
        assert!(least < Duration::from_millis(5), "{least:?}");
    }
    let stats = emulator.stats().unwrap();
    assert_eq!(stats.direction("osaka", "paris").unwrap().dropped.cut, 2);
    assert_eq!(stats.unintended(), 0);
}

#[test]
fn small_packets_only() {
    let world = World::new();
    let emulator = Emulator::start(Config::new(world.sites())).unwrap();
    both(&emulator, &carrick_wan::conditions::by_name("small-packets-only").unwrap());
    let client = world.echo(0);
    assert!(ping(&client, 900).is_some());
    assert_eq!(ping(&client, 1200), None);
    let stats = emulator.stats().unwrap();
    assert_eq!(stats.direction("paris", "osaka").unwrap().dropped.filtered, 1);
}

#[test]
fn too_big_is_answered_unless_it_is_a_black_hole() {
    let world = World::new();
    let emulator = Emulator::start(Config::new(world.sites())).unwrap();
    for family in 0..2 {
        let client = world.echo(family);
        let black_hole = Conditions { mtu: Some(1300), ..Conditions::default() };
        emulator.set("paris", "osaka", black_hole.clone()).unwrap();
        assert_eq!(ping(&client, 1400), None);
        assert_eq!(ping(&client, 1400), None, "nobody told the sender");

        let honest = Conditions { icmp_too_big: true, ..black_hole };
        emulator.set("paris", "osaka", honest).unwrap();
        assert_eq!(ping(&client, 1400), None);
        assert!(ping(&client, 1400).is_some(), "the sender knows and fragments");
    }
    let stats = emulator.stats().unwrap();
    let direction = stats.direction("paris", "osaka").unwrap();
    assert_eq!((direction.dropped.too_big, direction.too_big_answers), (6, 2));
    assert_eq!(stats.unintended(), 0);
}

#[test]
fn what_the_emulator_loses_is_named_with_its_place() {
    let world = World::new();
    let mut config = Config::new(world.sites());
    config.buffers_per_site = 64;
    let emulator = Emulator::start(config).unwrap();
    both(&emulator, &Conditions::delay_us(2_000_000));
    let client = world.echo(0);
    for _ in 0..100 {
        client.send(b"more than there are buffers").unwrap();
    }
    let deadline = Instant::now() + Duration::from_secs(5);
    let stats = loop {
        let stats = emulator.stats().unwrap();
        let seen = stats.direction("paris", "osaka").unwrap().received + stats.unintended();
        if seen >= 100 || Instant::now() > deadline {
            break stats;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    assert_eq!(stats.sites[0].unintended.pool_exhausted, 36);
    assert!(stats.verdict().contains("(paris: hold queue 36)"), "{}", stats.verdict());
}

/// The program with a control socket; killed when dropped.
struct Program {
    child: Child,
    control: PathBuf,
}

impl Program {
    fn start(world: &World, name: &str) -> Self {
        let control =
            std::env::temp_dir().join(format!("carrick-wan-{}-{name}.sock", std::process::id()));
        let mut command = Command::new(env!("CARGO_BIN_EXE_carrick-wan"));
        command.arg("run").arg("--control").arg(&control);
        for site in world.sites() {
            command.arg("--site").arg(format!("{}={}", site.name, site.netns.display()));
            for prefix in site.prefixes {
                command.arg("--route").arg(format!("{}={prefix}", site.name));
            }
        }
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Self { child, control }
    }

    fn stop(&mut self, signal: Signal) -> ExitStatus {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
        self.child.wait().unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            self.stop(Signal::SIGKILL);
        }
        let _ = std::fs::remove_file(&self.control);
    }
}

fn has_device(netns: &Netns) -> bool {
    netns.run(|| nix::net::if_::if_nametoindex("wan0").is_ok()).unwrap()
}

#[test]
fn control_socket_changes_the_program_and_refuses_nonsense() {
    let world = World::new();
    let program = Program::start(&world, "control");
    let client = world.echo(0);
    assert!(ping(&client, 100).is_some());
    let mut control = Control::connect(&program.control).unwrap();
    control.cut("paris", "osaka").unwrap();
    assert_eq!(ping(&client, 100), None);
    control.restore("paris", "osaka").unwrap();
    let slow = Conditions::delay_us(30_000);
    control.set("paris", "osaka", &slow).unwrap();
    assert_eq!(control.get("paris", "osaka").unwrap(), slow);
    assert!(ping(&client, 100).unwrap() >= Duration::from_millis(30));
    control.reset().unwrap();
    assert_eq!(control.get("paris", "osaka").unwrap(), Conditions::default());

    let refusal = control.cut("paris", "kyoto").unwrap_err().to_string();
    assert!(refusal.contains("kyoto"), "{refusal}");
    let bad = Conditions { loss: 2.0, ..Conditions::default() };
    let refusal = control.set("paris", "osaka", &bad).unwrap_err().to_string();
    assert!(refusal.contains("loss is 2"), "{refusal}");
    let dropped = &control.stats().unwrap();
    assert_eq!(dropped.direction("paris", "osaka").unwrap().dropped.cut, 1);
    assert_eq!(dropped.unintended(), 0);
}

#[test]
fn devices_vanish_on_sigterm_and_on_sigkill() {
    for (signal, name) in [(Signal::SIGTERM, "term"), (Signal::SIGKILL, "kill")] {
        let world = World::new();
        let mut program = Program::start(&world, name);
        assert!(has_device(&world.paris) && has_device(&world.osaka));
        let status = program.stop(signal);
        assert_eq!(status.success(), signal == Signal::SIGTERM, "{status}");
        assert!(!has_device(&world.paris) && !has_device(&world.osaka));
        assert_eq!(program.control.exists(), signal == Signal::SIGKILL);
        // What was left behind doesn't block the next.
        let next = Program::start(&world, name);
        assert!(Control::connect(&next.control).unwrap().stats().is_ok());
    }
}

#[test]
fn a_missing_namespace_is_named() {
    let world = World::new();
    let mut sites = world.sites();
    sites[1].netns = "/nonexistent/netns".into();
    let Err(error) = Emulator::start(Config::new(sites)) else {
        panic!("started without a namespace");
    };
    assert!(error.to_string().contains("osaka"), "{error}");
}
