//! Network namespaces that a test makes and takes away again.

use std::fs::File;
use std::net::{IpAddr, UdpSocket};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};

/// A network namespace, removed with all that is in it when dropped.
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// A fresh one, with loopback up.
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        assert!(
            nix::unistd::geteuid().is_root(),
            "this test makes network namespaces and needs root: run it as root"
        );
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("cgw-{}-{number}", std::process::id());
        run(Command::new("ip").args(["netns", "add", &name]));
        let namespace = Self { name };
        namespace.ip("link set lo up");
        namespace
    }

    /// Runs `ip` in it; words are split at blanks.
    pub fn ip(&self, arguments: &str) {
        run(Command::new("ip").args(["-n", &self.name]).args(arguments.split_whitespace()));
    }

    /// A command that will run in it.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// Runs a command in it and says how it went.
    pub fn output(&self, line: &str) -> Output {
        let mut words = line.split_whitespace();
        let mut command = self.command(words.next().expect("a program"));
        command.args(words).output().expect("the command runs")
    }

    /// Whether a command in it succeeds.
    pub fn succeeds(&self, line: &str) -> bool {
        self.output(line).status.success()
    }

    /// Does something on a thread inside it; threads started there stay inside.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let path = format!("/run/netns/{}", self.name);
        std::thread::scope(|scope| {
            let worker = scope.spawn(|| {
                let file = File::open(path).expect("the namespace's file");
                setns(file, CloneFlags::CLONE_NEWNET).expect("to enter the namespace");
                work()
            });
            worker.join().expect("the work succeeds")
        })
    }

    /// Joins it with another by a cable; each end gets a name and an address, and is up.
    pub fn cable(&self, end: (&str, &str), other: &Self, other_end: (&str, &str)) {
        self.ip(&format!(
            "link add {} type veth peer name {} netns {}",
            end.0, other_end.0, other.name
        ));
        for (namespace, (device, address)) in [(self, end), (other, other_end)] {
            namespace.ip(&format!("addr add {address} dev {device} nodad"));
            namespace.ip(&format!("link set {device} up"));
        }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Best effort: an error here would hide the test's own.
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).status();
    }
}

fn run(command: &mut Command) {
    let output = command.output().expect("iproute2 is installed");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {complaint}");
}

/// Asks until the answer is yes; fails with `what` after ten seconds.
pub fn eventually(what: &str, is_so: impl FnMut() -> bool) {
    within(Duration::from_secs(10), what, is_so);
}

/// Asks until the answer is yes; fails with `what` after so long.
pub fn within(patience: Duration, what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + patience;
    while !is_so() {
        assert!(Instant::now() < deadline, "not within {patience:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Sends a UDP packet of `size` bytes of IP from one namespace to an address in another, and back.
/// Says whom the receiver saw; `None` when either way is lost.
pub fn echo(
    from: &Namespace,
    source: &str,
    to: &Namespace,
    destination: &str,
    size: usize,
) -> Option<IpAddr> {
    let address = |text: &str| text.parse::<IpAddr>().expect("address");
    let bind = |address: IpAddr| {
        let socket = UdpSocket::bind((address, 0)).expect("a socket");
        socket.set_read_timeout(Some(Duration::from_millis(500))).expect("a timeout");
        socket
    };
    let here = from.inside(|| bind(address(source)));
    let there = to.inside(|| bind(address(destination)));
    let header = if address(source).is_ipv4() { 28 } else { 48 };
    let (sent, mut buffer) = (vec![7; size - header], vec![0; 1 << 16]);
    here.send_to(&sent, there.local_addr().expect("an address")).ok()?;
    let (length, peer) = there.recv_from(&mut buffer).ok()?;
    assert_eq!(buffer[..length], sent, "what arrives is what was sent");
    there.send_to(&sent, peer).ok()?;
    let (length, _) = here.recv_from(&mut buffer).ok()?;
    assert_eq!(buffer[..length], sent, "what comes back is what was sent");
    Some(peer.ip())
}

/// Sends `bytes` by TCP from one namespace to an address in another, and says what arrived from whom.
pub fn transfer(
    from: &Namespace,
    source: &str,
    to: &Namespace,
    destination: &str,
    bytes: usize,
) -> (usize, IpAddr) {
    use std::io::{Read as _, Write as _};
    let address = |text: &str| text.parse::<IpAddr>().expect("address");
    let (source, destination) = (address(source), address(destination));
    let listener = to.inside(|| std::net::TcpListener::bind((destination, 0)).expect("a listener"));
    let target = listener.local_addr().expect("an address");
    let receiver = std::thread::spawn(move || {
        let (mut stream, peer) = listener.accept().expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        let mut buffer = Vec::new();
        stream.read_to_end(&mut buffer).expect("the bytes");
        (buffer.len(), peer.ip())
    });
    let mut stream = from.inside(|| {
        use socket2::{Domain, Socket, Type};
        let socket = Socket::new(Domain::for_address(target), Type::STREAM, None).expect("socket");
        socket.bind(&std::net::SocketAddr::new(source, 0).into()).expect("a source");
        socket.connect_timeout(&target.into(), Duration::from_secs(10)).expect("a connection");
        std::net::TcpStream::from(socket)
    });
    stream.write_all(&vec![7; bytes]).expect("sent");
    drop(stream);
    receiver.join().expect("received")
}
