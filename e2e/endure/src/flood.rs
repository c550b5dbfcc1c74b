//! Our gateway at both ends while strangers from everywhere send it handshakes: traffic goes on, whoever
//! is real gets in, and the processor has a ceiling.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use blake2::digest::consts::U16;
use blake2::digest::{KeyInit, Mac};
use blake2::{Blake2s256, Blake2sMac, Digest};
use carrick_bench::ledger::Ledger;
use carrick_e2e::run::run as run_command;
use socket2::{Domain, Protocol, Socket, Type};

use crate::content::Content;
use crate::gateway::{Kind, PORT, Programs, public_key};
use crate::report::Report;
use crate::run::{DROPS, Pair, is_eventful};
use crate::tally::Tally;
use crate::traffic::{self, Load};
use crate::world::{CABLE, End, Path, World};

/// An initiation, and where its first MAC is.
const LENGTH: usize = 148;
const MAC: usize = 116;
const IP: usize = 20;
const UDP: usize = 8;
/// Between two bursts.
const PACE: Duration = Duration::from_millis(5);

/// Runs for so long with so many initiations a second, under a first MAC that is right, from as many
/// sources, after a quarter of the time without. The caller restarts after half.
///
/// # Errors
/// When the run itself fails, not when something falls short.
pub fn run(
    time: Duration,
    rate: u32,
    load: &Load,
    programs: &Programs,
    ledger: &Ledger,
) -> anyhow::Result<Report> {
    let world = World::new(&Path::Cable)?;
    // What is answered goes somewhere.
    let via = world.near.underlay.to_string();
    run_command(world.far.command("ip").args(["route", "add", "10.0.0.0/8", "via", &via]))?;
    let tally = Tally::default();
    let mut pair = Pair::start(&world, [Kind::Carrick; 2], programs, &tally, ledger)?;
    let (done, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    let (mut before, mut began) = (0.0, Duration::ZERO);
    traffic::during(&world, load, &tally, || {
        pair.pass_until(time / 4)?;
        (before, began) = (pair.watches[1].cpu(), tally.now());
        std::thread::scope(|scope| {
            let _stop = Stop(&done);
            let flooder = scope.spawn(|| flood(&world.near, &world.far, rate, &done, &sent));
            pair.pass_until(time / 2)?;
            pair.restart(0).context("a restart under the flood")?;
            pair.pass_until(time)?;
            done.store(true, Ordering::Relaxed);
            flooder.join().map_err(|_| anyhow::anyhow!("the flooder panicked"))?
        })
    })?;
    let (counts, sent) = (tally.counts(), sent.load(Ordering::Relaxed));
    let mut report = Report::new("flood of handshakes", time, &pair, &counts);
    let flooded = (time - began).as_secs_f64();
    let cpu = pair.watches[1].cpu() - before;
    report.say(format!(
        "  {sent} initiations, {:.0} a second; the called one used {:.1} % of a core before and \
         {:.1} % meanwhile",
        sent as f64 / flooded,
        100.0 * before / began.as_secs_f64(),
        100.0 * cpu / flooded,
    ));
    let drops = |label: &str| {
        pair.watches[1].counters(DROPS).find(|(name, _)| name.contains(label)).map_or(0, |d| d.1)
    };
    let (costly, cheap) = (drops("handshake_failed"), drops("under_load"));
    report.demand(counts.corrupted == 0, || format!("{} corrupted", counts.corrupted));
    let steady = |at: Duration| !is_eventful(&pair.events, at);
    let failed = counts.failed_when(steady);
    report.demand(failed == 0, || format!("{failed} failed while nothing but the flood happened"));
    report.demand_no_loss(&pair, &counts, 0.0);
    report.demand(costly + cheap > sent / 2, || format!("{costly} and {cheap} of {sent} counted"));
    report.demand(costly < 1000 * time.as_secs(), || format!("{costly} were looked at"));
    Ok(report)
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Sends initiations in bursts from ever new addresses until told to stop.
fn flood(
    from: &End,
    to: &End,
    rate: u32,
    done: &AtomicBool,
    sent: &AtomicU64,
) -> anyhow::Result<()> {
    let socket = from.netns.run(|| {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::UDP))?;
        socket.set_header_included_v4(true)?;
        socket.bind_device(Some(CABLE.as_bytes()))?;
        std::io::Result::Ok(socket)
    })?;
    let socket = socket.context("a raw socket for the flood")?;
    let target = SocketAddr::from((to.underlay, 0)).into();
    let burst = (f64::from(rate) * PACE.as_secs_f64()).ceil() as u64;
    let (key, mut number, mut due) = (mac_key(), 0, Instant::now());
    while !done.load(Ordering::Relaxed) {
        for _ in 0..burst {
            // A full queue on the way loses it, as it would elsewhere.
            if socket.send_to(&datagram(&key, number, to.underlay), &target).is_ok() {
                sent.fetch_add(1, Ordering::Relaxed);
            }
            number += 1;
        }
        due = (due + PACE).max(Instant::now());
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    Ok(())
}

/// What keys the first MAC (the WireGuard paper, section 5.4.4): everybody who knows the public key has it.
fn mac_key() -> [u8; 32] {
    let key = public_key(1);
    Blake2s256::new().chain_update(b"mac1----").chain_update(key.as_bytes()).finalize().into()
}

/// An initiation of nothing but noise under a right first MAC, from an address of its own.
fn datagram(key: &[u8; 32], number: u64, to: Ipv4Addr) -> Vec<u8> {
    let source = Ipv4Addr::from(0x0a00_0000 | number as u32 & 0x00ff_ffff);
    let mut packet = vec![0; IP + UDP + LENGTH];
    // The kernel writes length, identification and checksum of the IP header.
    packet[0] = 0x45;
    packet[8..10].copy_from_slice(&[64, 17]);
    packet[12..16].copy_from_slice(&source.octets());
    packet[16..20].copy_from_slice(&to.octets());
    // UDP without a checksum is valid.
    packet[20..22].copy_from_slice(&40_000_u16.to_be_bytes());
    packet[22..24].copy_from_slice(&PORT.to_be_bytes());
    packet[24..26].copy_from_slice(&((UDP + LENGTH) as u16).to_be_bytes());
    let message = &mut packet[IP + UDP..];
    Content::new(number).fill(0, &mut message[4..MAC]);
    message[0] = 1;
    let mac = <Blake2sMac<U16> as KeyInit>::new_from_slice(key).map(|mut mac| {
        Mac::update(&mut mac, &message[..MAC]);
        mac.finalize().into_bytes()
    });
    if let Ok(mac) = mac {
        message[MAC..MAC + 16].copy_from_slice(&mac);
    }
    packet
}
