//! `carrick-controller withdraw`: the uninstall hook. Asks the controller to take Carrick off every
//! node, and waits until it has been.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use carrick_crds::condition::{self, IdentityCondition};
use carrick_crds::{ClusterIdentity, IDENTITY_NAME, WITHDRAW_ANNOTATION};
use futures::{StreamExt as _, pin_mut};
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use tracing::info;

use crate::identity::installation;
use crate::options::WithdrawOptions;

/// Asks and waits. An error names the nodes that did not report.
pub async fn withdraw(options: WithdrawOptions) -> anyhow::Result<()> {
    let client = Client::try_default().await.context("cannot find the Kubernetes API")?;
    let installation = installation::read(Path::new(installation::TOKEN)).await;
    let timeout = Duration::from_secs(options.timeout_seconds);
    withdraw_with(client, installation.as_deref().unwrap_or("all"), timeout).await
}

/// As [`withdraw`], for the installation named.
pub async fn withdraw_with(
    client: Client,
    installation: &str,
    timeout: Duration,
) -> anyhow::Result<()> {
    let api = Api::<ClusterIdentity>::all(client);
    let patch = serde_json::json!({
        "metadata": { "annotations": { WITHDRAW_ANNOTATION: installation } },
    });
    match api.patch(IDENTITY_NAME, &PatchParams::default(), &Patch::Merge(patch)).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.is_not_found() => {
            info!("there is no ClusterIdentity {IDENTITY_NAME}: no controller ever led here");
            return Ok(());
        }
        Err(error) => {
            return Err(error).context(format!("cannot annotate ClusterIdentity {IDENTITY_NAME}"));
        }
    }
    let mut last = String::new();
    match tokio::time::timeout(timeout, wait(api, &mut last)).await {
        Ok(done) => done,
        Err(_) => bail!(
            "nodes still hold parts of Carrick after {} s: {last}. See the agents' logs; \
             `helm uninstall --no-hooks` goes on without them",
            timeout.as_secs()
        ),
    }
}

/// Waits for the condition `Withdrawn`; `last` is what it said last.
async fn wait(api: Api<ClusterIdentity>, last: &mut String) -> anyhow::Result<()> {
    let config = watcher::Config::default().fields(&format!("metadata.name={IDENTITY_NAME}"));
    let objects = watcher(api, config).default_backoff().applied_objects();
    pin_mut!(objects);
    "the controller has not answered".clone_into(last);
    while let Some(object) = objects.next().await {
        let Ok(object) = object else { continue };
        let status = object.status.unwrap_or_default();
        let type_ = IdentityCondition::Withdrawn.as_str();
        if let Some(condition) = condition::find(&status.conditions, type_) {
            if condition.status == "True" {
                info!("nothing of Carrick is left on any node");
                return Ok(());
            }
            last.clone_from(&condition.message);
        }
    }
    bail!("the watch of ClusterIdentity {IDENTITY_NAME} ended")
}
