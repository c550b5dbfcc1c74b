//! What people wish for by the annotation `carrick.dev/service-policy`.

use carrick_model::ServicePolicy;
use carrick_model::policy::ServicePolicyError;
use kube::api::ObjectMeta;

use super::names::POLICY;

/// Which clusters are to serve; `None` where nobody says so.
pub type Wish = Option<Result<ServicePolicy, ServicePolicyError>>;

/// The wish on an object.
pub fn wish(metadata: &ObjectMeta) -> Wish {
    metadata.annotations.as_ref()?.get(POLICY).map(|text| text.parse())
}

/// What counts. One that is not understood is none.
pub fn granted(wish: &Wish) -> ServicePolicy {
    wish.as_ref().and_then(|wish| wish.as_ref().ok()).cloned().unwrap_or_default()
}
