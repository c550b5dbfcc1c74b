//! What the program does: rounds, printed as they come, or as JSON.

use std::time::Duration;

use clap::Parser;

use crate::race::{Rates, Round, round, two_cores};

/// Two lanes on two cores against one lane on one core, packets in memory.
#[derive(Parser)]
#[command(name = "carrick-lanes", version)]
struct Cli {
    /// How many rounds.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,
    /// How long each of the three parts of a round takes, in milliseconds.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    milliseconds: u64,
    /// One JSON array of all rounds at the end, instead of a line a round.
    #[arg(long)]
    json: bool,
}

/// Runs the command line.
///
/// # Errors
/// When there are no two cores, or packets are lost.
pub fn run() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let cores = two_cores()?;
    let mut rounds: Vec<Round> = Vec::new();
    for number in 1..=cli.rounds {
        let round = round(cores, Duration::from_millis(cli.milliseconds))?;
        if !cli.json {
            println!("round {number}: {}", in_words(&round));
        }
        rounds.push(round);
    }
    if cli.json {
        println!("{}", serde_json::to_string(&rounds)?);
    }
    Ok(())
}

fn in_words(round: &Round) -> String {
    let side = |name: &str, of: fn(&Rates) -> f64| {
        let thousands = |rates| of(rates) / 1e3;
        format!(
            "{name} one lane {:.0} kpackets/s ({:.2} Gbit/s), two {:.0} ({:.2}), {:.3}×",
            thousands(&round.one),
            of(&round.one_gbit),
            thousands(&round.two),
            of(&round.two_gbit),
            of(&round.ratio)
        )
    };
    format!("{}; {}", side("seal", |rates| rates.seal), side("open", |rates| rates.open))
}
