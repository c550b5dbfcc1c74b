//! The identity key: made once, or taken as it is; never replaced.

use std::collections::BTreeMap;

use carrick_exchange::ClusterIdentity;
use carrick_exchange::identity::IdentityError;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::{Api, ObjectMeta, PostParams};
use tracing::info;

use crate::brief::Brief;

/// The Secret's name.
pub const NAME: &str = "carrick-identity";

/// The key in it.
pub const KEY: &str = "identity.pem";

/// Why there is no identity key.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The API server could not be asked.
    #[error("Secret {namespace}/{NAME}: {}", Brief(error))]
    Api {
        /// Where it is.
        namespace: String,
        /// What happened.
        error: Box<kube::Error>,
    },
    /// The Secret is there, but not the key in it.
    #[error("Secret {namespace}/{NAME} has no key {KEY}")]
    Missing {
        /// Where it is.
        namespace: String,
    },
    /// The key is no key.
    #[error("Secret {namespace}/{NAME}, key {KEY}: {error}")]
    Malformed {
        /// Where it is.
        namespace: String,
        /// What is wrong.
        error: String,
    },
    /// No key could be made.
    #[error("no identity key could be made: {0}")]
    Crypto(IdentityError),
}

impl SecretError {
    /// Whether only a person can put it right.
    pub fn needs_a_person(&self) -> bool {
        matches!(self, Self::Missing { .. } | Self::Malformed { .. })
    }
}

/// Takes the identity from the Secret, which is made if there is none.
pub async fn ensure(client: &Client, namespace: &str) -> Result<ClusterIdentity, SecretError> {
    let api = Api::<Secret>::namespaced(client.clone(), namespace);
    let failed = |error: kube::Error| SecretError::Api {
        namespace: namespace.to_owned(),
        error: Box::new(error),
    };
    if let Some(secret) = api.get_opt(NAME).await.map_err(failed)? {
        return read(&secret, namespace);
    }
    let identity = ClusterIdentity::generate().map_err(SecretError::Crypto)?;
    match api.create(&PostParams::default(), &secret(&identity, namespace)).await {
        Ok(_) => {
            info!(identity = %identity.public(), "made the cluster's identity");
            Ok(identity)
        }
        // Somebody was faster: theirs counts.
        Err(kube::Error::Api(status)) if status.is_already_exists() => {
            read(&api.get(NAME).await.map_err(failed)?, namespace)
        }
        Err(error) => Err(failed(error)),
    }
}

fn secret(identity: &ClusterIdentity, namespace: &str) -> Secret {
    let pem = ByteString(identity.to_pem().into_bytes());
    Secret {
        metadata: ObjectMeta {
            name: Some(NAME.to_owned()),
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        type_: Some("Opaque".to_owned()),
        data: Some(BTreeMap::from([(KEY.to_owned(), pem)])),
        ..Secret::default()
    }
}

fn read(secret: &Secret, namespace: &str) -> Result<ClusterIdentity, SecretError> {
    let pem = secret.data.as_ref().and_then(|data| data.get(KEY));
    let namespace = namespace.to_owned();
    let Some(ByteString(pem)) = pem else { return Err(SecretError::Missing { namespace }) };
    let malformed = |error: String| SecretError::Malformed { namespace, error };
    match std::str::from_utf8(pem) {
        Ok(pem) => ClusterIdentity::from_pem(pem).map_err(|error| malformed(error.to_string())),
        Err(error) => Err(malformed(error.to_string())),
    }
}
