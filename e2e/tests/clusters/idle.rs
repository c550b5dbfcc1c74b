//! Idle: what each part costs while nobody talks but the probes.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use carrick_e2e::Lab;
use nix::time::{ClockId, clock_gettime};

use crate::common::{check, figure, peered, processes, text};
use crate::world::{Case, Outcome};

/// All cases, in order.
pub const CASES: &[(&str, Case)] = &[("idle::parts_use_little_when_idle", little_when_idle)];

/// How long each is watched.
const WATCHED: Duration = Duration::from_secs(10);

/// What heartbeats and probes of a gateway or an agent at rest may take: processor time a second, in milliseconds, which
/// is a percent of a processor.
const GOAL: f64 = 10.0;

/// Processor time a second, in milliseconds, that fails. More than the goal: it is that of all that a process does.
const CPU: f64 = 15.0;

/// Or so many times what [`yardstick`] takes, where that is more: the same machine takes half as long again for the same in some hours.
const YARDSTICKS: f64 = 3.5;

/// Between two rounds of the yardstick.
const ROUND: Duration = Duration::from_millis(10);

/// Memory in MiB.
const MEMORY: f64 = 40.0;

/// A process of a part.
struct Part {
    name: &'static str,
    pid: i32,
    before: f64,
}

/// Processor time of a process since its start, in milliseconds: the kernel counts in 10 ms.
fn cpu(pid: i32) -> Result<f64, String> {
    let said = text(std::fs::read_to_string(format!("/proc/{pid}/stat")))?;
    // The name, in brackets, may hold anything.
    let (_, rest) = said.rsplit_once(')').ok_or_else(|| said.clone())?;
    let ticks =
        rest.split_whitespace().skip(11).take(2).filter_map(|word| word.parse::<f64>().ok());
    Ok(ticks.sum::<f64>() * 10.0)
}

/// Memory of a process in MiB.
fn memory(pid: i32) -> Result<f64, String> {
    let said = text(std::fs::read_to_string(format!("/proc/{pid}/status")))?;
    let line = said.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    Ok(kib.ok_or_else(|| format!("no VmRSS in {said}"))? / 1024.0)
}

/// What a thread takes that does nothing but wake up, send a small packet and take it in, a hundred times a second: processor time a
/// second, in milliseconds.
fn yardstick() -> Result<f64, String> {
    let socket = text(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)))?;
    text(socket.connect(text(socket.local_addr())?))?;
    text(socket.set_read_timeout(Some(WATCHED)))?;
    let used = || text(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)).map(Duration::from);
    let (start, before) = (Instant::now(), used()?);
    while start.elapsed() < WATCHED {
        std::thread::sleep(ROUND);
        text(socket.send(&[0; 20]))?;
        text(socket.recv(&mut [0; 20]))?;
    }
    Ok((used()? - before).as_secs_f64() * 1e3 / start.elapsed().as_secs_f64())
}

fn little_when_idle(lab: &Lab) -> Outcome {
    let (paris, osaka) = peered(lab)?;
    let mut parts = Vec::new();
    for cluster in [&paris, &osaka] {
        for name in ["controller", "gateway", "agent"] {
            for pid in processes(cluster, name)? {
                parts.push(Part { name, pid, before: cpu(pid)? });
            }
        }
    }
    let start = Instant::now();
    let yardstick = yardstick()?;
    let took = start.elapsed().as_secs_f64();
    figure(&format!("a thread that wakes up 100 times a second: {yardstick:.2} ms CPU a second"));
    let limit = CPU.max(YARDSTICKS * yardstick);
    for name in ["controller", "gateway", "agent"] {
        let (mut all, mut held) = (Vec::new(), 0_f64);
        for part in parts.iter().filter(|part| part.name == name) {
            all.push((cpu(part.pid)? - part.before) / took);
            held = held.max(memory(part.pid)?);
        }
        let percent: Vec<String> = all.iter().map(|ms| format!("{:.2}", ms / 10.0)).collect();
        let used = all.into_iter().fold(0.0, f64::max);
        figure(&format!(
            "idle {name}: {} % of a processor{}, {held:.1} MiB at most",
            percent.join(", "),
            goal(name, used)
        ));
        check(used <= limit && held <= MEMORY, || {
            format!("{name} uses {used:.1} ms CPU a second (limit {limit:.1}) and {held:.1} MiB")
        })?;
    }
    Ok(())
}

/// Whether the goal is met by a part that has one.
fn goal(name: &str, used: f64) -> String {
    if name == "controller" {
        return String::new();
    }
    let word = if used <= GOAL { "met" } else { "missed" };
    format!(" (goal 1 %: {word})")
}
