//! Changes of a Corefile, from text to text: on, and back again byte for byte.
//!
//! What is added is one line in the block of the `kubernetes` plugin, with a comment that says what else was added, and
//! the zone where zones are listed. So it can be taken out again whatever has been changed around it.

mod blocks;
mod key;
mod lexer;
mod misfit;
mod serving;

use std::ops::Range;

use blocks::{Block, Corefile};
use key::{Key, within};
use serving::Serving;

pub use misfit::Misfit;

/// The zone of services of the cluster set.
pub const ZONE: &str = "clusterset.local";

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

#[cfg(test)]
mod tests;
