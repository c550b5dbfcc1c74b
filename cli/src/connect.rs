//! From flags to a client of one cluster.

use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use crate::args::ClusterArgs;

/// How long to wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to wait for an answer.
const READ_TIMEOUT: Duration = Duration::from_secs(15);

/// A cluster to talk to.
pub struct Cluster {
    /// Speaks to its API server.
    pub client: Client,
    /// The API server's address, for messages.
    pub server: String,
    /// The namespace that Carrick is installed in, if the person named one.
    pub namespace: Option<String>,
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The kubeconfig cannot be used.
    #[error("cannot use the kubeconfig: {0}")]
    Kubeconfig(#[source] kube::config::KubeconfigError),
    /// No kubeconfig, and not in a pod.
    #[error("found no cluster: {0}")]
    Infer(#[source] kube::config::InferConfigError),
    /// The kubeconfig's server or credentials cannot be used.
    #[error("cannot make a client for {server}: {source}")]
    Client {
        /// The API server.
        server: String,
        /// Why.
        source: Box<kube::Error>,
    },
}

impl ConnectError {
    /// What to do about it.
    pub fn remedy(&self) -> String {
        match self {
            Self::Kubeconfig(_) | Self::Infer(_) => {
                "name the file by --kubeconfig (or $KUBECONFIG) and the context by --context; \
                 `kubectl config get-contexts` lists them"
            }
            Self::Client { .. } => "see that `kubectl version` works with the same context",
        }
        .to_owned()
    }
}

/// Makes a client; sends nothing yet.
pub async fn connect(args: &ClusterArgs) -> Result<Cluster, ConnectError> {
    let mut config = config(args).await?;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.read_timeout = Some(READ_TIMEOUT);
    let server = config.cluster_url.to_string();
    match Client::try_from(config) {
        Ok(client) => Ok(Cluster { client, server, namespace: args.namespace.clone() }),
        Err(source) => Err(ConnectError::Client { server, source: Box::new(source) }),
    }
}

async fn config(args: &ClusterArgs) -> Result<Config, ConnectError> {
    let options = KubeConfigOptions { context: args.context.clone(), ..Default::default() };
    let loaded = match &args.kubeconfig {
        Some(file) => match Kubeconfig::read_from(file) {
            Ok(kubeconfig) => Config::from_custom_kubeconfig(kubeconfig, &options).await,
            Err(error) => Err(error),
        },
        None if args.context.is_some() => Config::from_kubeconfig(&options).await,
        None => return Config::infer().await.map_err(ConnectError::Infer),
    };
    loaded.map_err(ConnectError::Kubeconfig)
}
