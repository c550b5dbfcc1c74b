//! Who may join, decided from what the API server says of a token and of its pod. Pure.

use carrick_model::{ClusterId, MemberId, MemberName, Role};
use k8s_openapi::api::authentication::v1::TokenReviewStatus;
use k8s_openapi::api::core::v1::Pod;

use crate::cluster::{AGENT, GATEWAY};

/// The audience that a token must be for. The API server takes none of it as a credential.
pub const AUDIENCE: &str = "carrick.dev";

const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";

/// Why somebody may not join.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AdmissionError {
    /// The API server does not know the token.
    #[error("the token is not valid: {0}; see that the projected token is mounted and fresh")]
    BadToken(String),
    /// The token is for somebody else.
    #[error(
        "the token is not for the audience {AUDIENCE}; see serviceAccountToken.audience of the pod"
    )]
    WrongAudience,
    /// Not the account of a gateway or an agent in our namespace.
    #[error("{user} may not join; only {GATEWAY} and {AGENT} of namespace {namespace} may")]
    WrongAccount {
        /// Whose token it is.
        user: String,
        /// Our namespace.
        namespace: String,
    },
    /// The token is bound to no pod.
    #[error("the token is bound to no pod; use the projected token of a pod")]
    NoPod,
    /// The pod is gone, or another has its name.
    #[error("pod {name} with UID {uid} no longer exists")]
    DeadPod {
        /// The pod's name in the token.
        name: String,
        /// Its UID in the token.
        uid: String,
    },
    /// The pod runs nowhere, or its names are unusable.
    #[error("pod {0} is on no node yet")]
    NoNode(String),
    /// The API server could not be asked.
    #[error("the Kubernetes API could not be asked: {0}; try again")]
    Api(String),
    /// The request for a certificate is no good.
    #[error("{0}")]
    Request(String),
    /// As many are being admitted as may be.
    #[error("too many are joining at once; try again")]
    Busy,
}

impl AdmissionError {
    /// The word for metrics and logs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::BadToken(_) => "BadToken",
            Self::WrongAudience => "WrongAudience",
            Self::WrongAccount { .. } => "WrongAccount",
            Self::NoPod => "NoPod",
            Self::DeadPod { .. } => "DeadPod",
            Self::NoNode(_) => "NoNode",
            Self::Api(_) => "ApiError",
            Self::Request(_) => "BadRequest",
            Self::Busy => "Busy",
        }
    }
}

/// Whom a token belongs to; the pod is still to be looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bearer {
    /// What its account makes it.
    pub role: Role,
    /// Its pod's name.
    pub pod: String,
    /// Its pod's UID.
    pub uid: String,
}

/// Reads the review of a token.
pub fn bearer(
    review: Option<TokenReviewStatus>,
    namespace: &str,
) -> Result<Bearer, AdmissionError> {
    let review = review.unwrap_or_default();
    if review.authenticated != Some(true) {
        let why = review.error.unwrap_or_else(|| "not authenticated".to_owned());
        // A token for another audience is not authenticated either; the API server says so in words.
        return Err(if why.contains("audience") {
            AdmissionError::WrongAudience
        } else {
            AdmissionError::BadToken(why.chars().take(200).collect())
        });
    }
    if !review.audiences.unwrap_or_default().iter().any(|audience| audience == AUDIENCE) {
        return Err(AdmissionError::WrongAudience);
    }
    let user = review.user.unwrap_or_default();
    let name = user.username.unwrap_or_default();
    let account = name.strip_prefix("system:serviceaccount:").and_then(|rest| {
        let (space, account) = rest.split_once(':')?;
        (space == namespace).then_some(account)
    });
    let role = match account {
        Some(GATEWAY) => Role::Gateway,
        Some(AGENT) => Role::Agent,
        _ => {
            let namespace = namespace.to_owned();
            return Err(AdmissionError::WrongAccount { user: name, namespace });
        }
    };
    let extra = user.extra.unwrap_or_default();
    let one = |key: &str| extra.get(key).and_then(|values| values.first()).cloned();
    match (one(POD_NAME), one(POD_UID)) {
        (Some(pod), Some(uid)) => Ok(Bearer { role, pod, uid }),
        _ => Err(AdmissionError::NoPod),
    }
}

/// Checks that the bearer's pod still exists, and says who it is: gateways are named by their pod,
/// agents by their node.
pub fn member(
    cluster: &ClusterId,
    bearer: &Bearer,
    pod: Option<&Pod>,
) -> Result<MemberId, AdmissionError> {
    let alive = pod.filter(|pod| {
        let ended = pod.status.as_ref().and_then(|s| s.phase.as_deref());
        pod.metadata.uid.as_deref() == Some(&bearer.uid)
            && !matches!(ended, Some("Succeeded" | "Failed"))
    });
    let Some(pod) = alive else {
        let (name, uid) = (bearer.pod.clone(), bearer.uid.clone());
        return Err(AdmissionError::DeadPod { name, uid });
    };
    let name = match bearer.role {
        Role::Gateway => bearer.uid.clone(),
        _ => pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default(),
    };
    let name: MemberName = name.parse().map_err(|_| AdmissionError::NoNode(bearer.pod.clone()))?;
    Ok(MemberId { cluster: cluster.clone(), role: bearer.role, name })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn review(json: serde_json::Value) -> Option<TokenReviewStatus> {
        Some(serde_json::from_value(json).expect("status"))
    }

    fn good(account: &str) -> Option<TokenReviewStatus> {
        review(serde_json::json!({
            "authenticated": true,
            "audiences": ["carrick.dev"],
            "user": {
                "username": account,
                "extra": {
                    "authentication.kubernetes.io/pod-name": ["carrick-agent-x"],
                    "authentication.kubernetes.io/pod-uid": ["11-22"],
                },
            },
        }))
    }

    fn pod(uid: &str, node: &str, phase: &str) -> Pod {
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": "carrick-agent-x", "uid": uid},
            "spec": {"nodeName": node, "containers": []},
            "status": {"phase": phase},
        }))
        .expect("pod")
    }

    fn bearer_of(account: &str) -> Bearer {
        bearer(good(account), "carrick-system").expect("bearer")
    }

    #[test]
    fn the_role_follows_from_the_account() {
        let paris: ClusterId = "paris".parse().expect("id");
        let agent = bearer_of("system:serviceaccount:carrick-system:carrick-agent");
        let id = member(&paris, &agent, Some(&pod("11-22", "node-1", "Running"))).expect("agent");
        assert_eq!(id.to_string(), "carrick://paris/agent/node-1");
        let gateway = bearer_of("system:serviceaccount:carrick-system:carrick-gateway");
        let id = member(&paris, &gateway, Some(&pod("11-22", "node-1", "Running"))).expect("gw");
        assert_eq!(id.to_string(), "carrick://paris/gateway/11-22");
    }

    #[test]
    fn other_accounts_and_namespaces_are_refused() {
        for account in [
            "system:serviceaccount:default:carrick-agent",
            "system:serviceaccount:carrick-system:default",
            "system:serviceaccount:carrick-system:carrick-controller",
            "system:node:n1",
            "",
        ] {
            let error = bearer(good(account), "carrick-system").expect_err(account);
            assert_eq!(error.reason(), "WrongAccount");
        }
    }

    #[test]
    fn wrong_audience_and_bad_tokens_are_refused() {
        let other = review(serde_json::json!({"authenticated": true, "audiences": ["https://x"]}));
        assert_eq!(bearer(other, "c"), Err(AdmissionError::WrongAudience));
        let said = review(serde_json::json!({
            "error": "[invalid bearer token, token audiences [\"x\"] is invalid for the target audiences [\"carrick.dev\"]]",
        }));
        assert_eq!(bearer(said, "c"), Err(AdmissionError::WrongAudience));
        let bad = review(serde_json::json!({"error": "invalid bearer token"}));
        assert!(matches!(bearer(bad, "c"), Err(AdmissionError::BadToken(_))));
        assert!(matches!(bearer(None, "c"), Err(AdmissionError::BadToken(_))));
    }

    #[test]
    fn a_token_without_a_pod_or_of_a_dead_pod_is_refused() {
        let unbound = review(serde_json::json!({
            "authenticated": true, "audiences": ["carrick.dev"],
            "user": {"username": "system:serviceaccount:c:carrick-agent"},
        }));
        assert_eq!(bearer(unbound, "c"), Err(AdmissionError::NoPod));

        let paris: ClusterId = "paris".parse().expect("id");
        let agent = bearer_of("system:serviceaccount:carrick-system:carrick-agent");
        for dead in [None, Some(pod("other", "n", "Running")), Some(pod("11-22", "n", "Failed"))] {
            let error = member(&paris, &agent, dead.as_ref()).expect_err("dead");
            assert_eq!(error.reason(), "DeadPod");
        }
        let homeless = member(&paris, &agent, Some(&pod("11-22", "", "Running")));
        assert_eq!(homeless, Err(AdmissionError::NoNode("carrick-agent-x".to_owned())));
    }
}
