//! A machine's control groups: one folder in each hierarchy of the host,
//! version 1, version 2 or both. The host's own hierarchy is left as it is.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::machine::Kind;
use crate::wait::wait_until;
use crate::{Error, Result};

/// Groups of dead processes are busy for a moment.
const BUSY: Duration = Duration::from_secs(10);

/// The folder of a lab's groups in each hierarchy.
#[must_use]
pub fn lab_group(lab: &str) -> String {
    format!("carrick-lab.{lab}")
}

/// The control groups of one machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cgroups {
    hierarchies: Vec<Hierarchy>,
    lab: String,
    machine: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Hierarchy {
    mount: PathBuf,
    unified: bool,
}

impl Cgroups {
    /// Those of a machine of a lab, on this host.
    ///
    /// # Errors
    /// When the host's mounts can't be read, or it has no control groups.
    pub fn of(lab: &str, machine: &str) -> Result<Self> {
        let path = "/proc/self/mountinfo";
        let mounts = std::fs::read_to_string(path).map_err(Error::file("reading", path))?;
        let hierarchies = hierarchies(&mounts);
        if hierarchies.is_empty() {
            return Err(Error::Invalid(
                "this host has no cgroup mount; mount one (cgroup2 on /sys/fs/cgroup)".to_owned(),
            ));
        }
        Ok(Self { hierarchies, lab: lab_group(lab), machine: machine.to_owned() })
    }

    /// The kubelet's root: the path inside every hierarchy.
    #[must_use]
    pub fn kubelet_root(&self) -> String {
        format!("/{}/{}", self.lab, self.machine)
    }

    /// Makes the groups: the machine's, and in it one for what isn't a pod
    /// (version 2 wants processes in leaves only). A control plane's machine
    /// gives way to others: elsewhere it has processors of its own, and as its
    /// API server starts it wants all that there are.
    ///
    /// # Errors
    /// When one can't be made.
    pub fn create(&self, kind: Kind) -> Result<()> {
        for hierarchy in &self.hierarchies {
            let mut group = hierarchy.mount.clone();
            for part in [self.lab.as_str(), &self.machine, "system"] {
                hierarchy.delegate(&group)?;
                group.push(part);
                std::fs::create_dir_all(&group).map_err(Error::file("making", &group))?;
                inherit_cpuset(&group)?;
            }
            // In a lab are whole machines, and beside it everything counts as much that has no group of its own,
            // each thread of what tests and tools do.
            let lab = hierarchy.mount.join(&self.lab);
            weigh(&lab, 400)?;
            let machine = if kind == Kind::ControlPlane { 25 } else { 100 };
            weigh(&lab.join(&self.machine), machine)?;
        }
        Ok(())
    }

    /// Moves the calling process into the machine's groups.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn join(&self) -> Result<()> {
        for hierarchy in &self.hierarchies {
            let leaf = hierarchy.mount.join(&self.lab).join(&self.machine).join("system");
            let procs = leaf.join("cgroup.procs");
            std::fs::write(&procs, "0").map_err(Error::file("joining", procs))?;
        }
        Ok(())
    }

    /// Removes the machine's groups; its processes are dead.
    ///
    /// # Errors
    /// When one is still busy after some seconds.
    pub fn remove(&self) -> Result<()> {
        let mut groups =
            self.hierarchies.iter().map(|h| h.mount.join(&self.lab).join(&self.machine));
        groups.try_for_each(|group| remove_tree(&group))
    }

    /// Removes the groups of the pods only: stale ones cost a restarted kubelet seconds each.
    ///
    /// # Errors
    /// When one is still busy after some seconds.
    pub fn remove_pods(&self) -> Result<()> {
        let mut machines =
            self.hierarchies.iter().map(|h| h.mount.join(&self.lab).join(&self.machine));
        machines.try_for_each(|machine| remove_tree(&machine.join("kubepods")))
    }

    /// Removes all groups of a lab on this host.
    ///
    /// # Errors
    /// When one is still busy after some seconds.
    pub fn remove_lab(lab: &str) -> Result<()> {
        let all = Self::of(lab, "all")?;
        all.hierarchies.iter().try_for_each(|h| remove_tree(&h.mount.join(&all.lab)))
    }
}

impl Hierarchy {
    /// Lets children of a version 2 group have the controllers that the group has.
    fn delegate(&self, group: &Path) -> Result<()> {
        if !self.unified {
            return Ok(());
        }
        let available = group.join("cgroup.controllers");
        let names =
            std::fs::read_to_string(&available).map_err(Error::file("reading", available))?;
        let wanted: Vec<String> = names.split_whitespace().map(|name| format!("+{name}")).collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let control = group.join("cgroup.subtree_control");
        std::fs::write(&control, wanted.join(" ")).map_err(Error::file("writing", control))
    }
}

/// A new version 1 cpuset is empty, and nothing may join an empty one.
fn inherit_cpuset(group: &Path) -> Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let own = group.join(file);
        let Ok(current) = std::fs::read_to_string(&own) else { continue };
        // Version 2 inherits by itself; what the parent has is then in another file.
        let parent = group.parent().map(|parent| parent.join(file));
        let inherited = parent.and_then(|parent| std::fs::read_to_string(parent).ok());
        if let Some(inherited) =
            inherited.filter(|v| current.trim().is_empty() && !v.trim().is_empty())
        {
            std::fs::write(&own, inherited.trim()).map_err(Error::file("writing", own))?;
        }
    }
    Ok(())
}

/// Gives a group so many hundredths of the CPU time that one has by default, when others want some too.
fn weigh(group: &Path, percent: u32) -> Result<()> {
    for (file, usual) in [("cpu.shares", 1024), ("cpu.weight", 100)] {
        let file = group.join(file);
        if file.exists() {
            let weight = usual * percent / 100;
            std::fs::write(&file, weight.to_string()).map_err(Error::file("writing", file))?;
        }
    }
    Ok(())
}

fn remove_tree(group: &Path) -> Result<()> {
    let entries = match std::fs::read_dir(group) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        result => result.map_err(Error::file("reading", group))?,
    };
    for entry in entries.flatten().filter(|entry| entry.path().is_dir()) {
        remove_tree(&entry.path())?;
    }
    wait_until(BUSY, &format!("removal of {}", group.display()), || {
        match std::fs::remove_dir(group) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error.to_string()),
            _ => Ok(()),
        }
    })
}

/// The hierarchies in the text of /proc/self/mountinfo. A version 2 mount
/// beside version 1 ones ("hybrid") carries no controllers but counts as well.
fn hierarchies(mountinfo: &str) -> Vec<Hierarchy> {
    let parse = |line: &str| {
        let (head, tail) = line.split_once(" - ")?;
        let kind = tail.split(' ').next()?;
        let unified = match kind {
            "cgroup" => false,
            "cgroup2" => true,
            _ => return None,
        };
        let mut fields = head.split(' ').skip(3);
        let (root, mount) = (fields.next()?, PathBuf::from(fields.next()?));
        // Binds of a part, as containers have them, are not the host's hierarchy.
        (root == "/").then_some(Hierarchy { mount, unified })
    };
    let mut found: Vec<Hierarchy> = mountinfo.lines().filter_map(parse).collect();
    found.sort_by(|a, b| a.mount.cmp(&b.mount));
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_are_found_and_parts_are_not() {
        let text = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime shared:4 - cgroup cgroup rw,cpu
33 31 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
34 31 0:29 /inner /mnt/cpu rw - cgroup cgroup rw,cpu
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime shared:4 - cgroup cgroup rw,cpu
garbage
";
        let found = hierarchies(text);
        let expected = [("/sys/fs/cgroup/cpu", false), ("/sys/fs/cgroup/unified", true)];
        let expected = expected.map(|(m, unified)| Hierarchy { mount: m.into(), unified });
        assert_eq!(found, expected);
    }

    #[test]
    fn a_group_weighs_more_or_less_than_usual() {
        let root = tempfile::tempdir().expect("a folder");
        weigh(root.path(), 400).expect("a hierarchy without weights");
        for (file, before, after) in [("cpu.shares", "1024", "4096"), ("cpu.weight", "100", "400")]
        {
            let file = root.path().join(file);
            std::fs::write(&file, before).expect("written");
            weigh(root.path(), 400).expect("weighed");
            assert_eq!(std::fs::read_to_string(&file).expect("read"), after);
            weigh(root.path(), 100).expect("weighed");
            assert_eq!(std::fs::read_to_string(&file).expect("read"), before);
        }
    }

    #[test]
    fn a_tree_goes_from_its_leaves() {
        let root = tempfile::tempdir().expect("a folder");
        let tree = root.path().join("lab");
        std::fs::create_dir_all(tree.join("a/b")).expect("made");
        std::fs::create_dir_all(tree.join("c")).expect("made");
        remove_tree(&tree).expect("removed");
        assert!(!tree.exists());
        remove_tree(&tree).expect("nothing to do");
    }

    #[test]
    fn an_empty_cpuset_takes_its_parents_value() {
        let root = tempfile::tempdir().expect("a folder");
        let child = root.path().join("child");
        std::fs::create_dir(&child).expect("made");
        for (folder, cpus) in [(root.path(), "0-3\n"), (child.as_path(), "\n")] {
            std::fs::write(folder.join("cpuset.cpus"), cpus).expect("written");
        }
        inherit_cpuset(&child).expect("inherited");
        assert_eq!(std::fs::read_to_string(child.join("cpuset.cpus")).expect("read"), "0-3");
    }
}
