//! Runs worlds of clusters: see `e2e/sim/README.md`.

use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use carrick_sim::clusters::crowd::{Crowd, Report};
use carrick_sim::clusters::story::Story;
use carrick_sim::clusters::world::World;

const HELP: &str = "\
Runs simulated worlds of clusters, each from a seed.

  --worlds N    how many (1000)
  --seed S      the first seed (0); with --worlds 1 and --story it is a replay
  --seconds N   begin no more worlds after so long
  --threads N   how many at once (as many as there are cores)
  --stop        stop at the first violation
  --story       print what happens in each world
  --quiet       print the result only

Ends with 1 if an invariant was violated; the seed is printed.";

struct Wish {
    crowd: Crowd,
    story: bool,
    quiet: bool,
}

fn wish() -> Result<Wish, String> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let crowd = Crowd { first: 0, worlds: 1000, threads: cores, time: None, stop: false };
    let mut wish = Wish { crowd, story: false, quiet: false };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || {
            let value = words.next().ok_or_else(|| format!("{word} needs a number"))?;
            value.parse::<u64>().map_err(|_| format!("{word} needs a number, not {value:?}"))
        };
        match word.as_str() {
            "--worlds" => wish.crowd.worlds = number()?,
            "--seed" => wish.crowd.first = number()?,
            "--seconds" => wish.crowd.time = Some(Duration::from_secs(number()?)),
            "--threads" => wish.crowd.threads = number()? as usize,
            "--stop" => wish.crowd.stop = true,
            "--story" => wish.story = true,
            "--quiet" => wish.quiet = true,
            _ => return Err(format!("{word} is unknown\n\n{HELP}")),
        }
    }
    Ok(wish)
}

fn print(report: &Report) {
    let lost = 100.0 * (1.0 - report.arrived as f64 / report.sent.max(1) as f64);
    println!(
        "{} worlds in {:.1} s, {:.0} a minute; {} events a world, {lost:.2} % of packets lost to faults; at most {} \
         changes of next hops, {} of reach; {} violations",
        report.worlds,
        report.took.as_secs_f64(),
        report.pace(),
        report.events / report.worlds.max(1),
        report.changes.0,
        report.changes.1,
        report.violations.len(),
    );
}

fn main() -> ExitCode {
    let wish = match wish() {
        Ok(wish) => wish,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    if wish.story {
        let Crowd { first, worlds, .. } = wish.crowd;
        for seed in first..first + worlds {
            println!("{}", Story::new(seed));
            println!("{:?}", World::new(Story::new(seed)).telling().run());
        }
        return ExitCode::SUCCESS;
    }
    let told = AtomicUsize::new(0);
    let report = wish.crowd.run(|report| {
        let count = report.violations.len();
        if told.swap(count, Ordering::Relaxed) != count
            && let Some((seed, at, what)) = report.violations.last()
        {
            println!("seed {seed}, at {at} ms: {what}");
            println!("  replay: cargo sim --seed {seed} --worlds 1 --story");
        }
        if !wish.quiet && report.worlds.is_multiple_of(1000) {
            print(report);
        }
    });
    print(&report);
    if report.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
