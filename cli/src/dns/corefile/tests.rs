//! Corefiles of clusters as they are, and what must not be touched.

use proptest::prelude::*;
use serde::Deserialize as _;

use super::serving::{MARK, WITH, WITH_BLOCK, WITH_KEY, WITH_ZONE};
use super::*;

const KUBEADM: &str = "\
.:53 {
    errors
    health {
       lameduck 5s
    }
    ready
    kubernetes cluster.local in-addr.arpa ip6.arpa {
       pods insecure
       fallthrough in-addr.arpa ip6.arpa
       ttl 30
    }
    prometheus :9153
    forward . /etc/resolv.conf {
       max_concurrent 1000
    }
    cache 30 {
       disable success cluster.local
       disable denial cluster.local
    }
    loop
    reload
    loadbalance
}
";

const K3S: &str = "\
.:53 {
    errors
    health
    ready
    kubernetes cluster.local in-addr.arpa ip6.arpa {
      pods insecure
      fallthrough in-addr.arpa ip6.arpa
    }
    hosts /etc/coredns/NodeHosts {
      ttl 60
      reload 15s
      fallthrough
    }
    prometheus :9153
    forward . /etc/resolv.conf
    cache 30
    loop
    reload
    loadbalance
    import /etc/coredns/custom/*.override
}
import /etc/coredns/custom/*.server
";

/// As EKS has it: without `ready`'s block, and no newline at the end.
const EKS: &str = "\
.:53 {
    errors
    health {
        lameduck 5s
      }
    ready
    kubernetes cluster.local in-addr.arpa ip6.arpa {
      pods insecure
      fallthrough in-addr.arpa ip6.arpa
    }
    prometheus :9153
    forward . /etc/resolv.conf
    cache 30
    loop
    reload
    loadbalance
}";

const STUB_DOMAINS: &str = "\
# The company's own names.
(common) {
    errors
    cache 30
}

cluster.local:53 in-addr.arpa:53 {
    import common
    kubernetes cluster.local in-addr.arpa # no block
}
example.org {
\timport common
\tforward . 10.150.0.1 \"10.150.0.2\"
}
.:53 {
    import common
    forward . /etc/resolv.conf
    reload 10s
}
";

fn on(text: &str) -> String {
    enable(text).expect("understood").expect("changed")
}

fn back(text: &str) -> String {
    disable(text).expect("understood").expect("changed")
}

#[test]
fn real_ones_come_back_byte_for_byte() {
    let windows = KUBEADM.replace('\n', "\r\n");
    let tabs = KUBEADM.replace("    ", "\t");
    for text in [KUBEADM, K3S, EKS, STUB_DOMAINS, &windows, &tabs] {
        assert_eq!(look(text).map(|found| found.on), Ok(false));
        let new = on(text);
        assert_eq!(look(&new), Ok(Found { on: true, reloads: true }));
        assert_eq!(enable(&new), Ok(None), "again: {new}");
        assert_eq!(back(&new), text);
        assert_eq!(disable(text), Ok(None));
    }
}

#[test]
fn the_zone_comes_after_the_clusters_own() {
    let new = on(KUBEADM);
    assert!(new.contains(
        "    kubernetes cluster.local clusterset.local in-addr.arpa ip6.arpa {\n       multicluster \
         clusterset.local # added by carrick dns enable; with: zone\n       pods insecure\n"
    ));
    assert_eq!(new.lines().count(), KUBEADM.lines().count() + 1);
    let reversed =
        KUBEADM.replace("cluster.local in-addr.arpa ip6.arpa {", "ip6.arpa Cluster.Local. {");
    assert!(on(&reversed).contains("kubernetes ip6.arpa Cluster.Local. clusterset.local {"));
}

#[test]
fn a_server_block_that_lists_zones_gets_another_key() {
    assert!(on(STUB_DOMAINS).contains(
        "cluster.local:53 in-addr.arpa:53 clusterset.local:53 {\n    import common\n    kubernetes \
         cluster.local clusterset.local in-addr.arpa {\n        multicluster clusterset.local # added by \
         carrick dns enable; with: zone, key, block\n    } # no block\n"
    ));
    let bare = "cluster.local:53,\ndns://cluster.local:5353 {\n  kubernetes {\n  }\n}\n";
    let new = on(bare);
    assert!(
        new.contains("cluster.local:5353 clusterset.local:53 dns://clusterset.local:5353 {\n"),
        "{new}"
    );
    assert_eq!(back(&new), bare);
}

#[test]
fn what_others_change_meanwhile_stays() {
    let changed = |text: &str| {
        text.replace("ttl 30", "ttl 5")
            .replace("clusterset.local in-addr", "clusterset.local example.org in-addr")
            .replace("    loop\n", "")
    };
    let expected = KUBEADM
        .replace("ttl 30", "ttl 5")
        .replace("cluster.local in-addr", "cluster.local example.org in-addr")
        .replace("    loop\n", "");
    assert_eq!(back(&changed(&on(KUBEADM))), expected);
    // A block that was ours has something of others in it.
    let kept = on(STUB_DOMAINS)
        .replace("with: zone, key, block\n", "with: zone, key, block\n        ttl 5\n");
    assert!(
        back(&kept)
            .contains("kubernetes cluster.local in-addr.arpa {\n        ttl 5\n    } # no block")
    );
    let noted = on(STUB_DOMAINS)
        .replace("with: zone, key, block\n", "with: zone, key, block\n        # why\n");
    assert!(back(&noted).contains("in-addr.arpa {\n        # why\n    } # no block"));
}

#[test]
fn what_others_set_up_is_theirs() {
    let theirs = KUBEADM.replace(
        "cluster.local in-addr.arpa ip6.arpa {",
        "cluster.local clusterset.local {\n multicluster clusterset.local",
    );
    assert_eq!(enable(&theirs), Ok(None));
    assert_eq!(disable(&theirs), Err(Misfit::NotOurs(7)));
    let other = KUBEADM.replace("ttl 30", "multicluster example.org");
    assert_eq!(enable(&other), Err(Misfit::OtherMulticluster(7)));
    // A zone that was there before is there afterwards.
    let zone = KUBEADM.replace("cluster.local in", "cluster.local Clusterset.Local. in");
    let new = on(&zone);
    assert!(new.contains("# added by carrick dns enable\n"), "{new}");
    assert_eq!(back(&new), zone);
}

#[test]
fn several_server_blocks() {
    let two = "cluster.local {\n kubernetes cluster.local\n}\nother {\n kubernetes other\n}\n";
    assert_eq!(enable(two), Err(Misfit::Several));
    // Another cluster's is not ours, and all names of each port are.
    let foreign = "b {\n kubernetes b {\n  endpoint https://b\n }\n}\n. {\n kubernetes a\n}\n.:54 {\n kubernetes a\n}\n";
    let new = on(foreign);
    assert_eq!(new.matches("multicluster").count(), 2, "{new}");
    assert!(!new.contains("b clusterset"), "{new}");
    assert_eq!(back(&new), foreign);
    // Where the zone has a place already.
    let placed = ".:53 {\n kubernetes a\n}\na:53 clusterset.local:53 {\n kubernetes a\n}\n";
    assert!(on(placed).contains("clusterset.local:53 {\n kubernetes a clusterset.local {"));
}

#[test]
fn server_blocks_that_would_take_the_names() {
    for zone in ["clusterset.local", "svc.clusterset.local", "local"] {
        let text = format!(". {{\n kubernetes a\n}}\n{zone}:53 {{\n forward . 10.0.0.1\n}}\n");
        assert_eq!(enable(&text), Err(Misfit::Shadowed { line: 4, zone: zone.to_owned() }));
        let elsewhere = text.replace(":53", ":54");
        assert!(enable(&elsewhere).is_ok_and(|new| new.is_some()), "{elsewhere}");
    }
    let listed = "cluster.local {\n kubernetes cluster.local\n}\nlocal {\n forward . 10.0.0.1\n}\n";
    assert!(on(listed).starts_with("cluster.local clusterset.local {"));
}

#[test]
fn what_is_not_understood_is_refused() {
    for (text, misfit) in [
        (". {\n forward . 1.1.1.1\n}\n", Misfit::NoKubernetes),
        ("", Misfit::NoKubernetes),
        ("(k) {\n kubernetes a\n}\n. {\n import k\n}\n", Misfit::Snippet),
        (". {\n kubernetes a\n kubernetes b\n}\n", Misfit::Twice(3)),
        (". {\n kubernetes\n}\n", Misfit::NoZones(2)),
        (". {\n kubernetes a { pods insecure\n }\n}\n", Misfit::Layout(2)),
        (". {\n kubernetes a\n {\n }\n}\n", Misfit::Layout(2)),
        (". {\n kubernetes a {\n  ttl 5 }\n}\n", Misfit::Layout(2)),
        (". {\n kubernetes clusterset.local in-addr.arpa\n}\n", Misfit::OwnZone(2)),
        (". {\n kubernetes \"a\"b\n}\n", Misfit::Unusual),
        (".\nkubernetes a\n", Misfit::NoBraces(1)),
    ] {
        assert_eq!(enable(text), Err(misfit), "{text}");
    }
}

#[test]
fn what_remains_must_be_a_corefile() {
    let text =
        on(STUB_DOMAINS).replace("in-addr.arpa:53 clusterset", "in-addr.arpa:53, clusterset");
    assert_eq!(disable(&text), Err(Misfit::Remainder(Box::new(Misfit::Braces(7)))));
}

#[test]
fn the_second_coredns_of_the_docs_serves_the_zone() {
    let yaml = include_str!("../../../../docs/clusterset-dns.yaml");
    let documents = serde_yaml::Deserializer::from_str(yaml);
    let objects = documents.map(|one| serde_yaml::Value::deserialize(one).expect("YAML"));
    let corefile =
        objects.filter_map(|o| Some(o.get("data")?.get("Corefile")?.as_str()?.to_owned()));
    let found: Vec<_> = corefile.map(|text| (look(&text), enable(&text))).collect();
    assert_eq!(found, [(Ok(Found { on: true, reloads: true }), Ok(None))]);
}

fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "kubernetes",
        " ",
        "\n",
        "{",
        "}",
        "\"",
        "#",
        "\\",
        "a",
        ",",
        ":53",
        ".",
        "(s)",
        "import",
        "\t",
        "clusterset.local",
        "cluster.local",
        "multicluster",
        "in-addr.arpa",
        "\r\n",
        "endpoint",
        "é",
        " {\n",
        "\n}\n",
        MARK,
        WITH,
        WITH_ZONE,
        WITH_KEY,
        WITH_BLOCK,
        ".:53 {\n",
        " kubernetes a {\n",
    ]);
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn nothing_makes_it_panic_or_lose_a_byte(text in prop_oneof![any::<String>(), pieces()]) {
        let _ = look(&text);
        let _ = disable(&text);
        if let Ok(Some(new)) = enable(&text) {
            prop_assert_eq!(enable(&new), Ok(None));
            prop_assert_eq!(disable(&new), Ok(Some(text)));
        }
    }
}
