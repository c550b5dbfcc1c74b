//! Making a lab, step by step, each on record before it is done.

use std::path::PathBuf;

use crate::address::ClusterPlan;
use crate::cluster::Cluster;
use crate::image::{Carrick, build_carrick, cluster_images};
use crate::lab::{Book, Wan, down, join};
use crate::parts::Parts;
use crate::progress::Progress;
use crate::spec::LabSpec;
use crate::state::{State, Store};
use crate::{Error, Result, host};

/// Makes the lab.
pub(super) fn up(store: &Store, spec: &LabSpec, progress: &Progress) -> Result<()> {
    let lock = store.lock()?;
    match store.load()? {
        Some(state) if is_running(&state)? && state.spec == *spec => {
            progress.say(&format!("lab {} is up already", spec.name));
            return Ok(());
        }
        Some(state) if is_running(&state)? => {
            return Err(Error::Invalid(format!(
                "lab {0} is up and different ({1} clusters of {2} nodes); `cargo lab --lab {0} down` first",
                spec.name, state.spec.clusters, state.spec.nodes
            )));
        }
        _ => down::down(store, progress)?,
    }
    let parts = Parts::ensure(progress)?;
    let state = State::new(spec.clone(), host::boot_id()?, parts.folder().to_owned());
    let book = Book::begin(store, lock, state)?;
    host::prepare()?;
    let plans = ClusterPlan::all(spec).into_iter();
    let clusters: Vec<Cluster> = plans.map(|plan| Cluster::new(store.clone(), plan)).collect();
    let images = cluster_images(&parts, &images_folder(store))?;
    build(&book, &clusters, &images, spec, progress)?;
    if spec.images {
        let carrick = build_carrick(&images_folder(store), progress)?;
        load_carrick(&book, &clusters, &carrick, progress)?;
    }
    book.change(|state| state.complete = true)
}

fn build(
    book: &Book,
    clusters: &[Cluster],
    images: &[PathBuf],
    spec: &LabSpec,
    progress: &Progress,
) -> Result<()> {
    progress.step("routers and control planes have namespaces", String::new, || {
        each(clusters, |cluster| cluster.start_machines(book))
    })?;
    let joined = match spec.cables {
        true => "cables join the routers",
        false => "the WAN emulator joins the routers",
    };
    progress
        .step(joined, String::new, || Wan::new(book.store().clone(), spec.clone()).start(book))?;
    progress.step("control planes, containerd and kubelets run", String::new, || {
        each(clusters, |cluster| cluster.start(book, images))
    })?;
    progress.step("nodes are Ready", String::new, || each(clusters, Cluster::wait_nodes))?;
    progress.step("DNS is available", String::new, || each(clusters, Cluster::wait_dns))
}

/// Loads Carrick's images on every node that has power.
pub(super) fn load_carrick(
    book: &Book,
    clusters: &[Cluster],
    carrick: &Carrick,
    progress: &Progress,
) -> Result<()> {
    import(clusters, carrick, progress)?;
    book.change(|state| state.image_tag = Some(carrick.tag.clone()))
}

/// Loads images on every node that has power.
pub(super) fn import(clusters: &[Cluster], carrick: &Carrick, progress: &Progress) -> Result<()> {
    progress.step(&format!("loaded Carrick's images, tag {}", carrick.tag), String::new, || {
        each(clusters, |cluster| {
            let nodes: Vec<_> = cluster.nodes().into_iter().filter(|n| n.has_power()).collect();
            each(&nodes, |node| node.import(&carrick.archives))
        })
    })
}

/// Whether a lab is complete and none of its processes has died with its lab.
fn is_running(state: &State) -> Result<bool> {
    let boot = host::boot_id()?;
    let alive = state.roots().iter().all(|process| process.alive());
    Ok(state.complete && state.boot_id == boot && alive)
}

/// Where a lab keeps the archives of its images.
pub(super) fn images_folder(store: &Store) -> PathBuf {
    store.folder().join("images")
}

/// Does the same for all, in parallel.
fn each<T: Sync>(items: &[T], work: impl Fn(&T) -> Result<()> + Sync) -> Result<()> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = items.iter().map(|item| scope.spawn(|| work(item))).collect();
        threads.into_iter().try_for_each(join)
    })
}
