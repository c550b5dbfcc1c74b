//! Which installation of Carrick this is: the UID of our ServiceAccount, which Helm makes anew with
//! each install. It is in our own token, so that no right is needed to learn it.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

/// Where a pod's own token is mounted.
pub const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

#[derive(Deserialize)]
struct Claims {
    #[serde(rename = "kubernetes.io")]
    kubernetes: Kubernetes,
}

#[derive(Deserialize)]
struct Kubernetes {
    serviceaccount: Account,
}

#[derive(Deserialize)]
struct Account {
    uid: String,
}

/// The UID in the token at `path`; `None` when there is none, as outside of a cluster.
pub async fn read(path: &Path) -> Option<String> {
    uid(&tokio::fs::read_to_string(path).await.ok()?)
}

/// The token is our own and only names us; nobody's right follows from it here.
fn uid(token: &str) -> Option<String> {
    let payload = token.trim().split('.').nth(1)?;
    let claims: Claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
    Some(claims.kubernetes.serviceaccount.uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_accounts_uid_is_read() {
        let claims = r#"{"kubernetes.io":{"serviceaccount":{"name":"a","uid":"11-22"}}}"#;
        let token = format!("e30.{}.sig", URL_SAFE_NO_PAD.encode(claims));
        assert_eq!(uid(&token).as_deref(), Some("11-22"));
        for bad in ["", "a.b", "e30.e30.sig"] {
            assert_eq!(uid(bad), None);
        }
    }
}
