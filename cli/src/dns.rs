//! `carrick dns`: an existing CoreDNS serves `clusterset.local`, or no longer.

pub mod args;
mod client;
mod corefile;
mod diff;
#[cfg(test)]
pub mod fixture;
mod found;
pub mod judge;
mod plan;
mod rights;
mod version;

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use anyhow::{Context as _, Result};

use crate::connect::Cluster;
use crate::{check, print};
use args::{ChangeArgs, DnsArgs, DnsCommand};

pub use client::find;
pub use corefile::ZONE;
pub use found::Dns;
pub use plan::DnsError;

/// Where CoreDNS is unless somebody says so.
pub const NAMESPACE: &str = "kube-system";
/// Its ConfigMap there.
pub const CONFIGMAP: &str = "coredns";
/// Somebody would have to be asked, and nobody can be.
const UNASKED: u8 = 2;

/// Does what is asked.
pub async fn run(cluster: &Cluster, args: &DnsArgs) -> Result<ExitCode> {
    let namespace = cluster.namespace.as_deref().unwrap_or(NAMESPACE);
    let dns = client::find(cluster, namespace, &args.configmap).await;
    match &args.command {
        DnsCommand::Status => {
            let steps = judge::steps(&dns);
            print(&check::render(&steps))?;
            Ok(if check::fails(&steps) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
        }
        DnsCommand::Enable(change) => carry_out(cluster, &dns, plan::enable(&dns)?, change).await,
        DnsCommand::Disable(change) => carry_out(cluster, &dns, plan::disable(&dns)?, change).await,
    }
}

async fn carry_out(
    cluster: &Cluster,
    dns: &Dns,
    mut plan: plan::Plan,
    args: &ChangeArgs,
) -> Result<ExitCode> {
    let by_itself = plan.restart.is_empty();
    if args.restart && by_itself && plan.corefile.is_some() {
        plan.restart = dns.workloads.clone().unwrap_or_default();
    }
    print(&plan::render(&plan, dns))?;
    if plan.is_empty() || args.dry_run {
        return Ok(ExitCode::SUCCESS);
    }
    if !args.yes && !std::io::stdin().is_terminal() {
        crate::complain(&DnsError::NoTerminal.into());
        return Ok(ExitCode::from(UNASKED));
    }
    if !args.yes && !agreed("Change this?")? {
        eprintln!("nothing was changed");
        return Ok(ExitCode::FAILURE);
    }
    client::apply(cluster, dns, &plan).await?;
    print("changed\n")?;
    if plan.corefile.is_none() {
        return Ok(ExitCode::SUCCESS);
    }
    if plan.restart.is_empty() {
        print(
            "CoreDNS reads its Corefile again by itself, within two minutes or so (--restart does it at once)\n",
        )?;
    }
    for workload in &plan.restart {
        let question = format!("Restart {} {}/{}?", workload.kind, dns.namespace, workload.name);
        if args.yes || args.restart || agreed(&question)? {
            client::restart(cluster, dns, workload).await?;
            print(&format!("{} {} restarts\n", workload.kind, workload.name))?;
        } else {
            eprintln!(
                "it counts after: kubectl -n {} rollout restart {}/{}",
                dns.namespace,
                workload.kind.to_lowercase(),
                workload.name
            );
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Asks a person.
fn agreed(question: &str) -> Result<bool> {
    eprint!("{question} [y/N] ");
    std::io::stderr().flush().context("write the question")?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).context("read the answer")?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}
