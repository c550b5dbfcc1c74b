//! A WAN that carries less: the MTU follows what it carries, down and up again.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use carrick_e2e::cluster::Cluster;
use carrick_e2e::wait::wait_until;
use carrick_e2e::{Lab, carrick};
use carrick_wan::Conditions;
use nix::sys::socket::{getsockopt, sockopt};

use crate::common::{
    Fault, SOON, check, figure, gateway_network, node_names, peered, pod_network, ready, target,
    text,
};
use crate::flow::Network;
use crate::world::{Case, Outcome};

/// All cases, in order.
pub const CASES: &[(&str, Case)] = &[("narrow::the_mtu_follows_the_wan", follows)];

/// What the chart asks for, and gets of the lab's 1500 bytes.
pub const WIDE: u32 = 1420;
/// What IPv4, UDP and WireGuard add to a packet inside a tunnel, in bytes.
const OVERHEAD: u32 = 60;
/// What a transfer carries each way, in bytes.
const TRANSFER: usize = 2_000_000;

fn follows(lab: &Lab) -> Outcome {
    let (paris, osaka) = peered(lab)?;
    let both = [(&paris, "osaka"), (&osaka, "paris")];
    arrives(&both, WIDE)?;
    let undo = || text(lab.wan().reset());
    let narrow = Fault(&undo);
    for width in [1400, 1280] {
        let begin = Instant::now();
        carries(lab, Some(width))?;
        arrives(&both, width - OVERHEAD)?;
        let took = begin.elapsed();
        ready(&paris, &osaka)?;
        says(&paris, width)?;
        full_size(&paris, &osaka, width - OVERHEAD)?;
        figure(&format!(
            "a WAN of {width} bytes: routes of {} bytes after {:.1} s, Ready after {:.1} s",
            width - OVERHEAD,
            took.as_secs_f64(),
            begin.elapsed().as_secs_f64()
        ));
    }
    drop(narrow);
    // A wider path is tried every minute, and at once when packets leave by another way.
    let begin = Instant::now();
    let back = || turn([&paris, &osaka], &[]);
    let _turned = Fault(&back);
    turn([&paris, &osaka], &["mtu", "1499"])?;
    arrives(&both, WIDE)?;
    figure(&format!("wide again: {WIDE} bytes after {:.1} s", begin.elapsed().as_secs_f64()));
    ready(&paris, &osaka)?;
    // Linux believes for ten minutes what it was told of a smaller path (RFC 1191, section 6.3).
    pod_network(&paris, &node_names(&paris)[1])?.run(&["ip", "route", "flush", "cache"])?;
    full_size(&paris, &osaka, WIDE)
}

/// Lets packets of up to so many bytes pass between the clusters. Nobody is told of larger ones.
fn carries(lab: &Lab, mtu: Option<u32>) -> Outcome {
    let wan = lab.wan();
    for (from, to) in [("paris", "osaka"), ("osaka", "paris")] {
        let conditions = Conditions { mtu, ..text(wan.get(from, to))? };
        text(wan.set(from, to, &conditions))?;
    }
    Ok(())
}

/// Waits until the statuses and all nodes' routes have this MTU.
fn arrives(both: &[(&Cluster, &str)], mtu: u32) -> Outcome {
    arrives_within(SOON, both, mtu)
}

/// Waits for so long.
pub fn arrives_within(limit: Duration, both: &[(&Cluster, &str)], mtu: u32) -> Outcome {
    for (cluster, peer) in both {
        let name = &cluster.plan().name;
        text(wait_until(limit, &format!("an MTU of {mtu} in {name}"), || {
            let peering = text(cluster.kubectl_json(&["get", "clusterpeering", peer]))?;
            let found = &peering["status"]["mtu"];
            check(*found == mtu, || format!("status.mtu is {found}"))?;
            for node in cluster.nodes() {
                let routes = text(node.exec(&["ip", "route", "show", "table", "51820"]))?;
                // Where nodes ask their own gateways is no way to the other cluster.
                let own = |line: &&str| line.split_whitespace().next() == Some(after(line, "via"));
                let mesh = routes.lines().filter(|line| line.contains(" via ") && !own(line));
                let mtus: BTreeSet<&str> = mesh.map(|line| after(line, "mtu")).collect();
                let right = mtus.len() == 1 && mtus.contains(mtu.to_string().as_str());
                check(right, || format!("{} has {routes}", node.plan().name))?;
            }
            Ok(())
        }))?;
    }
    Ok(())
}

/// The word after another.
fn after<'a>(line: &'a str, word: &str) -> &'a str {
    line.split_whitespace().skip_while(|found| *found != word).nth(1).unwrap_or_default()
}

/// `carrick status` names the path's MTU and the peering's.
fn says(cluster: &Cluster, width: u32) -> Outcome {
    let said = text(carrick::command(cluster, &["status"]))?;
    let has = |number: u32| {
        let number = number.to_string();
        let mut lines = said.lines().filter(|line| line.starts_with("osaka "));
        lines.any(|line| line.split_whitespace().any(|word| word == number))
    };
    check(has(width) && has(width - OVERHEAD), || format!("{width} is not in {said}"))
}

/// Packets of full size, and such as are too big, between pods that are not on the gateways' nodes.
pub fn full_size(paris: &Cluster, osaka: &Cluster, mtu: u32) -> Outcome {
    let (from, to) = (&node_names(paris)[1], &node_names(osaka)[0]);
    let pod = pod_network(paris, from)?;
    transfer(&pod, target(osaka, to, 1)?)?;
    told(&pod, target(osaka, to, 2)?, mtu)
}

/// Carries bytes there and back, and compares them.
fn transfer(pod: &Network, to: SocketAddr) -> Outcome {
    let sent: Vec<u8> = (0..TRANSFER).map(|i| (i * 7 + i / 251) as u8).collect();
    let connect = || TcpStream::connect_timeout(&to, SOON);
    let mut connection = text(pod.inside(connect)?)?;
    text(connection.set_read_timeout(Some(SOON)))?;
    let mut sender = text(connection.try_clone())?;
    let mut received = Vec::with_capacity(TRANSFER);
    std::thread::scope(|scope| {
        let written =
            scope.spawn(|| sender.write_all(&sent).and_then(|()| sender.shutdown(Shutdown::Write)));
        text(connection.read_to_end(&mut received))?;
        text(written.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })?;
    check(received == sent, || {
        let same = received.iter().zip(&sent).take_while(|(one, other)| one == other).count();
        format!("of {TRANSFER} bytes {} came back, {same} of them right", received.len())
    })
}

/// A datagram with DF that is larger than the MTU is answered "too big", and one of the MTU is echoed.
fn told(pod: &Network, to: SocketAddr, mtu: u32) -> Outcome {
    let socket = pod.udp(0)?;
    text(socket.set_read_timeout(Some(Duration::from_millis(200))))?;
    text(socket.connect(to))?;
    // The pod's own device carries it whole, and Linux sets DF as long as it knows of nothing smaller.
    let payload = |size: u32| vec![0x3c; size as usize - 28];
    text(wait_until(SOON, &format!("an answer that {mtu} bytes is the most"), || {
        // The answer to an earlier one may come as an error of this.
        let _told = socket.send(&payload(mtu + 1));
        let known = text(getsockopt(&socket, sockopt::IpMtu))?;
        check(u32::try_from(known) == Ok(mtu), || format!("the pod knows {known} bytes"))
    }))?;
    text(wait_until(SOON, &format!("an echo of {mtu} bytes"), || {
        text(socket.send(&payload(mtu)))?;
        let length = text(socket.recv(&mut [0; 2048]))?;
        check(length == payload(mtu).len(), || format!("{length} bytes came back"))
    }))
}

/// Gives the gateways' pods another default route, or the same again.
fn turn(clusters: [&Cluster; 2], mtu: &[&str]) -> Outcome {
    for cluster in clusters {
        let pod = gateway_network(cluster)?;
        let default = pod.run(&["ip", "route", "show", "default"])?;
        let change = ["ip", "route", "replace", "default", "via", after(&default, "via")];
        pod.run(&[&change[..], mtu].concat())?;
    }
    Ok(())
}
