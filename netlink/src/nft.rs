//! nft tables, each applied whole and in one step.
//!
//! The rules are given as nft text: a reviewer reads what the kernel gets. Whether the kernel still
//! has it is seen by listing the table and comparing with the listing taken right after applying it.

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

/// One table that is all ours.
#[derive(Debug)]
pub struct Nft {
    family: &'static str,
    table: String,
    applied: Option<Applied>,
    counters: Vec<(String, u64)>,
    writes: u64,
}

#[derive(Debug)]
struct Applied {
    text: String,
    listing: String,
}

impl Nft {
    /// For the table `inet <table>`; nothing is read or changed yet.
    pub fn new(table: &str) -> Self {
        Self::of_family("inet", table)
    }

    /// For the table `netdev <table>`, whose chains are those of devices.
    pub fn netdev(table: &str) -> Self {
        Self::of_family("netdev", table)
    }

    fn of_family(family: &'static str, table: &str) -> Self {
        let (table, counters) = (table.to_owned(), Vec::new());
        Self { family, table, applied: None, counters, writes: 0 }
    }

    /// How often the table was written or deleted.
    pub fn writes(&self) -> u64 {
        self.writes
    }

    /// Makes the table hold exactly `body` (what stands between the braces of `table <family> <table> {
    /// }`), replacing all that was there in one transaction. Writes only if the text is another than
    /// the last, or if the kernel's table is not as it was left. Returns how much was written: 0 or 1.
    pub fn sync(&mut self, body: &str) -> Result<usize, NftError> {
        if self.applied.as_ref().is_some_and(|applied| applied.text == body) {
            let listing = self.list()?;
            if self.applied.as_ref().map(|applied| &applied.listing) == listing.as_ref() {
                return Ok(0);
            }
        }
        self.applied = None;
        self.writes += 1;
        let name = self.name();
        // Adding first makes the deletion succeed whether or not the table is there.
        let script =
            format!("add table {name}\ndelete table {name}\ntable {name} {{\n{body}\n}}\n");
        self.run(&["-f", "-"], &script)?;
        let listing = self.list()?.unwrap_or_default();
        self.applied = Some(Applied { text: body.to_owned(), listing });
        Ok(1)
    }

    /// Removes the table. Returns how much was written: 0 or 1.
    pub fn delete(&mut self) -> Result<usize, NftError> {
        self.applied = None;
        if self.list()?.is_none() {
            return Ok(0);
        }
        self.writes += 1;
        self.run(&["-f", "-"], &format!("delete table {}\n", self.name()))?;
        Ok(1)
    }

    /// Packets that the table's named counters had counted when it was last read: name and packets.
    pub fn counters(&self) -> &[(String, u64)] {
        &self.counters
    }

    /// The table as nft prints it, without the values of counters, which are kept aside; `None` if
    /// there is none.
    fn list(&mut self) -> Result<Option<String>, NftError> {
        match self.run(&["list", "table", self.family, &self.table], "") {
            Ok(output) => {
                let listing = String::from_utf8_lossy(&output.stdout);
                self.counters = parse_counters(&listing);
                Ok(Some(without_counts(&listing)))
            }
            Err(NftError::Refused { complaint, .. }) if complaint.contains("No such file") => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn run(&self, arguments: &[&str], input: &str) -> Result<Output, NftError> {
        let failed = |source| NftError::Run { table: self.name(), source };
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
        Err(NftError::Refused { table: self.name(), complaint })
    }

    fn name(&self) -> String {
        format!("{} {}", self.family, self.table)
    }
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
