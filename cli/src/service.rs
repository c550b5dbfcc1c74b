//! `carrick service`: services of several clusters.

pub mod args;
mod client;
#[cfg(test)]
mod fixture;
mod found;
mod report;
mod trace;

use std::process::ExitCode;

use anyhow::{Context as _, Result};

use crate::connect::Cluster;
use crate::{check, dns, fetch, print};
use args::{ExportArgs, Format, ServiceArgs, ServiceCommand, TraceArgs};

pub use found::ServiceError;

/// Does what is asked.
pub async fn run(cluster: Cluster, args: &ServiceArgs) -> Result<ExitCode> {
    // As kubectl does it: what -n names, else what the context names.
    let named = cluster.namespace.clone();
    let namespace = named.unwrap_or_else(|| cluster.client.default_namespace().to_owned());
    match &args.command {
        ServiceCommand::Export(export) => self::export(&cluster, &namespace, export).await?,
        ServiceCommand::Unexport { name } => {
            client::unexport(&cluster, &namespace, name).await?;
            print(&format!("{namespace}/{name} is no longer exported\n"))?;
        }
        ServiceCommand::List { all_namespaces, output } => {
            let scope = (!all_namespaces).then_some(namespace.as_str());
            list(&cluster, scope, *output).await?;
        }
        ServiceCommand::Trace(trace) => return self::trace(cluster, namespace, trace).await,
    }
    Ok(ExitCode::SUCCESS)
}

async fn export(cluster: &Cluster, namespace: &str, args: &ExportArgs) -> Result<()> {
    client::export(cluster, namespace, args).await?;
    print(&format!(
        "{namespace}/{} is exported; `carrick service list` shows what becomes of it\n",
        args.name
    ))?;
    // Who may not read Services may still export them.
    if let Ok(service) = client::service(cluster, namespace, &args.name).await {
        for note in report::notes(service.as_ref(), &args.name) {
            eprintln!("note: {note}");
        }
    }
    Ok(())
}

async fn list(cluster: &Cluster, namespace: Option<&str>, output: Format) -> Result<()> {
    let reports = report::of(client::find(cluster, namespace).await)?;
    print(&match output {
        Format::Table => report::table(&reports),
        Format::Json => {
            serde_json::to_string_pretty(&reports).context("write the list as JSON")? + "\n"
        }
    })
}

async fn trace(mut cluster: Cluster, namespace: String, args: &TraceArgs) -> Result<ExitCode> {
    // Here -n is the service's; Carrick's own namespace is found.
    cluster.namespace = None;
    let (services, has_namespace, dns, state) = futures::join!(
        client::find(&cluster, Some(&namespace)),
        client::has_namespace(&cluster, &namespace),
        dns::find(&cluster, &args.dns_namespace, &args.dns_configmap),
        fetch::state(&cluster),
    );
    let name = args.name.clone();
    let steps =
        trace::steps(&trace::Scene { namespace, name, has_namespace, services, dns, state });
    print(&check::render(&steps))?;
    Ok(if check::fails(&steps) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
