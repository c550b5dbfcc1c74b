//! The lab itself: that its clusters are real, apart from each other, mortal, and leave nothing.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use carrick_e2e::cluster::Cluster;
use carrick_e2e::machine::lab_group;
use carrick_e2e::state::{State, Store};
use carrick_e2e::wait::wait_until;
use carrick_e2e::{Lab, LabSpec, probes};

use crate::common::{SOON, check, clusters, fetches, node_names, target, text};
use crate::world::{Case, Outcome};

/// All cases, in order.
pub const CASES: &[(&str, Case)] = &[
    ("lab::nodes_are_ready", nodes_are_ready),
    ("lab::pods_reach_pods_of_other_nodes", pods_reach_pods_of_other_nodes),
    ("lab::services_have_names_and_addresses", services_have_names_and_addresses),
    ("lab::foreign_pods_are_unreachable_and_tries_are_counted", foreign_pods_are_unreachable),
    ("lab::nodes_of_two_clusters_are_a_round_trip_apart", nodes_are_a_round_trip_apart),
    ("lab::a_cut_network_is_cut_and_restored", a_cut_network_is_cut_and_restored),
    ("lab::tokens_can_have_an_audience_of_their_own", tokens_have_an_audience),
    ("lab::a_killed_api_server_comes_back", a_killed_api_server_comes_back),
    ("lab::a_container_can_be_killed_by_its_process", a_container_can_be_killed),
    ("lab::a_power_cut_is_noticed_and_survived", a_power_cut_is_noticed_and_survived),
    ("lab::a_lab_that_was_killed_leaves_nothing_behind", a_killed_lab_leaves_nothing),
    ("lab::bad_command_lines_are_refused", bad_command_lines_are_refused),
    ("lab::another_run_on_it_is_refused", another_run_is_refused),
];

fn probe(cluster: &Cluster, node: &str, arguments: &[&str]) -> Result<String, String> {
    text(probes::run(cluster, node, arguments))
}

/// The pod that served a page.
fn server(said: &str) -> Result<String, String> {
    Ok(text(probes::page(said))?.server)
}

fn nodes_are_ready(lab: &Lab) -> Outcome {
    for cluster in lab.clusters() {
        text(cluster.wait_nodes())?;
        let list = text(cluster.kubectl_json(&["get", "nodes"]))?;
        for (node, plan) in
            list["items"].as_array().into_iter().flatten().zip(&cluster.plan().nodes)
        {
            let pods = node["spec"]["podCIDR"].as_str().unwrap_or_default();
            check(pods == plan.pods.to_string(), || format!("{}: {pods}", plan.name))?;
            let version = node["status"]["nodeInfo"]["kubeletVersion"].as_str().unwrap_or_default();
            check(version.starts_with("v1.36."), || format!("{}: {version}", plan.name))?;
        }
    }
    Ok(())
}

fn pods_reach_pods_of_other_nodes(lab: &Lab) -> Outcome {
    for cluster in lab.clusters() {
        let names = node_names(&cluster);
        fetches((&cluster, &names[0]), (&cluster, &names[1]), 5000)?;
    }
    Ok(())
}

fn services_have_names_and_addresses(lab: &Lab) -> Outcome {
    for cluster in lab.clusters() {
        let pod = &cluster.plan().nodes[0].name;
        let name = "probe.default.svc.cluster.local";
        let answer = text(wait_until(SOON, "an answer by the service's name", || {
            probe(&cluster, pod, &["fetch", &format!("{name}:8080")])
        }))?;
        check(server(&answer)?.starts_with("probe-"), || answer.clone())?;
        let resolved = probe(&cluster, pod, &["resolve", name])?;
        let address: std::net::Ipv4Addr = text(resolved.trim().parse())?;
        check(cluster.plan().services.contains(&address), || format!("{name} is {address}"))?;
    }
    Ok(())
}

fn foreign_pods_are_unreachable(lab: &Lab) -> Outcome {
    let (paris, osaka) = clusters(lab)?;
    let foreign = target(&osaka, "osaka-1", 0)?.to_string();
    let before = text(paris.leaked_packets())?;
    let capture =
        text(text(paris.node("paris-1"))?.capture(&format!("net {}", osaka.plan().pods)))?;
    let result = probe(&paris, "paris-1", &["fetch", &foreign, "--timeout-ms", "1000"]);
    check(result.is_err(), || format!("{foreign} answered: {result:?}"))?;
    let after = text(paris.leaked_packets())?;
    let captured = text(capture.stop())?;
    check(captured.iter().any(|line| line.contains("10.2.")), || format!("captured {captured:?}"))?;
    check(after > before, || format!("the router counted {before} leaks before, {after} after"))
}

fn nodes_are_a_round_trip_apart(lab: &Lab) -> Outcome {
    let (paris, osaka) = clusters(lab)?;
    let target = format!("{}:30080", osaka.plan().nodes[0].address);
    let start = Instant::now();
    let said = probe(&paris, "paris-1", &["fetch", &target])?;
    // The connection takes one round trip, the page another.
    let (took, least) = (start.elapsed(), Duration::from_millis(2 * u64::from(lab.spec().rtt_ms)));
    check(server(&said)?.starts_with("probe-osaka-"), || said.clone())?;
    check(took >= least, || format!("{took:?} is less than two round trips, {least:?}"))
}

fn a_cut_network_is_cut_and_restored(lab: &Lab) -> Outcome {
    let (paris, osaka) = clusters(lab)?;
    let target = format!("{}:30080", osaka.plan().nodes[0].address);
    let fetch = || probe(&paris, "paris-1", &["fetch", &target, "--timeout-ms", "1000"]);
    text(lab.wan().cut("osaka", "paris"))?;
    let during = fetch();
    text(lab.wan().restore("osaka", "paris"))?;
    check(during.is_err(), || format!("answered through a cut: {during:?}"))?;
    fetch().map(drop)?;
    let unknown = lab.wan().cut("paris", "atlantis").err().map(|error| error.to_string());
    check(unknown.as_ref().is_some_and(|e| e.contains("atlantis")), || format!("{unknown:?}"))
}

fn tokens_have_an_audience(lab: &Lab) -> Outcome {
    let (paris, _) = clusters(lab)?;
    let token = text(paris.kubectl(&["create", "token", "default", "--audience=carrick.dev"]))?;
    let review = serde_json::json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
        "spec": {"token": token.trim(), "audiences": ["carrick.dev"]},
    });
    let folder = text(tempfile::tempdir())?;
    let file = folder.path().join("review.json");
    text(std::fs::write(&file, review.to_string()))?;
    let path = file.to_string_lossy();
    let answer = text(paris.kubectl_json(&["create", "-f", &path]))?;
    check(answer["status"]["authenticated"] == true, || answer["status"].to_string())?;
    // Without the administrator's certificate, which would win over the token.
    let url = paris.plan().api_url();
    let bare = ["--kubeconfig=/dev/null", "--insecure-skip-tls-verify", "--server", &url];
    let used =
        paris.kubectl(&[&bare[..], &["--token", token.trim(), "get", "--raw", "/api"]].concat());
    let refusal = used.err().map(|error| error.to_string()).unwrap_or_default();
    let unauthorized = refusal.contains("Unauthorized") || refusal.contains("must be logged in");
    check(unauthorized, || format!("not refused as unauthorized: {refusal:?}"))
}

fn a_killed_api_server_comes_back(lab: &Lab) -> Outcome {
    let (paris, _) = clusters(lab)?;
    let server = paris.control_plane_process("kube-apiserver");
    let first = text(server.pid())?;
    text(server.kill())?;
    check(paris.kubectl(&["get", "--raw", "/readyz"]).is_err(), || "it still answers".to_owned())?;
    text(server.start())?;
    text(wait_until(SOON, "the API server", || text(paris.kubectl(&["get", "--raw", "/readyz"]))))?;
    let second = text(server.pid())?;
    check(first != second && text(server.running())?, || format!("{first} and {second}"))?;
    text(paris.wait_nodes())
}

fn a_container_can_be_killed(lab: &Lab) -> Outcome {
    let (paris, _) = clusters(lab)?;
    let node = text(paris.node("paris-1"))?;
    let pids = || text(node.pids_of_container("default", "probe-paris-1", "probe"));
    let before = pids()?;
    check(before.len() == 1, || format!("the container's processes are {before:?}"))?;
    let command = text(std::fs::read_to_string(format!("/proc/{}/cmdline", before[0])))?;
    check(command.starts_with("/carrick-probe"), || command.clone())?;
    let pid = nix::unistd::Pid::from_raw(before[0]);
    text(nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL))?;
    text(wait_until(SOON, "another process of the container", || match pids()? {
        now if !now.is_empty() && now != before => Ok(()),
        now => Err(format!("{now:?}")),
    }))?;
    let ready = ["wait", "--for=condition=Ready", "--timeout=30s", "pod/probe-paris-1"];
    text(paris.kubectl(&ready)).map(drop)
}

fn node_ready(cluster: &Cluster, node: &str) -> Result<String, String> {
    let path = "jsonpath={.status.conditions[?(@.type==\"Ready\")].status}";
    text(cluster.kubectl(&["get", "node", node, "-o", path]))
}

fn a_power_cut_is_noticed_and_survived(lab: &Lab) -> Outcome {
    let (paris, _) = clusters(lab)?;
    let node = text(paris.node("paris-2"))?;
    let address = target(&paris, "paris-2", 0)?.to_string();
    text(node.power_cut())?;
    check(node.exec(&["true"]).is_err() && !node.has_power(), || "it still runs".to_owned())?;
    let fetch = ["fetch", &address, "--timeout-ms", "500"];
    let during = probe(&paris, "paris-1", &fetch);
    check(during.is_err(), || format!("a dead pod answered: {during:?}"))?;
    let seen = |wanted: &str| match node_ready(&paris, "paris-2")? {
        status if status == wanted => Ok(()),
        status => Err(format!("Ready is {status}")),
    };
    text(wait_until(Duration::from_secs(12), "the node to be missed", || seen("Unknown")))?;
    text(node.power_on())?;
    text(wait_until(SOON, "the node to be back", || seen("True")))?;
    let twice = node.power_on().err().map(|error| error.to_string());
    check(twice.as_ref().is_some_and(|e| e.contains("power already")), || format!("{twice:?}"))?;
    text(paris.wait_dns())
}

fn lab_program(name: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_carrick-lab"));
    command.args(["--lab", name]).stdin(Stdio::null());
    command
}

/// Kills `up` while machines are there and others are still to come, then removes.
fn a_killed_lab_leaves_nothing(_: &Lab) -> Outcome {
    let name = "test-killed";
    let store = Store::new(name);
    let mut up = lab_program(name);
    up.args(["up", "--clusters", "1", "--nodes", "1", "--no-images"]).stderr(Stdio::null());
    let mut child = text(up.spawn())?;
    let record = wait_until(SOON, "a kubelet on the record", || {
        let state = text(store.load())?.ok_or("no record")?;
        let node = state.machines.get("paris-1").ok_or("no node")?;
        node.processes.contains_key("kubelet").then(|| state.clone()).ok_or("no kubelet".to_owned())
    });
    text(child.kill())?;
    text(child.wait())?;
    let record = text(record)?;
    check(record.roots().iter().any(|p| p.alive()), || "nothing ran: a vain test".to_owned())?;
    check(!record.complete, || "the lab was complete: a vain test".to_owned())?;
    let down = text(lab_program(name).arg("down").output())?;
    check(down.status.success(), || String::from_utf8_lossy(&down.stderr).into_owned())?;
    nothing_left(&record, &store)
}

fn nothing_left(record: &State, store: &Store) -> Outcome {
    let all = record.machines.values().flat_map(|m| m.holder.iter().chain(m.processes.values()));
    for process in all.chain(&record.wan) {
        check(!process.alive(), || format!("process {} still runs", process.pid))?;
    }
    check(!store.folder().exists(), || format!("{} is there", store.folder().display()))?;
    let folder = store.folder().to_string_lossy().into_owned();
    let mounts = text(std::fs::read_to_string("/proc/self/mountinfo"))?;
    check(!mounts.contains(&format!("{folder}/")), || format!("mounts below {folder}"))?;
    let group = lab_group(store.name());
    let groups = mounts.lines().filter(|line| line.contains(" - cgroup"));
    for mount in groups.filter_map(|line| line.split(' ').nth(4)) {
        let path = std::path::Path::new(mount).join(&group);
        check(!path.exists(), || format!("{} is there", path.display()))?;
    }
    Ok(())
}

fn bad_command_lines_are_refused(_: &Lab) -> Outcome {
    let cases: [(&[&str], &str); 7] = [
        (&["up", "--clusters", "0"], "clusters is 0; it can be 1 to 8"),
        (&["up", "--nodes", "17"], "nodes is 17; it can be 1 to 16"),
        (&["up", "--family", "ipv6"], "none of ipv4, dual"),
        (&["up", "--rtt", "20"], "write 20ms or 1s"),
        (&["status"], "lab test-none is not up"),
        (&["power-cut", "paris-1"], "lab test-none is not up"),
        (&["dance"], "dance"),
    ];
    for (arguments, expected) in cases {
        let output = text(lab_program("test-none").args(arguments).output())?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        check(!output.status.success() && said.contains(expected), || {
            format!("{arguments:?}: {said}")
        })?;
    }
    let output = text(lab_program("../x").arg("down").output())?;
    check(!output.status.success(), || "a path was taken as a lab's name".to_owned())?;
    check(LabSpec::default().validate().is_ok(), || "the default is invalid".to_owned())
}

/// This run holds the lab, so a second one must leave it alone.
fn another_run_is_refused(lab: &Lab) -> Outcome {
    let mut second = Command::new(text(std::env::current_exe())?);
    second.args(["--exact", "lab::nodes_are_ready"]).env("CARRICK_TEST_LAB", &lab.spec().name);
    let output = text(second.output())?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let refused = format!("another run of cases uses lab {}", lab.spec().name);
    check(!output.status.success() && said.contains(&refused), || said.clone())
}
