//! The plugin `kubernetes` of one server block: what it serves, and what is added to it or taken out.

use std::ops::Range;

use super::blocks::{Block, Corefile};
use super::key::{Key, within, zone};
use super::{Edit, Misfit, Place, ZONE, keys, line, zones};

/// The comment on our line. After it come those of the words below that apply.
pub const MARK: &str = "# added by carrick dns enable";
/// Between the comment and the words.
pub const WITH: &str = "; with: ";
/// The zone was added to those of the plugin.
pub const WITH_ZONE: &str = "zone";
/// The zone was added to the keys of the server block.
pub const WITH_KEY: &str = "key";
/// The plugin had no block of its own.
pub const WITH_BLOCK: &str = "block";

/// A plugin `kubernetes`, taken apart.
pub struct Serving<'a> {
    text: &'a str,
    file: &'a Corefile,
    block: &'a Block,
    /// The plugin's name.
    name: usize,
    /// Its zones.
    zones: Range<usize>,
    /// Its braces.
    braces: Option<(usize, usize)>,
    /// Its `multicluster` directive with its arguments.
    multicluster: Option<Range<usize>>,
}

impl<'a> Serving<'a> {
    /// Takes a plugin apart; one that has not a directive a line is refused.
    pub fn read(
        text: &'a str,
        file: &'a Corefile,
        (block, plugin): Place<'a>,
    ) -> Result<Self, Misfit> {
        let name = plugin.start;
        let words = file.tokens.get(plugin.clone()).unwrap_or_default();
        let open = words.iter().position(|token| token.text == "{").map(|at| name + at);
        let zones = name + 1..open.unwrap_or(plugin.end);
        let layout = || Misfit::Layout(line(file, name));
        // A word in quotes may go over several lines; a zone does not.
        let one_line =
            |range: Range<usize>| range.into_iter().all(|at| line(file, at) == line(file, name));
        if !one_line(name..zones.end) {
            return Err(layout());
        }
        let mut serving = Self { text, file, block, name, zones, braces: None, multicluster: None };
        if let Some(open) = open {
            let close = plugin.end - 1;
            let apart = line(file, open) == line(file, name)
                && line(file, open) < line(file, open + 1)
                && (close == open + 1 || file.tokens[close - 1].last_line < line(file, close));
            let nested = (open + 1..close).any(|at| matches!(serving.word(at), "{" | "}"));
            if !apart || nested || serving.word(close) != "}" {
                return Err(layout());
            }
            serving.braces = Some((open, close));
            serving.multicluster = serving.directive(open + 1..close, "multicluster");
        }
        Ok(serving)
    }

    fn word(&self, at: usize) -> &'a str {
        self.file.tokens.get(at).map_or("", |token| &token.text)
    }

    /// The line that it begins in.
    pub fn line(&self) -> usize {
        line(self.file, self.name)
    }

    /// The last directive of a name, which is the one that counts, with what is on its line.
    fn directive(&self, inside: Range<usize>, name: &str) -> Option<Range<usize>> {
        let begins = |at: usize| self.file.tokens[at - 1].last_line < line(self.file, at);
        let start = inside.clone().rev().find(|&at| begins(at) && self.word(at) == name)?;
        let end = (start + 1..inside.end).find(|&at| begins(at)).unwrap_or(inside.end);
        Some(start..end)
    }

    /// The zones that are served.
    fn served(&self) -> Vec<String> {
        if self.zones.is_empty() {
            return zones(self.file, self.block).collect();
        }
        self.zones.clone().map(|at| Key::parse(self.word(at)).zone()).collect()
    }

    /// Whether it serves the zone as that of several clusters.
    pub fn is_on(&self) -> bool {
        let multicluster = self.multicluster.clone().unwrap_or_default();
        let mut of_many = multicluster.skip(1).map(|at| zone(self.word(at)));
        of_many.any(|zone| zone == ZONE) && self.served().iter().any(|zone| zone == ZONE)
    }

    /// What is to be added.
    pub fn enable(&self, edits: &mut Vec<Edit>) -> Result<(), Misfit> {
        let mut with = Vec::new();
        if self.multicluster.is_some() {
            return Err(Misfit::OtherMulticluster(self.line()));
        }
        let served = self.served();
        let forward = |zone: &&String| !within(zone, "arpa");
        if served.iter().find(forward).is_some_and(|zone| zone == ZONE) {
            return Err(Misfit::OwnZone(self.line()));
        }
        let by_keys = self.keys_to_add();
        if self.zones.is_empty() {
            if by_keys.is_empty() && !served.iter().any(|zone| zone == ZONE) {
                return Err(Misfit::NoZones(self.line()));
            }
        } else if !served.iter().any(|zone| zone == ZONE) {
            let first = served.iter().position(|zone| forward(&zone)).unwrap_or(0);
            let end = self.end(self.zones.start + first);
            edits.push((end..end, format!(" {ZONE}")));
            with.push(WITH_ZONE);
        }
        if let (false, Some(last)) = (by_keys.is_empty(), self.block.keys.last()) {
            let end = self.end(*last);
            edits.push((end..end, by_keys.iter().map(|key| format!(" {key}")).collect()));
            with.push(WITH_KEY);
        }
        self.add_line(with, edits);
        Ok(())
    }

    /// Keys for the zone, where the server block has neither it nor all names.
    fn keys_to_add(&self) -> Vec<String> {
        let named = zones(self.file, self.block).any(|zone| zone.is_empty() || zone == ZONE);
        if named {
            return Vec::new();
        }
        let mut keys: Vec<_> =
            keys(self.file, self.block).map(|key| (key.listens(), key.with_zone(ZONE))).collect();
        keys.sort();
        keys.dedup_by_key(|(listens, _)| *listens);
        keys.into_iter().map(|(_, key)| key).collect()
    }

    fn add_line(&self, mut with: Vec<&str>, edits: &mut Vec<Edit>) {
        let own = self.indentation(self.name);
        let step = if own.starts_with('\t') { "\t" } else { "    " };
        let deeper = format!("{own}{step}");
        if self.braces.is_none() {
            with.push(WITH_BLOCK);
        }
        let with =
            if with.is_empty() { String::new() } else { format!("{WITH}{}", with.join(", ")) };
        let directive = format!("multicluster {ZONE} {MARK}{with}");
        let newline = self.newline();
        match self.braces {
            None => {
                let end = self.end(self.zones.end - 1);
                let block = format!(" {{{newline}{deeper}{directive}{newline}{own}}}");
                // After the zone that is added in the same place.
                match edits.iter_mut().find(|(place, _)| *place == (end..end)) {
                    Some((_, text)) => text.push_str(&block),
                    None => edits.push((end..end, block)),
                }
            }
            Some((open, close)) => {
                let at = self.next_line(self.end(open));
                let indentation =
                    if open + 1 < close { self.indentation(open + 1).to_owned() } else { deeper };
                edits.push((at..at, format!("{indentation}{directive}{newline}")));
            }
        }
    }

    /// What the comment on our line says was added with it; `None` when the line is not ours.
    pub fn mark(&self) -> Option<Vec<&'a str>> {
        let directive = self.multicluster.clone()?;
        if directive.len() != 2 || self.word(directive.start + 1) != ZONE {
            return None;
        }
        let end = self.end(directive.end - 1);
        let comment = self.text.get(end..self.next_line(end))?.trim();
        let with = comment.strip_prefix(MARK)?.strip_prefix(WITH).unwrap_or_default();
        Some(with.split(',').map(str::trim).collect())
    }

    /// What is to be taken out, by what the comment says.
    pub fn disable(&self, with: &[&str], edits: &mut Vec<Edit>) {
        let (Some(directive), Some((open, close))) = (self.multicluster.clone(), self.braces)
        else {
            return;
        };
        let only = directive.start == open + 1 && directive.end == close;
        let line_start = self.line_start(self.start(directive.start));
        let line = line_start..self.next_line(self.start(directive.start));
        // Comments that somebody wrote into the block keep it.
        let gap =
            |range: Range<usize>| self.text.get(range).is_some_and(|text| text.trim().is_empty());
        let empty = gap(self.end(open)..line.start) && gap(line.end..self.start(close));
        if with.contains(&WITH_BLOCK) && only && empty {
            edits.push((self.end(open - 1)..self.end(close), String::new()));
        } else {
            edits.push((line, String::new()));
        }
        if with.contains(&WITH_ZONE) {
            let zone = self.zones.clone().find(|&at| self.word(at) == ZONE);
            edits.extend(zone.map(|at| self.without(at)));
        }
        if with.contains(&WITH_KEY) {
            let ours = |at: &&usize| Key::parse(self.word(**at)).zone() == ZONE;
            edits.extend(self.block.keys.iter().filter(ours).map(|at| self.without(*at)));
        }
    }

    /// Takes out a word and the blank before it.
    fn without(&self, at: usize) -> Edit {
        let start = self.start(at);
        let blank = self.text.get(..start).is_some_and(|before| before.ends_with([' ', '\t']));
        (start - usize::from(blank)..self.end(at), String::new())
    }

    fn start(&self, at: usize) -> usize {
        self.file.tokens.get(at).map_or(self.text.len(), |token| token.place.start)
    }

    fn end(&self, at: usize) -> usize {
        self.file.tokens.get(at).map_or(self.text.len(), |token| token.place.end)
    }

    fn line_start(&self, at: usize) -> usize {
        self.text.get(..at).and_then(|before| before.rfind('\n')).map_or(0, |end| end + 1)
    }

    fn next_line(&self, at: usize) -> usize {
        let rest = self.text.get(at..).unwrap_or_default();
        rest.find('\n').map_or(self.text.len(), |end| at + end + 1)
    }

    /// The blanks that the line of a word begins with.
    fn indentation(&self, at: usize) -> &'a str {
        let line = self.text.get(self.line_start(self.start(at))..).unwrap_or_default();
        &line[..line.len() - line.trim_start_matches([' ', '\t']).len()]
    }

    /// How lines end here.
    fn newline(&self) -> &'static str {
        let line = self.text.get(..self.next_line(self.start(self.name))).unwrap_or_default();
        if line.ends_with("\r\n") { "\r\n" } else { "\n" }
    }
}
