//! Bad ClusterPeerings: a clear word for each, and the good one goes on undisturbed.

use std::time::{Duration, Instant};

use carrick_e2e::cluster::Cluster;
use carrick_e2e::wait::wait_until;
use carrick_e2e::{Lab, carrick};
use serde_json::{Value, json};

use crate::common::{check, node_names, node_of, peered, pod_network, target, text, watches};
use crate::flow::Flow;
use crate::watch::Wanted;
use crate::world::{Case, Outcome};

/// All cases, in order.
pub const CASES: &[(&str, Case)] = &[
    ("refusals::the_api_refuses_what_cannot_be_right", the_api_refuses),
    ("refusals::the_status_says_why_and_the_good_one_goes_on", the_status_says_why),
    ("refusals::what_others_write_into_a_status_is_written_over", foreign_edits_do_not_last),
];

/// A try to connect may take its time; that of an address where nobody is takes 10 s.
const LIMIT: Duration = Duration::from_secs(20);

/// What is said of an address where no gateway is.
const UNREACHABLE: &[&str] = &["Timeout", "Unreachable"];

/// A key that no cluster has.
const STRANGER: &str = "ed25519:vv7B+BtBguHaHeZIoO13JSf2xcAjR5IMJkAcSe8WaFs=";

/// A good peering for a cluster that does not exist.
fn lima() -> Value {
    json!({
        "apiVersion": "carrick.dev/v1alpha1",
        "kind": "ClusterPeering",
        "metadata": {"name": "lima"},
        "spec": {
            "clusterID": "lima",
            "identities": [STRANGER],
            "accept": {"podRanges": ["10.3.0.0/16"]},
        },
    })
}

/// `lima` with one field of the spec otherwise.
fn with(field: &str, value: &Value) -> Value {
    let mut peering = lima();
    peering["spec"][field] = value.clone();
    peering
}

fn the_api_refuses(lab: &Lab) -> Outcome {
    let (paris, _) = peered(lab)?;
    let ranges = |range: &str| json!({"podRanges": [range]});
    let many: Vec<String> = (0..65).map(|i| format!("10.3.{i}.0/24")).collect();
    let cases = [
        ("accept", ranges("10.3.0.0"), "must be an address and a length"),
        ("accept", ranges("10.3.0.0/33"), "must be an address and a length"),
        ("accept", ranges("10.3.1.0/16"), "has host bits set"),
        ("accept", ranges("0.0.0.0/0"), "must not be a default route"),
        ("accept", ranges("::/0"), "must not be a default route"),
        ("accept", json!({"podRanges": []}), "spec.accept.podRanges"),
        ("accept", json!({"podRanges": many}), "spec.accept.podRanges"),
        ("accept", json!({"podRanges": ["10.3.0.0/16"], "maxPrefixes": 0}), "maxPrefixes"),
        ("identities", json!([]), "spec.identities"),
        ("identities", json!(["ed25519:short"]), "spec.identities[0]"),
        ("clusterID", json!("Lima!"), "spec.clusterID"),
        ("endpoints", json!([{"address": "osaka.example:31820"}]), "without a port"),
        ("endpoints", json!([{"address": "172.31.2.11", "port": 0}]), "spec.endpoints[0].port"),
        ("tunnel", json!({"mtu": 100}), "spec.tunnel.mtu"),
        ("remap", json!("Sometimes"), "spec.remap"),
    ];
    for (field, value, word) in cases {
        let refusal = match paris.apply(&with(field, &value).to_string()) {
            Ok(_) => return Err(format!("{field}: {value} was taken")),
            Err(error) => error.to_string(),
        };
        check(refusal.contains(word), || {
            format!("{field}: {value} does not say {word}: {refusal}")
        })?;
    }
    Ok(())
}

/// A peering, the condition that must be False, the reasons that it may give, and a word that it must
/// say.
type Bad = (Value, &'static str, &'static [&'static str], String);

fn bad_ones(paris: &Cluster, osaka: &Cluster) -> Result<Vec<Bad>, String> {
    let key = |cluster: &Cluster| -> Result<Value, String> {
        let identity = text(cluster.kubectl_json(&["get", "clusteridentity", "self"]))?;
        Ok(identity["status"]["identities"].clone())
    };
    let range = |range: &str| with("accept", &json!({"podRanges": [range]}));
    let dial =
        |address: &str, port: u16| with("endpoints", &json!([{"address": address, "port": port}]));
    let home = text(osaka.node(&node_of(osaka, "carrick-gateway-0")?))?;
    let node = home.plan().address.to_string();
    let api_server = format!("{}/32", paris.plan().control_plane);
    let nobody = "172.31.2.99";
    let (own, theirs) = (key(paris)?, key(osaka)?);
    let words = |key: &Value| key[0].as_str().unwrap_or_default().to_owned();
    Ok(vec![
        (with("identities", &own), "Accepted", &["OwnIdentity"], words(&own)),
        (with("clusterID", &json!("paris")), "Accepted", &["OwnCluster"], "paris".into()),
        (with("clusterID", &json!("osaka")), "Accepted", &["DuplicatePeering"], "osaka".into()),
        (with("identities", &theirs), "Accepted", &["DuplicatePeering"], words(&theirs)),
        (range("10.1.2.0/24"), "Accepted", &["OverlapsOwnRanges"], "10.1.2.0/24".into()),
        (range("10.101.0.0/16"), "Accepted", &["OverlapsOwnRanges"], "10.101.0.0/16".into()),
        (range("10.0.0.0/8"), "Accepted", &["OverlapsOwnRanges"], "10.0.0.0/8".into()),
        (range("172.31.1.0/24"), "Accepted", &["OverlapsOwnRanges"], "172.31.1.0/24".into()),
        (range(&api_server), "Accepted", &["OverlapsOwnRanges"], api_server),
        (with("remap", &json!("Auto")), "Accepted", &["NotImplemented"], "spec.remap".into()),
        (dial(&node, 9), "Connected", UNREACHABLE, format!("{node}:9")),
        (dial(nobody, 31820), "Connected", UNREACHABLE, format!("{nobody}:31820")),
        (
            dial("gateway.invalid", 31820),
            "Connected",
            &["NameNotResolved"],
            "gateway.invalid".into(),
        ),
        (
            dial(&node, 31820),
            "Connected",
            &["WrongCluster"],
            format!("{node}:31820: cluster lima was to answer"),
        ),
    ])
}

fn the_status_says_why(lab: &Lab) -> Outcome {
    let (paris, osaka) = peered(lab)?;
    let (from, to) = (&node_names(&paris)[1], &node_names(&osaka)[1]);
    let bad = bad_ones(&paris, &osaka)?;
    let flow = Flow::start(&pod_network(&paris, from)?, target(&osaka, to, 2)?)?;
    let watches = watches(&paris, &osaka)?;
    let mut applied = Vec::new();
    for (peering, condition, reasons, word) in bad {
        let start = Instant::now();
        applied.push((start, peering["spec"].to_string()));
        text(paris.apply(&peering.to_string()))?;
        let wanted = Wanted { peer: "lima", condition, status: "False", reasons, word: &word };
        let seen = watches.0.wait(&wanted, start, LIMIT);
        let check_says = carrick::command(&paris, &["check"]);
        text(paris.kubectl(&["delete", "clusterpeering", "lima"]))?;
        seen.map_err(|error| format!("{}: {error}", peering["spec"]))?;
        let found = check_says.err().map(|error| error.to_string()).unwrap_or_default();
        check(found.contains("lima"), || format!("check does not name lima: {found:?}"))?;
    }
    let record = flow.stop();
    let losses: Vec<String> = record.losses().map(|at| during(&applied, at)).collect();
    check(record.lost() == 0, || {
        format!("the good peering suffered: {}: {}", record.summary(), losses.join("; "))
    })
}

/// What had been applied at that time, and how long before.
fn during(applied: &[(Instant, String)], at: Instant) -> String {
    match applied.iter().rfind(|(start, _)| *start <= at) {
        Some((start, spec)) => format!("{} ms after {spec}", (at - *start).as_millis()),
        None => "before the first".to_owned(),
    }
}

fn foreign_edits_do_not_last(lab: &Lab) -> Outcome {
    let (paris, _) = peered(lab)?;
    let patch = r#"{"status":{"conditions":[],"peer":{"release":"nonsense"}}}"#;
    for _ in 0..2 {
        let edit = ["patch", "clusterpeering", "osaka", "--subresource=status", "--type=merge"];
        text(paris.kubectl(&[&edit[..], &["--patch", patch]].concat()))?;
        text(wait_until(LIMIT, "the controller's own words", || {
            let object = text(paris.kubectl_json(&["get", "clusterpeering", "osaka"]))?;
            let status = &object["status"];
            let said = status["conditions"].as_array().map_or(0, Vec::len);
            check(said == 6 && status["peer"]["release"] != "nonsense", || status.to_string())
        }))?;
    }
    text(carrick::wait_condition(&paris, "osaka", "Ready", "True", LIMIT))
}
