//! `cargo demo`: two clusters, one ClusterPeering in each, and a page fetched across.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use carrick_e2e::cluster::Cluster;
use carrick_e2e::progress::Progress;
use carrick_e2e::{Lab, LabSpec, carrick, probes};
use clap::Parser;

/// Two real clusters, one ClusterPeering in each, and a page fetched across. As root; removes what an
/// earlier run left.
#[derive(Parser)]
#[command(name = "cargo demo", version)]
struct Cli {
    /// The lab's name: labs of different names live side by side.
    #[arg(long, default_value = "lab")]
    lab: String,
    /// Remove everything at the end.
    #[arg(long)]
    remove: bool,
}

/// From the second ClusterPeering to Ready, on a machine that does much else.
const READY: Duration = Duration::from_secs(60);

fn main() -> anyhow::Result<()> {
    carrick_e2e::helper::serve();
    let cli = Cli::parse();
    let progress = Progress::default();
    let spec = LabSpec { name: cli.lab.clone(), ..LabSpec::default() };
    let lab = Lab::up(&spec, &progress)?;
    let lab = if cli.remove { lab.remove_on_drop() } else { lab };
    let (paris, osaka) = (lab.cluster("paris")?, lab.cluster("osaka")?);
    install(&lab, &progress)?;
    let quiet = || "waiting for the API servers".to_owned();
    let applied = progress
        .step("applied each cluster's invitation in the other", quiet, || {
            carrick::peer(&paris, &osaka)
        })
        .context(lookup(&cli.lab))?;
    wait_ready(&paris, &osaka, applied, &progress).context(lookup(&cli.lab))?;
    for (from, to) in [(&paris, &osaka), (&osaka, &paris)] {
        fetch(from, to, &progress).context(lookup(&cli.lab))?;
    }
    for cluster in [&paris, &osaka] {
        println!("\n$ carrick status      # {}", cluster.plan().name);
        print!("{}", carrick::command(cluster, &["status"])?);
    }
    if !cli.remove {
        print!("{}", farewell(&cli.lab));
    }
    Ok(())
}

fn lookup(lab: &str) -> String {
    format!(
        "the clusters are left for a look: `cargo lab --lab {lab} status`, \
         `cargo lab --lab {lab} down` removes them"
    )
}

fn install(lab: &Lab, progress: &Progress) -> anyhow::Result<()> {
    let (tag, clusters) = (lab.image_tag()?, lab.clusters());
    let detail = || "helm and the pods' start".to_owned();
    progress.step("installed Carrick by helm, and test pods on each node", detail, || {
        std::thread::scope(|scope| {
            let threads: Vec<_> = clusters
                .iter()
                .map(|cluster| {
                    let tag = &tag;
                    scope.spawn(move || {
                        carrick::install(cluster, tag, &[])?;
                        probes::start(cluster, tag)
                    })
                })
                .collect();
            threads.into_iter().try_for_each(carrick_e2e::lab::join)
        })
    })?;
    Ok(())
}

fn wait_ready(
    paris: &Cluster,
    osaka: &Cluster,
    applied: Instant,
    progress: &Progress,
) -> anyhow::Result<()> {
    let detail = || "waiting for condition Ready".to_owned();
    progress.step("full-size packets cross both ways (Ready)", detail, || {
        carrick::wait_condition(paris, "osaka", "Ready", "True", READY)?;
        carrick::wait_condition(osaka, "paris", "Ready", "True", READY)
    })?;
    let took = applied.elapsed().as_secs_f64();
    progress.say(&format!("Ready {took:.1} s after the second ClusterPeering was applied"));
    Ok(())
}

/// Fetches the page of a pod of `to` from a pod on each node of `from`.
fn fetch(from: &Cluster, to: &Cluster, progress: &Progress) -> anyhow::Result<()> {
    let server = to.plan().nodes.first().context("a cluster has nodes")?;
    let target = probes::address(to, &server.name)?;
    for node in &from.plan().nodes {
        let own = probes::address(from, &node.name)?;
        let page = probes::fetch(from, &node.name, target, 2000)?;
        ensure!(
            page.client == own.to_string(),
            "the server saw {} instead of the pod's own address {own}",
            page.client
        );
        progress.say(&format!(
            "pod {own} on {} fetched a page from {} ({target}), which saw it as {}",
            node.name, page.server, page.client
        ));
    }
    Ok(())
}

fn farewell(lab: &str) -> String {
    let option = if lab == "lab" { String::new() } else { format!(" --lab {lab}") };
    format!(
        "\nLook around:\n\
         \x20 cargo lab{option} kubectl paris get clusterpeerings,clusteridentities\n\
         \x20 cargo lab{option} kubectl osaka get pods -A -o wide\n\
         \x20 cargo lab{option} exec paris-1 -- ip route show table 51820     # inside a node\n\
         \x20 cargo lab{option} wan cut paris osaka                           # break the network, then: wan restore paris osaka\n\
         Remove everything:\n\
         \x20 cargo lab{option} down\n"
    )
}
