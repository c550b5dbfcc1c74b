//! Changes of a Corefile, from text to text: on, and back again byte for byte.
//!
//! What is added is one line in the block of the `kubernetes` plugin, with a comment that says what else was added, and
//! the zone where zones are listed. So it can be taken out again whatever has been changed around it.

mod blocks;
mod key;
mod lexer;

use std::ops::Range;

use blocks::{Block, Corefile};
use key::{Key, within, zone};

/// The zone of services of the cluster set.
pub const ZONE: &str = "clusterset.local";

/// The comment on our line. After it come those of the words below that apply.
const MARK: &str = "# added by carrick dns enable";
/// Between the comment and the words.
const WITH: &str = "; with: ";
/// The zone was added to those of the plugin.
const WITH_ZONE: &str = "zone";
/// The zone was added to the keys of the server block.
const WITH_KEY: &str = "key";
/// The plugin had no block of its own.
const WITH_BLOCK: &str = "block";

/// Why a Corefile is left alone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// A quotation has no end.
    #[error("a quotation begins in line {0} and does not end")]
    Quote(usize),
    /// Braces do not match.
    #[error("the braces near line {0} do not match")]
    Braces(usize),
    /// A server block without braces.
    #[error("the server block in line {0} has no braces around its plugins")]
    NoBraces(usize),
    /// Nothing serves names of Kubernetes.
    #[error("no server block has the plugin kubernetes for this cluster")]
    NoKubernetes,
    /// It may be imported anywhere.
    #[error("the plugin kubernetes is in a snippet, which may be imported in several places")]
    Snippet,
    /// Which is meant?
    #[error("several server blocks have the plugin kubernetes, and none of them serves all names")]
    Several,
    /// CoreDNS takes one only.
    #[error("the server block in line {0} has the plugin kubernetes twice")]
    Twice(usize),
    /// The zones follow from keys.
    #[error("the plugin kubernetes in line {0} names no zones")]
    NoZones(usize),
    /// It is laid out in another way than one directive a line.
    #[error(
        "the plugin kubernetes in line {0} does not end its line with `{{`, or its block is not closed in a line of its own"
    )]
    Layout(usize),
    /// Another zone of several clusters.
    #[error("the plugin kubernetes in line {0} has a `multicluster` line for other zones")]
    OtherMulticluster(usize),
    /// Names would go elsewhere.
    #[error("the server block in line {line} serves {zone}, and would take names of {ZONE}")]
    Shadowed {
        /// Where it begins.
        line: usize,
        /// Its zone.
        zone: String,
    },
    /// The cluster's own names are there.
    #[error(
        "{ZONE} is the first zone of the plugin kubernetes in line {0}: the cluster's own names are there"
    )]
    OwnZone(usize),
    /// Somebody else's work.
    #[error("`multicluster {ZONE}` in line {0} is not from `carrick dns enable`")]
    NotOurs(usize),
    /// It cannot be had back as it was.
    #[error("the plugin kubernetes is written in an unusual way")]
    Unusual,
    /// What was added cannot be taken out.
    #[error("what is left when {ZONE} is taken out cannot be read: {0}")]
    Remainder(Box<Misfit>),
}

/// How to do it by hand.
pub const BY_HAND: &str = "edit the Corefile by hand: in the server block that serves the cluster's names, give the plugin \
     kubernetes the zone clusterset.local beside its others, and in its block the line `multicluster clusterset.local`";

/// What a Corefile says about the zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Whether the zone is served.
    pub on: bool,
    /// Whether CoreDNS sees changes of its Corefile by itself.
    pub reloads: bool,
}

/// The Corefile with the zone; `None` when it has it already.
pub fn enable(text: &str) -> Result<Option<String>, Misfit> {
    let file = Corefile::read(text)?;
    let mut edits = Vec::new();
    for place in chosen(&file)? {
        let serving = Serving::read(text, &file, place)?;
        if !serving.is_on() {
            serving.enable(&mut edits)?;
        }
    }
    if edits.is_empty() {
        return Ok(None);
    }
    let new = apply(text, edits);
    // Whatever the layout is: it has to be on, and nothing may be lost on the way back.
    let works =
        look(&new).is_ok_and(|found| found.on) && disable(&new) == Ok(Some(text.to_owned()));
    if works { Ok(Some(new)) } else { Err(Misfit::Unusual) }
}

/// The Corefile without what [`enable`] added; `None` when nothing of it is there.
pub fn disable(text: &str) -> Result<Option<String>, Misfit> {
    let file = Corefile::read(text)?;
    let mut edits = Vec::new();
    let mut foreign = None;
    for block in &file.blocks {
        for plugin in file.named(block, "kubernetes") {
            let Ok(serving) = Serving::read(text, &file, (block, plugin)) else { continue };
            match serving.mark() {
                Some(with) => serving.disable(&with, &mut edits),
                None if serving.is_on() => foreign = foreign.or(Some(serving.line())),
                None => {}
            }
        }
    }
    match foreign {
        _ if !edits.is_empty() => {
            let left = apply(text, edits);
            Corefile::read(&left).map_err(|misfit| Misfit::Remainder(Box::new(misfit)))?;
            Ok(Some(left))
        }
        Some(line) => Err(Misfit::NotOurs(line)),
        None => Ok(None),
    }
}

/// What a Corefile says.
pub fn look(text: &str) -> Result<Found, Misfit> {
    let file = Corefile::read(text)?;
    let mut on = true;
    for place in chosen(&file)? {
        on &= Serving::read(text, &file, place)?.is_on();
    }
    Ok(Found { on, reloads: reloads(&file) })
}

/// Whether CoreDNS sees changes of its Corefile by itself. One plugin `reload` is enough for all server blocks.
fn reloads(file: &Corefile) -> bool {
    file.blocks.iter().any(|block| file.named(block, "reload").next().is_some())
}

/// A piece of text in place of another.
type Edit = (Range<usize>, String);

fn apply(text: &str, mut edits: Vec<Edit>) -> String {
    edits.sort_by_key(|(place, _)| place.start);
    let mut out = String::with_capacity(text.len() + 128);
    let mut at = 0;
    for (place, new) in edits {
        out.push_str(text.get(at..place.start).unwrap_or_default());
        out.push_str(&new);
        at = place.end;
    }
    out.push_str(text.get(at..).unwrap_or_default());
    out
}

/// A server block and the plugin `kubernetes` in it.
type Place<'a> = (&'a Block, &'a Range<usize>);

/// Where the zone belongs: where it is named already, else where all names are served, else in the only place there is.
fn chosen(file: &Corefile) -> Result<Vec<Place<'_>>, Misfit> {
    let mut candidates = Vec::new();
    let mut in_snippet = false;
    for block in &file.blocks {
        let mut plugins =
            file.named(block, "kubernetes").filter(|plugin| !is_foreign(file, plugin));
        match (plugins.next(), plugins.next()) {
            (Some(_), Some(second)) => return Err(Misfit::Twice(line(file, second.start))),
            (Some(_), None) if block.snippet => in_snippet = true,
            (Some(plugin), None) => candidates.push((block, plugin)),
            (None, _) => {}
        }
    }
    let of_zone = |wanted: &str| -> Vec<Place<'_>> {
        let serves = |(block, _): &&Place<'_>| zones(file, block).any(|zone| zone == wanted);
        candidates.iter().filter(serves).copied().collect()
    };
    let chosen = [of_zone(ZONE), of_zone("")].into_iter().find(|chosen| !chosen.is_empty());
    let chosen = match chosen {
        Some(chosen) => chosen,
        None if candidates.len() > 1 => return Err(Misfit::Several),
        None if candidates.is_empty() && in_snippet => return Err(Misfit::Snippet),
        None if candidates.is_empty() => return Err(Misfit::NoKubernetes),
        None => candidates,
    };
    not_shadowed(file, &chosen)?;
    Ok(chosen)
}

/// Whether a plugin serves another cluster than the one it runs in.
fn is_foreign(file: &Corefile, plugin: &Range<usize>) -> bool {
    let words = plugin.clone().filter_map(|at| file.tokens.get(at));
    words.into_iter().any(|token| matches!(token.text.as_str(), "endpoint" | "kubeconfig"))
}

fn keys<'a>(file: &'a Corefile, block: &'a Block) -> impl Iterator<Item = Key<'a>> {
    block.keys.iter().filter_map(|at| file.tokens.get(*at)).map(|token| Key::parse(&token.text))
}

fn zones<'a>(file: &'a Corefile, block: &'a Block) -> impl Iterator<Item = String> {
    keys(file, block).map(|key| key.zone())
}

fn line(file: &Corefile, at: usize) -> usize {
    file.tokens.get(at).map_or(0, |token| token.line)
}

/// Names go to the server block with the longest zone: is there another one for ours, or for a part of it?
fn not_shadowed(file: &Corefile, chosen: &[Place<'_>]) -> Result<(), Misfit> {
    let is_chosen = |block: &Block| chosen.iter().any(|(own, _)| own.keys == block.keys);
    let own: Vec<Key<'_>> = chosen.iter().flat_map(|(block, _)| keys(file, block)).collect();
    // Blocks that list zones get ours as well, and then wider ones take nothing.
    let all_names = own.iter().any(|key| key.zone().is_empty());
    let named = own.iter().any(|key| key.zone() == ZONE);
    for block in file.blocks.iter().filter(|block| !block.snippet && !is_chosen(block)) {
        for key in keys(file, block) {
            let zone = key.zone();
            let wider = all_names && !named && !zone.is_empty() && within(ZONE, &zone);
            let taken = within(&zone, ZONE) || wider;
            if taken && own.iter().any(|own| own.listens() == key.listens()) {
                let line = block.keys.first().map_or(0, |at| line(file, *at));
                return Err(Misfit::Shadowed { line, zone });
            }
        }
    }
    Ok(())
}

/// A plugin `kubernetes`, taken apart.
struct Serving<'a> {
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
    fn read(text: &'a str, file: &'a Corefile, (block, plugin): Place<'a>) -> Result<Self, Misfit> {
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

    fn line(&self) -> usize {
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

    fn is_on(&self) -> bool {
        let multicluster = self.multicluster.clone().unwrap_or_default();
        let mut of_many = multicluster.skip(1).map(|at| zone(self.word(at)));
        of_many.any(|zone| zone == ZONE) && self.served().iter().any(|zone| zone == ZONE)
    }

    fn enable(&self, edits: &mut Vec<Edit>) -> Result<(), Misfit> {
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
    fn mark(&self) -> Option<Vec<&'a str>> {
        let directive = self.multicluster.clone()?;
        if directive.len() != 2 || self.word(directive.start + 1) != ZONE {
            return None;
        }
        let end = self.end(directive.end - 1);
        let comment = self.text.get(end..self.next_line(end))?.trim();
        let with = comment.strip_prefix(MARK)?.strip_prefix(WITH).unwrap_or_default();
        Some(with.split(',').map(str::trim).collect())
    }

    fn disable(&self, with: &[&str], edits: &mut Vec<Edit>) {
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

#[cfg(test)]
mod tests;
