//! Removing a lab, whatever state it is in: only what is on its record, and
//! what carries its name in the kernel.

use std::path::Path;

use crate::lab::Wan;
use crate::machine::{Cgroups, ProcessRecord};
use crate::progress::Progress;
use crate::state::{State, Store};
use crate::{Error, Result, host};

/// Removes the lab. The caller holds its lock.
pub(super) fn down(store: &Store, progress: &Progress) -> Result<()> {
    let Some(state) = store.load()? else {
        return store.remove();
    };
    say_what_the_wan_lost(store, &state, progress);
    progress.step(&format!("removed lab {}", store.name()), String::new, || {
        end_processes(&state, &host::boot_id()?)?;
        Cgroups::remove_lab(store.name())?;
        check_unmounted(&store.folder())?;
        host::restore(store)?;
        store.remove()
    })
}

/// The last word on every loss that was measured in the lab.
fn say_what_the_wan_lost(store: &Store, state: &State, progress: &Progress) {
    if !state.wan.as_ref().is_some_and(ProcessRecord::alive) {
        return;
    }
    match Wan::new(store.clone(), state.spec.clone()).stats() {
        Ok(stats) => progress.say(&format!("lab {}: {}", store.name(), stats.verdict())),
        Err(error) => progress.say(&format!("lab {}: no counters: {error}", store.name())),
    }
}

fn end_processes(state: &State, boot: &str) -> Result<()> {
    let roots = to_end(state, boot);
    // All at once: machines take their time to die, but need not wait for each other.
    for process in &roots {
        process.signal(nix::sys::signal::Signal::SIGKILL)?;
    }
    roots.iter().try_for_each(|process| process.kill())
}

/// The processes to end: none of another boot, whose numbers mean nothing now.
fn to_end<'a>(state: &'a State, boot: &str) -> Vec<&'a ProcessRecord> {
    if state.boot_id == boot { state.roots() } else { Vec::new() }
}

/// Nothing is removed through a mount: it would reach what is mounted.
fn check_unmounted(folder: &Path) -> Result<()> {
    let path = "/proc/self/mountinfo";
    let mounts = std::fs::read_to_string(path).map_err(Error::file("reading", path))?;
    match mounted_below(&mounts, folder) {
        None => Ok(()),
        Some(mount) => Err(Error::Invalid(format!(
            "{mount} is still mounted; unmount it (umount -R {mount}) and repeat `cargo lab down`"
        ))),
    }
}

fn mounted_below<'a>(mountinfo: &'a str, folder: &Path) -> Option<&'a str> {
    let mut points = mountinfo.lines().filter_map(|line| line.split(' ').nth(4));
    points.rfind(|point| Path::new(point).starts_with(folder))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::LabSpec;

    #[test]
    fn processes_of_another_boot_are_not_touched() {
        let mut state = State::new(LabSpec::default(), "now".into(), "parts".into());
        state.wan = Some(ProcessRecord { pid: 1, ..ProcessRecord::default() });
        assert_eq!(to_end(&state, "now").len(), 1);
        assert!(to_end(&state, "later").is_empty());
    }

    #[test]
    fn a_mount_inside_is_found_and_a_neighbour_is_not() {
        let text = "1 2 0:1 / /lab/one/a rw - x x rw\n1 2 0:1 / /lab/one-more rw - x x rw\n";
        assert_eq!(mounted_below(text, Path::new("/lab/one")), Some("/lab/one/a"));
        assert_eq!(mounted_below(text, Path::new("/lab/two")), None);
    }
}
