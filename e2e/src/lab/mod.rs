//! A lab as a whole: up, down, and what is in it.

mod book;
mod down;
mod up;
mod wan;

pub use book::Book;
pub use wan::Wan;
pub(crate) use wan::emulate as emulate_wan;

use crate::address::ClusterPlan;
use crate::cluster::{Cluster, Node};
use crate::image::{Carrick, build_carrick};
use crate::lock::Lock;
use crate::progress::Progress;
use crate::spec::{LabSpec, validate_name};
use crate::state::{State, Store};
use crate::{Error, Result};

/// A lab that is up.
#[derive(Debug)]
pub struct Lab {
    store: Store,
    spec: LabSpec,
    remove_on_drop: bool,
}

impl Lab {
    /// Makes a lab; what an interrupted run of the same name left goes first.
    /// The lab stays when the value is dropped (see [`Lab::remove_on_drop`]).
    ///
    /// # Errors
    /// When the specification is invalid, the caller isn't root, or a step fails.
    pub fn up(spec: &LabSpec, progress: &Progress) -> Result<Self> {
        spec.validate()?;
        require_root("starting a lab")?;
        let store = Store::new(&spec.name);
        up::up(&store, spec, progress)?;
        Ok(Self { store, spec: spec.clone(), remove_on_drop: false })
    }

    /// The lab of this name that is up.
    ///
    /// # Errors
    /// When there is none, or it is incomplete.
    pub fn attach(name: &str) -> Result<Self> {
        validate_name(name)?;
        let store = Store::new(name);
        let state = store.load()?.filter(|state| state.complete);
        let state = state.ok_or_else(|| {
            Error::Invalid(format!(
                "lab {name} is not up; start it with `cargo lab --lab {name} up`"
            ))
        })?;
        Ok(Self { store, spec: state.spec, remove_on_drop: false })
    }

    /// The right to run cases on a lab of this name, from before it is made until it is removed (see [`Store::claim`]).
    ///
    /// # Errors
    /// When another run has it, the name is invalid, or the caller isn't root.
    pub fn claim(name: &str) -> Result<Lock> {
        validate_name(name)?;
        require_root("running cases on a lab")?;
        Store::new(name).claim()
    }

    /// Removes all that a lab of this name has made, complete or not.
    ///
    /// # Errors
    /// When something can't be removed.
    pub fn down(name: &str, progress: &Progress) -> Result<()> {
        validate_name(name)?;
        require_root("removing a lab")?;
        let store = Store::new(name);
        let _lock = store.lock()?;
        down::down(&store, progress)
    }

    /// Makes the lab go when this value is dropped.
    #[must_use]
    pub fn remove_on_drop(mut self) -> Self {
        self.remove_on_drop = true;
        self
    }

    /// The folder of its record and its machines' disks.
    #[must_use]
    pub fn folder(&self) -> std::path::PathBuf {
        self.store.folder()
    }

    /// What it was made from.
    #[must_use]
    pub fn spec(&self) -> &LabSpec {
        &self.spec
    }

    /// All clusters.
    #[must_use]
    pub fn clusters(&self) -> Vec<Cluster> {
        let plans = ClusterPlan::all(&self.spec).into_iter();
        plans.map(|plan| Cluster::new(self.store.clone(), plan)).collect()
    }

    /// The cluster with this name.
    ///
    /// # Errors
    /// [`Error::Unknown`], which lists the clusters.
    pub fn cluster(&self, name: &str) -> Result<Cluster> {
        let clusters = self.clusters();
        let known: Vec<String> = clusters.iter().map(|c| c.plan().name.clone()).collect();
        let found = clusters.into_iter().find(|cluster| cluster.plan().name == name);
        found.ok_or_else(|| self.unknown("cluster", name, &known))
    }

    /// The node with this name, of whatever cluster.
    ///
    /// # Errors
    /// [`Error::Unknown`], which lists the nodes.
    pub fn node(&self, name: &str) -> Result<Node> {
        let nodes: Vec<Node> = self.clusters().iter().flat_map(Cluster::nodes).collect();
        let known: Vec<String> = nodes.iter().map(|node| node.plan().name.clone()).collect();
        let found = nodes.into_iter().find(|node| node.plan().name == name);
        found.ok_or_else(|| self.unknown("node", name, &known))
    }

    /// The emulated network between the clusters.
    #[must_use]
    pub fn wan(&self) -> Wan {
        Wan::new(self.store.clone(), self.spec.clone())
    }

    /// The lab's record as it is now.
    ///
    /// # Errors
    /// When it is gone.
    pub fn state(&self) -> Result<State> {
        let gone = || Error::Invalid(format!("lab {} is gone", self.spec.name));
        self.store.load()?.ok_or_else(gone)
    }

    /// The tag of Carrick's images that are loaded.
    ///
    /// # Errors
    /// When the lab was made without them.
    pub fn image_tag(&self) -> Result<String> {
        let missing = || {
            let name = &self.spec.name;
            Error::Invalid(format!(
                "lab {name} has no Carrick images; `cargo lab --lab {name} reload` loads them"
            ))
        };
        self.state()?.image_tag.ok_or_else(missing)
    }

    /// Builds Carrick's images and loads them on all nodes that have power.
    ///
    /// # Errors
    /// When the build or an import fails.
    pub fn load_images(&self, progress: &Progress) -> Result<Carrick> {
        // Others may use the lab while this compiles.
        let carrick = build_carrick(&up::images_folder(&self.store), progress)?;
        up::load_carrick(&Book::open(&self.store)?, &self.clusters(), &carrick, progress)?;
        Ok(carrick)
    }

    /// Loads other images beside them, as of another release.
    ///
    /// # Errors
    /// When an import fails.
    pub fn import(&self, carrick: &Carrick, progress: &Progress) -> Result<()> {
        let _book = Book::open(&self.store)?;
        up::import(&self.clusters(), carrick, progress)
    }

    fn unknown(&self, kind: &'static str, name: &str, known: &[String]) -> Error {
        let (lab, name, known) = (self.spec.name.clone(), name.to_owned(), known.join(", "));
        Error::Unknown { lab, kind, name, known }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if !self.remove_on_drop {
            return;
        }
        let progress = Progress::default();
        if let Err(error) = Self::down(&self.spec.name, &progress) {
            let name = &self.spec.name;
            progress.say(&format!(
                "lab {name} was not removed: {error}; try `cargo lab --lab {name} down`"
            ));
        }
    }
}

fn require_root(operation: &'static str) -> Result<()> {
    match nix::unistd::geteuid().is_root() {
        true => Ok(()),
        false => Err(Error::NotRoot { operation }),
    }
}

/// Waits for a thread and hands on its result, or its panic.
pub fn join<T>(thread: std::thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    match thread.join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}
