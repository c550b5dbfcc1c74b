//! Names in clusterset.local, served by the clusters' own CoreDNS after `carrick dns enable`, and the commands about services.

use std::time::{Duration, Instant};

use carrick_e2e::cluster::Cluster;
use carrick_e2e::wait::wait_until;
use carrick_e2e::{Lab, carrick, probes};

use super::{SERVICE, SOON, consent, export, gone, imported, object, sharing};
use crate::common::{address_v4, check, figure, node_names, text};
use crate::world::{Case, Outcome};

/// All cases, in order. The last leaves the clusters' DNS as it was.
pub const CASES: &[(&str, Case)] = &[
    ("services::names::a_clusterset_name_is_its_address_in_all_clusters", a_name_is_its_address),
    ("services::names::a_headless_name_is_all_its_pods", a_headless_name_is_all_its_pods),
    ("services::names::dns_is_changed_only_as_shown_and_back_again", dns_is_changed_and_back),
];

/// A kubelet looks at its ConfigMaps once a minute or so, and CoreDNS at its Corefile twice.
const RELOAD: Duration = Duration::from_secs(180);

/// A CoreDNS that starts, on a machine that does much else.
const RESTART: &str = "--timeout=120s";

/// What the pod on a cluster's first node is told of `TYPE/NAME` in clusterset.local: the code, and records.
fn lookup(cluster: &Cluster, name: &str) -> Result<Vec<String>, String> {
    let node = node_names(cluster).first().cloned().unwrap_or_default();
    let target = format!("{name}.clusterset.local");
    let said = text(probes::run(cluster, &node, &["lookup", &target]))?;
    Ok(said.lines().map(str::to_owned).collect())
}

/// Waits until a name is answered so, ten times in a row.
fn says(cluster: &Cluster, limit: Duration, name: &str, wanted: &[&str]) -> Outcome {
    let what = format!("{name} in {} to be {wanted:?}", cluster.plan().name);
    text(wait_until(limit, &what, || {
        for _ in 0..10 {
            let said = lookup(cluster, name)?;
            check(said == wanted, || format!("{said:?}"))?;
        }
        Ok(())
    }))
}

fn corefile(cluster: &Cluster) -> Result<String, String> {
    let get = [
        "get",
        "configmap",
        "coredns",
        "--namespace=kube-system",
        "-o",
        "jsonpath={.data.Corefile}",
    ];
    text(cluster.kubectl(&get))
}

/// `carrick dns` with these words, and then CoreDNS as it is afterwards.
fn dns(cluster: &Cluster, words: &[&str]) -> Result<String, String> {
    let said = text(carrick::command(cluster, &[&["dns"], words].concat()))?;
    let rollout = ["rollout", "status", "deployment/coredns", "--namespace=kube-system", RESTART];
    text(cluster.kubectl(&rollout))?;
    Ok(said)
}

/// Both clusters sharing `default`, with nothing exported, and the zone served.
pub fn named(lab: &Lab) -> Result<(Cluster, Cluster), String> {
    let (paris, osaka) = sharing(lab)?;
    consent(&paris, &osaka)?;
    serve_names(&paris)?;
    serve_names(&osaka)?;
    Ok((paris, osaka))
}

/// Has a cluster's DNS serve the zone.
pub fn serve_names(cluster: &Cluster) -> Outcome {
    dns(cluster, &["enable", "--yes", "--restart"])?;
    is_served(cluster, SOON)
}

/// The zone says which version of the schema it has; CoreDNS says that of cluster.local.
fn is_served(cluster: &Cluster, limit: Duration) -> Outcome {
    says(cluster, limit, "TXT/dns-version", &["NOERROR", "1.1.0"])
}

fn a_name_is_its_address(lab: &Lab) -> Outcome {
    let (paris, osaka) = named(lab)?;
    text(osaka.apply(SERVICE))?;
    // Again with less and with more: what is not named again is taken back.
    for words in [&["--annotation", "note=b"][..], &[], &["--label", "team=a"]] {
        let export = ["service", "export", "hello", "-n", "default"];
        let said = text(carrick::command(&osaka, &[&export[..], words].concat()))?;
        check(said.starts_with("default/hello is exported"), || said.clone())?;
    }
    for cluster in [&paris, &osaka] {
        let (_, address) = imported(cluster, "hello")?;
        text(wait_until(SOON, "the import's label", || {
            let metadata = &object(cluster, "serviceimport", "hello")?["metadata"];
            let right =
                metadata["labels"]["team"] == "a" && metadata["annotations"]["note"].is_null();
            check(right, || metadata.to_string())
        }))?;
        says(cluster, SOON, "A/hello.default.svc", &["NOERROR", &address])?;
        says(cluster, SOON, "AAAA/hello.default.svc", &["NOERROR"])?;
        let target = "hello.default.svc.clusterset.local";
        says(
            cluster,
            SOON,
            "SRV/_web._tcp.hello.default.svc",
            &["NOERROR", &format!("80 {target}")],
        )?;
        says(
            cluster,
            SOON,
            "SRV/_echo._udp.hello.default.svc",
            &["NOERROR", &format!("82 {target}")],
        )?;
        for none in ["osaka.hello.default.svc", "paris.hello.default.svc", "nothing.default.svc"] {
            says(cluster, SOON, &format!("A/{none}"), &["NXDOMAIN"])?;
        }
        says(cluster, SOON, "SRV/_other._tcp.hello.default.svc", &["NXDOMAIN"])?;
    }
    used_by_name(&paris)?;
    traced(&paris)?;
    let said = text(carrick::command(&osaka, &["service", "unexport", "hello", "-n", "default"]))?;
    check(said.contains("no longer exported"), || said.clone())?;
    for cluster in [&paris, &osaka] {
        gone(cluster, "hello")?;
        says(cluster, SOON, "A/hello.default.svc", &["NXDOMAIN"])?;
    }
    let trace = carrick::command(&paris, &["service", "trace", "hello", "-n", "default"]);
    let said = trace.err().map(|error| error.to_string()).unwrap_or_default();
    check(said.contains("no cluster exports default/hello"), || format!("{said:?}"))
}

/// From each node, by the name, with the client's own address.
fn used_by_name(paris: &Cluster) -> Outcome {
    for node in node_names(paris) {
        let own = address_v4(paris, &node)?.to_string();
        let target = "hello.default.svc.clusterset.local:80";
        let fetch = ["fetch", target, "--timeout-ms", "2000"];
        let page = text(wait_until(SOON, "a page by its name", || {
            text(probes::page(&text(probes::run(paris, &node, &fetch))?))
        }))?;
        let right = page.server.starts_with("probe-osaka") && page.client == own;
        check(right, || format!("{} served {} as {}", page.server, own, page.client))?;
    }
    Ok(())
}

/// The commands see the same.
fn traced(paris: &Cluster) -> Outcome {
    text(wait_until(SOON, "a trace to its end", || {
        let trace = ["service", "trace", "hello", "-n", "default"];
        let said = text(carrick::command(paris, &trace))?;
        let whole = said.contains("ok       Cluster osaka") && said.ends_with("All is well.\n");
        check(whole, || said.clone())
    }))?;
    let list = text(carrick::command(paris, &["service", "list", "-n", "default", "-o", "json"]))?;
    let list: serde_json::Value = text(serde_json::from_str(&list))?;
    let hello = &list[0];
    let right = hello["name"] == "hello"
        && hello["type"] == "ClusterSetIP"
        && hello["clusters"][0]["cluster"] == "osaka"
        && hello["exported"] == false;
    check(right, || list.to_string())
}

/// A headless Service over two pods, of which one has a host name.
fn headless(tag: &str) -> String {
    let pod = |name: &str, more: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: default, labels: {{app: bare}}}}\n\
             spec:\n  {more}tolerations: [{{operator: Exists}}]\n  terminationGracePeriodSeconds: 0\n  \
             containers: [{{name: probe, image: \"carrick-probe:{tag}\", args: [serve]}}]\n---\n"
        )
    };
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: bare, namespace: default}\nspec:\n  \
                   clusterIP: None\n  selector: {app: bare}\n  ports: [{name: web, port: 8080}]\n---\n";
    let host = "hostname: alpha\n  subdomain: bare\n  ";
    [service, &pod("bare-0", host), &pod("bare-1", ""), &export("bare")].concat()
}

/// The addresses of the two pods of the headless Service.
fn bare_pods(cluster: &Cluster) -> Result<[String; 2], String> {
    let ready = ["wait", "--for=condition=Ready", "--timeout=60s", "pods", "--selector=app=bare"];
    text(cluster.kubectl(&ready))?;
    let address = |name: &str| {
        let pod = object(cluster, "pod", name)?;
        pod["status"]["podIP"].as_str().map(str::to_owned).ok_or(format!("{name} has no address"))
    };
    Ok([address("bare-0")?, address("bare-1")?])
}

fn a_headless_name_is_all_its_pods(lab: &Lab) -> Outcome {
    let (paris, osaka) = named(lab)?;
    let tag = text(lab.image_tag())?;
    for cluster in [&paris, &osaka] {
        text(cluster.apply(&headless(&tag)))?;
    }
    let pods = [("paris", bare_pods(&paris)?), ("osaka", bare_pods(&osaka)?)];
    let mut all: Vec<&str> = pods.iter().flat_map(|(_, pods)| pods).map(String::as_str).collect();
    all.sort_unstable();
    let outcome = [&paris, &osaka].into_iter().try_for_each(|cluster| {
        says(cluster, SOON, "A/bare.default.svc", &[&["NOERROR"], &all[..]].concat())?;
        for (id, [alpha, other]) in &pods {
            says(cluster, SOON, &format!("A/alpha.{id}.bare.default.svc"), &["NOERROR", alpha])?;
            let dashed = other.replace('.', "-");
            says(cluster, SOON, &format!("A/{dashed}.{id}.bare.default.svc"), &["NOERROR", other])?;
            says(cluster, SOON, &format!("A/{id}.bare.default.svc"), &["NXDOMAIN"])?;
        }
        says(cluster, SOON, "A/alpha.bare.default.svc", &["NXDOMAIN"])
    });
    for cluster in [&paris, &osaka] {
        let delete = ["delete", "pod/bare-0", "pod/bare-1", "service/bare", "serviceexport/bare"];
        text(cluster.kubectl(&delete))?;
    }
    outcome?;
    says(&paris, SOON, "A/bare.default.svc", &["NXDOMAIN"])
}

fn dns_is_changed_and_back(lab: &Lab) -> Outcome {
    let (paris, osaka) = sharing(lab)?;
    for cluster in [&paris, &osaka] {
        dns(cluster, &["disable", "--yes", "--restart"])?;
    }
    let before = corefile(&paris)?;
    check(!before.contains("clusterset"), || before.clone())?;
    let shown = dns(&paris, &["enable", "--dry-run"])?;
    check(shown.contains("multicluster clusterset.local"), || shown.clone())?;
    let unasked = carrick::command(&paris, &["dns", "enable"]).err().map(|error| error.to_string());
    check(unasked.as_ref().is_some_and(|e| e.contains("nobody can be asked")), || {
        format!("{unasked:?}")
    })?;
    let unserved =
        carrick::command(&paris, &["dns", "status"]).err().map(|error| error.to_string());
    check(unserved.is_some(), || "status says that all is well".to_owned())?;
    let now = corefile(&paris)?;
    check(now == before, || format!("only shown, and changed: {now}"))?;

    let start = Instant::now();
    dns(&paris, &["enable", "--yes"])?;
    dns(&osaka, &["enable", "--yes", "--restart"])?;
    is_served(&osaka, RELOAD)?;
    figure(&format!("served {:.0} s after a restart", start.elapsed().as_secs_f64()));
    is_served(&paris, RELOAD)?;
    figure(&format!(
        "served {:.0} s after a change that CoreDNS saw by itself",
        start.elapsed().as_secs_f64()
    ));
    let again = dns(&paris, &["enable", "--yes"])?;
    check(again.contains("Nothing to change"), || again.clone())?;
    let status = dns(&paris, &["status"])?;
    // The lab's image has no release in its tag: a warning.
    check(status.ends_with("All is well.\n"), || status.clone())?;

    for cluster in [&paris, &osaka] {
        dns(cluster, &["disable", "--yes", "--restart"])?;
        let after = corefile(cluster)?;
        check(after == before, || format!("left in {}: {after}", cluster.plan().name))?;
        let role = object(cluster, "clusterrole", "carrick-dns")?;
        check(role.is_null(), || role.to_string())?;
        says(cluster, SOON, "TXT/dns-version", &["NXDOMAIN"])?;
    }
    Ok(())
}
