//! nft tables, each replaced whole without a moment in between.
//!
//! The rules are given as nft text: a reviewer reads what the kernel gets. Whether the kernel still
//! has it is seen by listing the table and comparing with the listing taken right after applying it.
//!
//! One transaction does not do: chains are exchanged at one instant, but newer kernels (seen on 6.18)
//! fill a new set of intervals after that instant, and until then its lookups find nothing. So no chain
//! ever comes with its sets. They are there one transaction earlier, and a second table stands in while
//! those of the first are exchanged.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Output, Stdio};

/// How much of nft's complaint is kept, in bytes.
const MAX_COMPLAINT: usize = 2048;

/// Why a table could not be applied or read.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    /// The program could not be run.
    #[error("run nft for table {table}: {source}; install nftables (the image carries it)")]
    Run {
        /// The table, after its family.
        table: String,
        /// What happened.
        source: std::io::Error,
    },
    /// nft refused.
    #[error("nft refused table {table}: {complaint}")]
    Refused {
        /// The table, after its family.
        table: String,
        /// What it says.
        complaint: String,
    },
}

/// What a table holds, as nft text: what stands between the braces of `table <family> <name> { }`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NftBody {
    /// Named counters and sets.
    pub sets: String,
    /// Chains, whose rules may name these.
    pub chains: String,
}

/// One table that is all ours, and a second one that stands in for it while it is replaced.
#[derive(Debug)]
pub struct Nft {
    /// Its name after its family.
    table: String,
    stand_in: String,
    applied: Option<Applied>,
    /// What the table's counters showed when it was last read.
    counters: Vec<(String, u64)>,
    /// What tables counted that have been replaced since.
    counted_before: BTreeMap<String, u64>,
    writes: u64,
}

#[derive(Debug)]
struct Applied {
    body: NftBody,
    listing: String,
}

impl Nft {
    /// For the table `inet <table>`, with `inet <table>-next` to stand in for it; nothing is read or
    /// changed yet.
    pub fn new(table: &str) -> Self {
        Self::of_family("inet", table)
    }

    /// For the table `netdev <table>`, whose chains are those of devices.
    pub fn netdev(table: &str) -> Self {
        Self::of_family("netdev", table)
    }

    fn of_family(family: &'static str, table: &str) -> Self {
        Self {
            table: format!("{family} {table}"),
            stand_in: format!("{family} {table}-next"),
            applied: None,
            counters: Vec::new(),
            counted_before: BTreeMap::new(),
            writes: 0,
        }
    }

    /// How often the table was written or deleted.
    pub fn writes(&self) -> u64 {
        self.writes
    }

    /// Makes the table hold exactly this, replacing all that was there; at any time all rules of either
    /// the former or the new one hold, sets included. Writes only if the body is another than the last,
    /// or if the kernel's table is not as it was left. Returns how much was written: 0 or 1.
    pub fn sync(&mut self, body: &NftBody) -> Result<usize, NftError> {
        let held = self.list()?;
        if let Some(applied) = &self.applied
            && applied.body == *body
            && held.as_ref() == Some(&applied.listing)
        {
            return Ok(0);
        }
        self.applied = None;
        self.writes += 1;
        self.replace(body, held.as_deref().is_some_and(has_chains))?;
        // The new table counts from zero.
        for (name, packets) in std::mem::take(&mut self.counters) {
            *self.counted_before.entry(name).or_default() += packets;
        }
        let listing = self.list()?.unwrap_or_default();
        self.applied = Some(Applied { body: body.clone(), listing });
        Ok(1)
    }

    /// `stands`: the table has chains, which count until the others do. If it has none, the stand-in's
    /// may count, of one who was stopped halfway.
    fn replace(&self, body: &NftBody, stands: bool) -> Result<(), NftError> {
        let (table, next) = (&self.table, &self.stand_in);
        let NftBody { sets, chains } = body;
        // Adding first makes a deletion succeed whether or not the table is there.
        let gone = |name| format!("add table {name}\ndelete table {name}\n");
        let with = |name, content| format!("table {name} {{\n{content}\n}}\n");
        let fresh = |name| gone(name) + &with(name, sets);
        if stands {
            self.script(&fresh(next))?;
            let exchanged = self.script(&(with(next, chains) + &fresh(table)));
            if exchanged.is_err() {
                // The former table stands. A stand-in that cannot go now goes with the next attempt.
                let _ = self.script(&gone(next));
                return exchanged;
            }
        } else {
            self.script(&fresh(table))?;
        }
        self.script(&(with(table, chains) + &gone(next)))
    }

    /// Removes the table. Returns how much was written: 0 or 1.
    pub fn delete(&mut self) -> Result<usize, NftError> {
        self.applied = None;
        let mut writes = 0;
        for name in [&self.table, &self.stand_in] {
            if self.print(name)?.is_some() {
                self.script(&format!("delete table {name}\n"))?;
                writes = 1;
            }
        }
        self.writes += writes as u64;
        Ok(writes)
    }

    /// Packets that the table's named counters had counted when it was last read, tables that it replaced
    /// included: name and packets.
    pub fn counters(&self) -> Vec<(String, u64)> {
        let before = |name| self.counted_before.get(name).copied().unwrap_or(0);
        self.counters.iter().map(|(name, count)| (name.clone(), before(name) + count)).collect()
    }

    /// The table as nft prints it, without the values of counters, which are kept aside; `None` if
    /// there is none.
    fn list(&mut self) -> Result<Option<String>, NftError> {
        let Some(listing) = self.print(&self.table)? else { return Ok(None) };
        self.counters = parse_counters(&listing);
        Ok(Some(without_counts(&listing)))
    }

    fn print(&self, table: &str) -> Result<Option<String>, NftError> {
        match self.run(&[&format!("list table {table}")], "") {
            Ok(output) => Ok(Some(String::from_utf8_lossy(&output.stdout).into_owned())),
            Err(NftError::Refused { complaint, .. }) if complaint.contains("No such file") => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Does all of it in one transaction.
    fn script(&self, text: &str) -> Result<(), NftError> {
        self.run(&["-f", "-"], text).map(drop)
    }

    fn run(&self, arguments: &[&str], input: &str) -> Result<Output, NftError> {
        let failed = |source| NftError::Run { table: self.table.clone(), source };
        let mut child = Command::new("nft")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        if let Some(mut stdin) = child.stdin.take() {
            // nft reads all before it prints. If it died instead, its exit status tells more.
            let _ = stdin.write_all(input.as_bytes());
        }
        let output = child.wait_with_output().map_err(failed)?;
        if output.status.success() {
            return Ok(output);
        }
        let mut complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        complaint.truncate(complaint.floor_char_boundary(MAX_COMPLAINT));
        Err(NftError::Refused { table: self.table.clone(), complaint })
    }
}

/// Whether a listed table has chains: what it has otherwise decides nothing.
fn has_chains(listing: &str) -> bool {
    listing.lines().any(|line| line.trim_start().starts_with("chain "))
}

/// Named counters print their values on lines of their own; rules print none.
fn without_counts(listing: &str) -> String {
    let counts = |line: &&str| line.trim_start().starts_with("packets ");
    listing.lines().filter(|line| !counts(line)).collect::<Vec<_>>().join("\n")
}

fn parse_counters(listing: &str) -> Vec<(String, u64)> {
    let mut counters = Vec::new();
    let mut name = None;
    for line in listing.lines() {
        let mut words = line.split_whitespace();
        match (words.next(), words.next()) {
            (Some("counter"), Some(word)) => name = Some(word.to_owned()),
            (Some("packets"), Some(count)) => {
                counters.extend(name.take().zip(count.parse().ok()));
            }
            _ => {}
        }
    }
    counters
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_from_the_listing() {
        let listing = "table inet carrick {\n\tcounter foreign_vxlan {\n\t\tpackets 12 bytes 900\n\
                       \t}\n\tcounter clear {\n\t\tpackets 0 bytes 0\n\t}\n}\n";
        assert_eq!(
            parse_counters(listing),
            [("foreign_vxlan".to_owned(), 12), ("clear".to_owned(), 0)]
        );
    }
}
