//! Joining: a token is reviewed by the API server, and a certificate is issued.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use carrick_exchange::ClusterIdentity;
use carrick_exchange::certificate::issue;
use carrick_exchange::join::Attempt;
use carrick_model::{ClusterId, MemberId};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, PostParams};
use tokio::sync::Semaphore;
use tracing::{debug, info, warn};

use super::admission::{self, AUDIENCE, AdmissionError};
use crate::brief::Brief;
use crate::metrics::Metrics;

/// How many tokens are reviewed at once.
const PARALLEL: usize = 8;

/// How many members' certificate requests are kept for renewals.
const REQUESTS_LIMIT: usize = 16_384;

/// Admits gateways and agents of our own cluster. Clones share it.
#[derive(Clone)]
pub struct Registrar(Arc<Inner>);

struct Inner {
    client: Client,
    namespace: String,
    cluster: ClusterId,
    identity: Arc<ClusterIdentity>,
    metrics: Metrics,
    permits: Semaphore,
    requests: Mutex<BTreeMap<MemberId, Vec<u8>>>,
}

impl Registrar {
    /// For our own cluster.
    pub fn new(
        client: Client,
        namespace: &str,
        cluster: &ClusterId,
        identity: Arc<ClusterIdentity>,
        metrics: Metrics,
    ) -> Self {
        Self(Arc::new(Inner {
            client,
            namespace: namespace.to_owned(),
            cluster: cluster.clone(),
            identity,
            metrics,
            permits: Semaphore::new(PARALLEL),
            requests: Mutex::default(),
        }))
    }

    /// Answers one attempt.
    pub async fn answer(&self, attempt: Attempt) {
        let remote = attempt.remote;
        let answered = match self.admit(&attempt).await {
            Ok((member, certificate)) => {
                info!(%member, %remote, "admitted");
                self.0.metrics.joined("Admitted");
                attempt.admit(certificate).await
            }
            Err(error) => {
                warn!(%remote, reason = error.reason(), %error, "refused to admit");
                self.0.metrics.joined(error.reason());
                attempt.refuse(&error.to_string()).await
            }
        };
        if let Err(error) = answered {
            debug!(%remote, %error, "joiner left before it had its answer");
        }
    }

    async fn admit(&self, attempt: &Attempt) -> Result<(MemberId, Vec<u8>), AdmissionError> {
        let _permit = self.0.permits.try_acquire().map_err(|_| AdmissionError::Busy)?;
        let member = self.review(&attempt.token).await?;
        let certificate = self.issue(&member, &attempt.csr)?;
        self.remember(&member, &attempt.csr);
        Ok((member, certificate))
    }

    async fn review(&self, token: &str) -> Result<MemberId, AdmissionError> {
        let inner = &self.0;
        let failed = |error: kube::Error| {
            inner.metrics.api_error("tokenreviews");
            AdmissionError::Api(Brief(&error).to_string())
        };
        let review = TokenReview {
            spec: TokenReviewSpec {
                audiences: Some(vec![AUDIENCE.to_owned()]),
                token: token.to_owned(),
            },
            ..TokenReview::default()
        };
        let reviews = Api::<TokenReview>::all(inner.client.clone());
        let review = reviews.create(&PostParams::default(), &review).await.map_err(failed)?;
        let bearer = admission::bearer(review.status, &inner.namespace)?;
        let pods = Api::<Pod>::namespaced(inner.client.clone(), &inner.namespace);
        let pod = pods.get_opt(&bearer.pod).await.map_err(failed)?;
        admission::member(&inner.cluster, &bearer, pod.as_ref())
    }

    fn issue(&self, member: &MemberId, csr: &[u8]) -> Result<Vec<u8>, AdmissionError> {
        issue(&self.0.identity, csr, member, SystemTime::now())
            .map_err(|error| AdmissionError::Request(error.to_string()))
    }

    fn remember(&self, member: &MemberId, csr: &[u8]) {
        let mut requests = self.0.requests.lock().unwrap_or_else(PoisonError::into_inner);
        if requests.len() >= REQUESTS_LIMIT && !requests.contains_key(member) {
            requests.pop_first();
        }
        requests.insert(member.clone(), csr.to_vec());
    }

    /// A new certificate for the key that `member` joined with; `None` when it joined at a controller
    /// before this one.
    pub fn renew(&self, member: &MemberId) -> Option<Vec<u8>> {
        let requests = self.0.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let csr = requests.get(member).cloned()?;
        drop(requests);
        match self.issue(member, &csr) {
            Ok(certificate) => Some(certificate),
            Err(error) => {
                warn!(%member, %error, "cannot renew a certificate");
                None
            }
        }
    }
}
