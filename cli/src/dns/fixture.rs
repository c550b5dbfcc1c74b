//! A CoreDNS for tests, as kubeadm installs it, with the zone or without.

use serde_json::json;

use super::corefile;
use super::found::{Dns, Workload};
use super::rights;
use crate::parts::Count;

/// Its Corefile before.
pub const COREFILE: &str = ".:53 {\n    errors\n    kubernetes cluster.local in-addr.arpa {\n        ttl 30\n    }\n    \
                            forward . 192.0.2.1\n    reload\n}\n";

/// Without the zone.
pub fn plain() -> Dns {
    Dns {
        namespace: "kube-system".to_owned(),
        configmap_name: "coredns".to_owned(),
        configmap: Ok(Some(
            serde_json::from_value(json!({
                "metadata": { "name": "coredns", "namespace": "kube-system", "resourceVersion": "7" },
                "data": { "Corefile": COREFILE },
            }))
            .expect("fixture"),
        )),
        workloads: Ok(vec![Workload {
            kind: "Deployment",
            name: "coredns".to_owned(),
            service_account: "coredns".to_owned(),
            image: "registry.k8s.io/coredns/coredns:v1.14.2".to_owned(),
            ready: Count { ready: 2, wanted: 2 },
        }]),
        kind_served: Ok(true),
        may_read: Ok(vec![false]),
        role: Ok(None),
        binding: Ok(None),
    }
}

/// Writes another Corefile.
pub fn set_corefile(dns: &mut Dns, text: &str) {
    let map = dns.configmap.as_mut().expect("read").as_mut().expect("a ConfigMap");
    map.data.get_or_insert_default().insert("Corefile".to_owned(), text.to_owned());
}

/// With the zone.
pub fn serving() -> Dns {
    let mut dns = plain();
    set_corefile(&mut dns, &corefile::enable(COREFILE).expect("understood").expect("changed"));
    dns.may_read = Ok(vec![true]);
    dns.role = Ok(Some(rights::role()));
    dns.binding = Ok(Some(rights::binding(&dns)));
    dns
}
