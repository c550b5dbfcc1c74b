//! The cluster that serves is lost: how soon new connections succeed elsewhere, and whether those to a cluster that lives
//! notice anything. Not part of the usual tests: `cargo drills services::lost`.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use carrick_e2e::Lab;
use carrick_e2e::cluster::Cluster;
use carrick_e2e::spread::{Spread, nearest_rank};

use super::figures::{earlier, keep, tell};
use super::knock::{Knock, Knocks};
use super::policy::{BACK, served_by, wish};
use super::{consent, export, imported, sharing, unexported};
use crate::common::{check, cut_apart, figure, join_again, node_names, pod_network, ready, text};
use crate::connections::{BYTES, CONNECTIONS, Connections};
use crate::quiet::{other_controllers, settled};
use crate::table::record::wanted;
use crate::table::whole;
use crate::traffic::last;
use crate::world::{Case, Outcome};

/// The measurement.
pub const CASES: &[(&str, Case)] =
    &[("services::lost::new_connections_succeed_elsewhere", lost_again_and_again)];

/// So many in a row that succeed end a trial: a second of them.
const ENOUGH: usize = 50;

/// One trial in so many cuts the cluster's power, the others its links, which its peers cannot tell from it.
const POWER: usize = 10;

/// What is promised of the time until a new connection succeeds, with kube-proxy's defaults.
const MEDIAN_MS: f64 = 1_000.0;
const P99_MS: f64 = 2_500.0;

const LABEL: &str = "carrick.dev/e2e=serves";

/// One pod of each cluster: its page, and a port for connections that last.
const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: hello, namespace: default}\n\
    spec:\n  selector: {carrick.dev/e2e: serves}\n  ports:\n  \
    - {name: web, port: 80, targetPort: 8080}\n  - {name: talk, port: 9100, targetPort: 9100}\n";
const TALK: u16 = 9100;

/// What is looked at again and again.
struct Rig<'a> {
    lab: &'a Lab,
    paris: Cluster,
    osaka: Cluster,
    target: SocketAddr,
}

impl Rig<'_> {
    /// Loses the cluster, and gives when.
    fn lose(&self, power: bool) -> Result<Instant, String> {
        let at = Instant::now();
        if power {
            whole::cut(&self.osaka)?;
        } else {
            cut_apart(self.lab)?;
        }
        Ok(at)
    }

    fn give_back(&self, power: bool) -> Outcome {
        if power {
            whole::power_on(&self.osaka)?;
            whole::is_as_before(&self.osaka)?;
        }
        join_again(self.lab)?;
        ready(&self.paris, &self.osaka)?;
        // A controller has a cluster that is lost again and again wait for longer and longer, and another one does not
        // know how often that was.
        other_controllers(&self.paris)?;
        settled(&self.paris)
    }

    fn trial(&self, power: bool, spreads: &mut [Spread]) -> Outcome {
        served_by(&self.paris, "hello", &["osaka"], BACK)?;
        let networks: Result<_, String> =
            node_names(&self.paris).iter().map(|node| pod_network(&self.paris, node)).collect();
        let knocks = Knocks::start(networks?, self.target);
        let begun = Instant::now();
        let seen = knocks.wait("osaka", begun, ENOUGH).and_then(|()| {
            let at = self.lose(power)?;
            knocks.wait("paris", at, ENOUGH).map(|()| at)
        });
        let all = knocks.stop();
        let back = self.give_back(power);
        let (all, at) = (all?, seen?);
        back?;
        let after: Vec<&Knock> = all.iter().filter(|knock| knock.begun >= at).collect();
        let elsewhere = |knock: &&&Knock| knock.is_served_by("paris");
        let first = after.iter().filter(elsewhere).map(|knock| knock.ended).min();
        let first = first.ok_or("no connection was served elsewhere")? - at;
        let failed: Vec<_> = after.iter().filter(|knock| !knock.is_served_by("paris")).collect();
        let last = failed.last().map_or(Duration::ZERO, |knock| knock.begun - at);
        let why = failed.last().map_or("", |knock| knock.server.as_ref().err().map_or("", |w| w));
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        figure(&format!(
            "{} lost: served elsewhere after {:.0} ms; of {} that failed the last began after {:.0} ms: {why}",
            if power { "power" } else { "links" },
            ms(first),
            failed.len(),
            ms(last),
        ));
        spreads[0].add(first);
        spreads[1].add(last);
        Ok(())
    }
}

fn lost_again_and_again(lab: &Lab) -> Outcome {
    let (paris, osaka) = sharing(lab)?;
    consent(&paris, &osaka)?;
    for cluster in [&paris, &osaka] {
        let pod = format!("probe-{}", last(cluster));
        text(cluster.kubectl(&["label", "pod", &pod, "--overwrite", LABEL]))?;
        text(cluster.apply(&format!("{SERVICE}---\n{}", export("hello"))))?;
    }
    let (_, address) = imported(&paris, "hello")?;
    let address: std::net::IpAddr = text(address.parse())?;
    // The connections that have to last end in the cluster that lives, by the same address.
    wish(&paris, "PreferLocal")?;
    served_by(&paris, "hello", &["paris"], BACK)?;
    let [from, to] = [0, 1].map(|at| pod_network(&paris, &node_names(&paris)[at]));
    let target = (address, TALK).into();
    let living = Connections::start(&from?, &to?, target, BYTES)?;
    wish(&paris, "Failover: osaka, paris")?;
    let rig = Rig { lab, paris: paris.clone(), osaka: osaka.clone(), target: (address, 80).into() };
    let new =
        ["the first new connection that succeeds elsewhere", "the last new connection that fails"];
    let new = new.map(|what| Spread::of(&format!("from the loss to {what}")));
    let mut spreads = earlier("services-lost", new.to_vec())?;
    for number in spreads[0].ms.len()..wanted()? {
        rig.trial(number % POWER == POWER - 1, &mut spreads)?;
        keep(lab, "services-lost", &spreads)?;
    }
    let broken = living.broken_by(Instant::now());
    drop(living);
    tell(lab, "services-lost", &spreads)?;
    figure(&format!("of {CONNECTIONS} connections to the cluster that lives, {broken} broke"));
    for cluster in [&paris, &osaka] {
        let pod = format!("probe-{}", last(cluster));
        text(cluster.kubectl(&["label", "pod", &pod, "carrick.dev/e2e-"]))?;
    }
    unexported(&[&paris, &osaka], &paris, &osaka)?;
    check(broken == 0, || format!("{broken} connections to the cluster that lives broke"))?;
    for (percent, most) in [(50, MEDIAN_MS), (99, P99_MS)] {
        let found = nearest_rank(spreads[0].ms.iter().copied(), percent);
        check(found <= most, || format!("p{percent} is {found:.0} ms, promised are {most} ms"))?;
    }
    Ok(())
}
