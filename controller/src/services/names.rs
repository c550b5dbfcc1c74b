//! The names of what is derived from an import, and the labels and annotations by which it is known as ours.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{SHA256, digest};
pub use carrick_crds::service::{EXPORTED_POLICY, IMPORT, POLICY, SERVICE_NAME, SOURCE_CLUSTER};
use carrick_model::{ClusterId, ServiceName};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::api::ObjectMeta;

/// Says who made an object.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Its value on what the controller makes.
pub const CARRICK: &str = "carrick";
/// The value of `endpointslice.kubernetes.io/managed-by` on slices of imports.
pub const SLICE_MANAGER: &str = "services.carrick.dev";
/// A digest of what we wrote: where it differs, the object is written anew.
pub const CONTENT: &str = "carrick.dev/content";

/// Who writes objects, for server-side apply: one manager a usage.
pub const MANAGER: &str = "carrick-controller/services";
/// Who writes statuses.
pub const STATUS_MANAGER: &str = "carrick-controller/services-status";

/// The most bytes of a label's value.
const LABEL_LIMIT: usize = 63;

/// What a Service's derived objects begin with: the same in every cluster and for ever.
pub fn derived(name: &ServiceName) -> String {
    format!("derived-{}", short(&[name.namespace(), name.name()], 16))
}

/// A short name for a list of words: so many characters of the base32 of their SHA-256.
pub fn short(words: &[&str], characters: usize) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let text: String = words.iter().flat_map(|word| [word, "/"]).collect();
    let hash = digest(&SHA256, text.as_bytes());
    let bit = |i: usize| hash.as_ref().get(i / 8).is_some_and(|byte| byte >> (7 - i % 8) & 1 == 1);
    let digit = |at: usize| (0..5).fold(0, |sum, i| sum << 1 | usize::from(bit(5 * at + i)));
    (0..characters).map(|at| char::from(ALPHABET[digit(at)])).collect()
}

/// A cluster as the value of a label. Two labels joined by a dot may be too long for that.
pub fn cluster_label(cluster: &ClusterId) -> String {
    let text = cluster.as_str();
    if text.len() <= LABEL_LIMIT {
        return text.to_owned();
    }
    format!("{}-{}", text[..LABEL_LIMIT - 17].trim_end_matches(['.', '-']), short(&[text], 16))
}

/// The labels of what is ours.
pub fn labels(name: &ServiceName) -> BTreeMap<String, String> {
    let pairs = [(MANAGED_BY, CARRICK), (SERVICE_NAME, name.name())];
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

/// For which service we made this object, as our annotation says; where somebody took that away, as a label does, if we
/// applied the object by the API server's own record. `None` when we did not make it.
pub fn made_for(metadata: &ObjectMeta) -> Option<ServiceName> {
    let noted = metadata.annotations.as_ref().and_then(|notes| notes.get(IMPORT));
    let labelled = || metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_NAME));
    let name = noted.or_else(|| labelled().filter(|_| is_applied(metadata)))?;
    ServiceName::new(metadata.namespace.as_deref()?, name).ok()
}

/// Whether we have applied this object, as the API server noted when we did.
pub fn is_applied(metadata: &ObjectMeta) -> bool {
    let ours = |entry: &ManagedFieldsEntry| {
        entry.manager.as_deref() == Some(MANAGER)
            && entry.operation.as_deref() == Some("Apply")
            && entry.subresource.as_deref().unwrap_or_default().is_empty()
    };
    metadata.managed_fields.iter().flatten().any(ours)
}

/// Of labels that others ask for, those that the API takes and that are not ours to give.
pub fn fitting_labels(wanted: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let fits = |(key, value): &(&String, &String)| is_key(key) && is_label(value);
    wanted.iter().filter(fits).map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// Of annotations that others ask for, those that the API takes and that are not ours to give: at most so many bytes.
pub fn fitting_annotations(wanted: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    const LIMIT: usize = 64 * 1024;
    let mut room = LIMIT;
    let mut out = BTreeMap::new();
    for (key, value) in wanted.iter().filter(|(key, _)| is_key(key)) {
        let Some(left) = room.checked_sub(key.len() + value.len()) else { break };
        room = left;
        out.insert(key.clone(), value.clone());
    }
    out
}

/// A key of labels and annotations, unless it is Kubernetes' or ours.
fn is_key(key: &str) -> bool {
    let (prefix, name) = key.split_once('/').unwrap_or(("", key));
    let reserved = |domain: &str| prefix == domain || prefix.ends_with(&format!(".{domain}"));
    let labels = prefix.split('.').all(|label| ServiceName::new(label, "any").is_ok());
    let domain = !key.contains('/') || prefix.len() <= 253 && labels;
    domain
        && !name.is_empty()
        && is_label(name)
        && !["kubernetes.io", "k8s.io", "carrick.dev", "helm.sh"].into_iter().any(reserved)
}

/// A label's value: empty, or letters, digits, `-`, `_` and `.`, a letter or digit at both ends.
fn is_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let bytes = text.as_bytes();
    let ends = [bytes.first(), bytes.last()].into_iter().flatten();
    bytes.len() <= LABEL_LIMIT
        && bytes.iter().all(|b| inner(*b))
        && ends.into_iter().all(u8::is_ascii_alphanumeric)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_stay() {
        let name = ServiceName::new("shop", "hello").expect("name");
        // Of SHA-256("shop/hello/"): whoever changes this changes every clusterset IP.
        assert_eq!(derived(&name), "derived-jv5jycppnappozhj");
        let other = ServiceName::new("shop-hello", "x").expect("name");
        assert_ne!(derived(&name), derived(&other));
        assert_eq!(short(&["a", "b"], 8).len(), 8);
        assert_ne!(short(&["a", "b"], 8), short(&["ab"], 8));
    }

    #[test]
    fn what_we_made_is_known_without_our_annotation() {
        let made = |annotation: bool, label: bool, manager: &str, operation: &str| {
            let mut metadata =
                ObjectMeta { namespace: Some("shop".to_owned()), ..ObjectMeta::default() };
            let pair = |key: &str| BTreeMap::from([(key.to_owned(), "hello".to_owned())]);
            metadata.annotations = annotation.then(|| pair(IMPORT));
            metadata.labels = label.then(|| pair(SERVICE_NAME));
            metadata.managed_fields = Some(vec![ManagedFieldsEntry {
                manager: Some(manager.to_owned()),
                operation: Some(operation.to_owned()),
                ..ManagedFieldsEntry::default()
            }]);
            made_for(&metadata).is_some()
        };
        assert!(made(true, false, "kubectl", "Update"));
        assert!(made(false, true, MANAGER, "Apply"));
        assert!(!made(false, true, "kubectl", "Apply"), "a label alone anybody may give");
        assert!(!made(false, true, MANAGER, "Update"));
        assert!(!made(false, true, STATUS_MANAGER, "Apply"));
        assert!(!made(false, false, MANAGER, "Apply"), "nobody knows for which service");
    }

    #[test]
    fn long_clusters_fit_a_label() {
        let long = format!("{}.{}", "a".repeat(63), "b".repeat(63));
        let cluster: ClusterId = long.parse().expect("cluster");
        let label = cluster_label(&cluster);
        assert!(is_label(&label) && label.len() <= 63, "{label}");
        assert_eq!(cluster_label(&"paris".parse().expect("cluster")), "paris");
    }

    #[test]
    fn labels_that_others_ask_for_are_looked_at() {
        let long = "x".repeat(64);
        for (key, value, fits) in [
            ("team", "a", true),
            ("example.org/team", "", true),
            ("team", "a b", false),
            ("team", "-a", false),
            ("team", long.as_str(), false),
            ("", "a", false),
            ("/team", "a", false),
            ("example.org/", "a", false),
            ("a/b/c", "a", false),
            ("Example.org/team", "a", false),
            ("app.kubernetes.io/managed-by", "helm", false),
            ("kubernetes.io/service-name", "a", false),
            ("carrick.dev/content", "a", false),
            ("carrick.dev/service-policy", "PreferLocal", false),
        ] {
            let wanted = BTreeMap::from([(key.to_owned(), value.to_owned())]);
            assert_eq!(!fitting_labels(&wanted).is_empty(), fits, "{key:?}: {value:?}");
        }
    }

    #[test]
    fn annotations_are_bounded() {
        let one = |i: usize| (format!("key-{i}"), "x".repeat(1000));
        let fitting = fitting_annotations(&(0..1000).map(one).collect());
        assert!((60..66).contains(&fitting.len()), "{}", fitting.len());
    }
}
