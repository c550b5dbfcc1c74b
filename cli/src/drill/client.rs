//! Requests about drills.

use carrick_crds::FailoverDrill;
use kube::Api;
use kube::api::{DeleteParams, ListParams, PostParams};

use crate::connect::Cluster;
use crate::fetch::failed;
use crate::state::{FetchError, FetchErrorKind, Fetched};

fn api(cluster: &Cluster) -> Api<FailoverDrill> {
    Api::all(cluster.client.clone())
}

/// A drill.
pub async fn get(cluster: &Cluster, name: &str) -> Fetched<FailoverDrill> {
    let what = format!("get failoverdrills.carrick.dev {name:?}");
    let found = api(cluster).get_opt(name).await;
    let found = found.map_err(|error| failed(cluster, &what, &error))?;
    found.ok_or_else(|| FetchError {
        what,
        server: cluster.server.clone(),
        kind: FetchErrorKind::Missing,
        message: "there is no such drill".to_owned(),
    })
}

/// All drills, the newest first.
pub async fn list(cluster: &Cluster) -> Fetched<Vec<FailoverDrill>> {
    let list = api(cluster).list(&ListParams::default()).await;
    let list = list.map_err(|e| failed(cluster, "list failoverdrills.carrick.dev", &e))?;
    let mut drills = list.items;
    drills.sort_by_key(|drill| {
        let created = drill.metadata.creation_timestamp.as_ref().map(|time| time.0);
        (std::cmp::Reverse(created), drill.metadata.name.clone())
    });
    Ok(drills)
}

/// Makes a drill.
pub async fn create(cluster: &Cluster, drill: &FailoverDrill) -> Fetched<FailoverDrill> {
    let made = api(cluster).create(&PostParams::default(), drill).await;
    made.map_err(|error| failed(cluster, "create failoverdrills.carrick.dev", &error))
}

/// Deletes a drill.
pub async fn delete(cluster: &Cluster, name: &str) -> Result<(), FetchError> {
    let what = format!("delete failoverdrills.carrick.dev {name:?}");
    let deleted = api(cluster).delete(name, &DeleteParams::default()).await;
    deleted.map(drop).map_err(|error| failed(cluster, &what, &error))
}
