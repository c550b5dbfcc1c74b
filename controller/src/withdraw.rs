//! `carrick-controller withdraw`: the uninstall hook. Asks the controller to take Carrick off every
//! node, waits until it has been, and removes what was made for imported services.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use carrick_crds::condition::{self, IdentityCondition};
use carrick_crds::{ClusterIdentity, IDENTITY_NAME, WITHDRAW_ANNOTATION};
use futures::{StreamExt as _, pin_mut};
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use tracing::info;

use crate::brief::Brief;
use crate::cluster::pauses::Pauses;
use crate::identity::installation;
use crate::options::WithdrawOptions;
use crate::services::remove::remove;

/// How long removing what was made for imported services may take.
const REMOVAL: Duration = Duration::from_secs(60);

/// How long taking the withdrawal back may take.
const TAKE_BACK: Duration = Duration::from_secs(10);

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
    let kind = ApiResource::erase::<ClusterIdentity>(&());
    let annotated = Api::<DynamicObject>::all_with(client.clone(), &kind);
    match annotate(&annotated, Some(installation)).await {
        Ok(()) => {}
        Err(kube::Error::Api(status)) if status.is_not_found() => {
            info!("there is no ClusterIdentity {IDENTITY_NAME}: no controller ever led here");
            return Ok(());
        }
        Err(error) => {
            return Err(error).context(format!("cannot annotate ClusterIdentity {IDENTITY_NAME}"));
        }
    }
    let mut last = String::new();
    let waiting = wait(Api::<ClusterIdentity>::all(client.clone()), &mut last);
    let why = match tokio::time::timeout(timeout, waiting).await {
        Ok(Ok(())) => match remove_services(&client).await {
            Ok(()) => return Ok(()),
            Err(why) => format!("imported services are not removed: {why}"),
        },
        Ok(Err(error)) => error.to_string(),
        Err(_) => {
            format!("nodes still hold parts of Carrick after {} s: {last}", timeout.as_secs())
        }
    };
    let standing = take_back(&annotated).await;
    bail!(
        "{why}. See the agents' logs; `helm uninstall --no-hooks` goes on without them. {standing}"
    )
}

/// By now the controller writes none any more.
async fn remove_services(client: &Client) -> Result<(), String> {
    match tokio::time::timeout(REMOVAL, remove(client)).await {
        Ok(Ok(0)) => Ok(()),
        Ok(Ok(objects)) => {
            info!(objects, "nothing of imported services is left");
            Ok(())
        }
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("that takes more than {} s", REMOVAL.as_secs())),
    }
}

async fn annotate(api: &Api<DynamicObject>, value: Option<&str>) -> Result<(), kube::Error> {
    let patch =
        serde_json::json!({ "metadata": { "annotations": { WITHDRAW_ANNOTATION: value } } });
    api.patch(IDENTITY_NAME, &PatchParams::default(), &Patch::Merge(patch)).await.map(drop)
}

/// An uninstall that failed leaves Carrick installed, so it has to be in service. Says whether it is.
async fn take_back(api: &Api<DynamicObject>) -> String {
    let failed = match tokio::time::timeout(TAKE_BACK, annotate(api, None)).await {
        Ok(Ok(())) => return "The withdrawal is taken back: Carrick is in service".to_owned(),
        Ok(Err(error)) => Brief(&error).to_string(),
        Err(_) => format!("no answer within {} s", TAKE_BACK.as_secs()),
    };
    format!(
        "Carrick stays out of service until `kubectl annotate clusteridentity {IDENTITY_NAME} \
         {WITHDRAW_ANNOTATION}-`, because the withdrawal could not be taken back: {failed}"
    )
}

/// Waits for the condition `Withdrawn`; `last` is what it said last.
async fn wait(api: Api<ClusterIdentity>, last: &mut String) -> anyhow::Result<()> {
    let config = watcher::Config::default().fields(&format!("metadata.name={IDENTITY_NAME}"));
    let objects = watcher(api, config).backoff(Pauses::default()).applied_objects();
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
