//! Trust: a plain pod cannot put packets into the mesh, at a node or at a gateway.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use carrick_e2e::Lab;
use carrick_e2e::cluster::Cluster;
use carrick_e2e::wait::wait_until;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sendto, socket,
};
use serde_json::Value;

use crate::common::{
    SOON, check, gateway_network, node_names, node_network, node_of, peered, pod_network, target,
    text,
};
use crate::flow::Network;
use crate::world::{Case, Outcome};

/// All cases, in order.
pub const CASES: &[(&str, Case)] = &[
    ("trust::a_pod_cannot_inject_at_a_node", at_a_node),
    ("trust::a_pod_cannot_inject_at_a_gateway", at_a_gateway),
];

/// VXLAN's own port and network, as the chart has them.
const PORT: u16 = 7789;
const VNI: u32 = 51_746;

/// Where the victim listens.
const VICTIM: u16 = 9999;

/// What would be seen by the victim comes within that: a round trip is 20 ms.
const ARRIVES: Duration = Duration::from_secs(1);

/// An IPv4 packet with a UDP datagram; the checksum of UDP is optional, that of IPv4 isn't.
fn datagram(from: SocketAddrV4, to: SocketAddrV4, payload: &[u8]) -> Vec<u8> {
    let length = |bytes: usize| u16::try_from(bytes).unwrap_or(u16::MAX).to_be_bytes();
    let mut packet = vec![0x45, 0];
    packet.extend(length(28 + payload.len()));
    packet.extend([0, 0, 0, 0, 64, 17, 0, 0]);
    packet.extend(from.ip().octets());
    packet.extend(to.ip().octets());
    let sum: u32 = packet.chunks(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap_or_default();
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    packet.extend(from.port().to_be_bytes());
    packet.extend(to.port().to_be_bytes());
    packet.extend(length(8 + payload.len()));
    packet.extend([0, 0]);
    packet.extend(payload);
    packet
}

/// The content of a VXLAN datagram: an Ethernet frame with an IPv4 packet.
fn encapsulated(to: [u8; 6], from: [u8; 6], packet: &[u8]) -> Vec<u8> {
    let mut bytes = vec![8, 0, 0, 0];
    bytes.extend((VNI << 8).to_be_bytes());
    bytes.extend(to);
    bytes.extend(from);
    bytes.extend([8, 0]);
    bytes.extend(packet);
    bytes
}

/// Sends a datagram with a source that is not its own, as a pod with NET_RAW can.
fn forge(network: &Network, from: SocketAddrV4, to: SocketAddrV4, payload: &[u8]) -> Outcome {
    let packet = datagram(from, to, payload);
    let raw = network.inside(|| {
        socket(AddressFamily::Inet, SockType::Raw, SockFlag::empty(), SockProtocol::Raw)
    })?;
    let sent = sendto(text(raw)?.as_raw_fd(), &packet, &SockaddrIn::from(to), MsgFlags::empty());
    text(sent).map(drop)
}

/// Whether the victim hears this very word.
fn hears(victim: &UdpSocket, word: &[u8]) -> Result<bool, String> {
    text(victim.set_read_timeout(Some(ARRIVES)))?;
    let mut buffer = [0; 100];
    loop {
        match victim.recv(&mut buffer) {
            Ok(length) if &buffer[..length] == word => return Ok(true),
            Ok(_) => {}
            Err(_) => return Ok(false),
        }
    }
}

fn mac(
    network: &dyn Fn(&[&str]) -> Result<String, String>,
    device: &str,
) -> Result<[u8; 6], String> {
    let said = network(&["ip", "-json", "link", "show", device])?;
    let value: Value = text(serde_json::from_str(&said))?;
    let address = value[0]["address"].as_str().unwrap_or_default().to_owned();
    let bytes: Vec<u8> =
        address.split(':').filter_map(|byte| u8::from_str_radix(byte, 16).ok()).collect();
    bytes.try_into().map_err(|_| format!("{device} has address {address:?}"))
}

fn counter(said: &str) -> Result<u64, String> {
    let value: Value = text(serde_json::from_str(said))?;
    let items = value["nftables"].as_array().cloned().unwrap_or_default();
    let found = items.iter().find_map(|item| item["counter"]["packets"].as_u64());
    found.ok_or_else(|| format!("no counter in {said}"))
}

const FOREIGN: [&str; 7] = ["nft", "-j", "list", "counter", "inet", "carrick", "foreign_vxlan"];

/// VXLAN that nodes and the gateway of the cluster have dropped: a pod's own node may be the first to.
fn dropped(cluster: &Cluster) -> Result<u64, String> {
    let mut all = counter(&gateway_network(cluster)?.run(&FOREIGN)?)?;
    for node in cluster.nodes() {
        let mut command = text(node.network_command(FOREIGN[0]))?;
        all += counter(&text(carrick_e2e::run::run(command.args(&FOREIGN[1..])))?)?;
    }
    Ok(all)
}

fn pod_address(cluster: &Cluster, node: &str) -> Result<Ipv4Addr, String> {
    match target(cluster, node, 0)? {
        SocketAddr::V4(address) => Ok(*address.ip()),
        SocketAddr::V6(address) => Err(format!("{address} is no IPv4 address")),
    }
}

fn gateway_address(cluster: &Cluster) -> Result<Ipv4Addr, String> {
    let get = ["get", "pod", "carrick-gateway-0", "--namespace", carrick_e2e::carrick::NAMESPACE];
    let object = text(cluster.kubectl_json(&get))?;
    text(object["status"]["podIP"].as_str().unwrap_or_default().parse())
}

fn at_a_node(lab: &Lab) -> Outcome {
    let (paris, osaka) = peered(lab)?;
    let names = node_names(&paris);
    let gateway = gateway_address(&paris)?;
    // Not the gateway's own node: what it sends must be routed, as from a pod.
    let home = node_of(&paris, "carrick-gateway-0")?;
    let name = names.iter().find(|name| **name != home).ok_or("all nodes have a gateway")?;
    let node = text(paris.node(name))?;
    let host = |argv: &[&str]| {
        let mut command = text(node.network_command(argv[0]))?;
        text(carrick_e2e::run::run(command.args(&argv[1..])))
    };
    let to = mac(&host, "carrick0")?;
    let victim_address = pod_address(&paris, name)?;
    let victim = pod_network(&paris, name)?.udp(VICTIM)?;
    let remote = SocketAddrV4::new(pod_address(&osaka, &node_names(&osaka)[0])?, 1234);
    let inner = |word: &[u8]| {
        let packet = datagram(remote, SocketAddrV4::new(victim_address, VICTIM), word);
        encapsulated(to, [2, 0, 0, 0, 0, 1], &packet)
    };
    let outer = SocketAddrV4::new(node.plan().address, PORT);
    // From the gateway's pod it arrives: the rest of this case is not in vain.
    let genuine = gateway_network(&paris)?.udp(0)?;
    text(wait_until(SOON, "a packet of the gateway", || {
        text(genuine.send_to(&inner(b"genuine"), outer))?;
        if hears(&victim, b"genuine")? { Ok(()) } else { Err("nothing".to_owned()) }
    }))?;
    for from in [name, &home] {
        let before = dropped(&paris)?;
        let attacker = pod_network(&paris, from)?;
        text(attacker.udp(0)?.send_to(&inner(b"plain"), outer))?;
        check(!hears(&victim, b"plain")?, || format!("a pod on {from} injected"))?;
        check(dropped(&paris)? > before, || format!("nothing counted of {from}"))?;
    }
    // Not from the gateway's own node: pods on one bridge can always pass for each other there.
    forge(&pod_network(&paris, name)?, SocketAddrV4::new(gateway, 4321), outer, &inner(b"forged"))?;
    let heard = hears(&victim, b"forged")?;
    check(!heard, || format!("a pod on {name} injected as the gateway {gateway}"))
}

fn at_a_gateway(lab: &Lab) -> Outcome {
    let (paris, osaka) = peered(lab)?;
    let (names, far) = (node_names(&paris), node_names(&osaka));
    let node = text(paris.node(&names[0]))?;
    let host = |argv: &[&str]| {
        let mut command = text(node.network_command(argv[0]))?;
        text(carrick_e2e::run::run(command.args(&argv[1..])))
    };
    let from = mac(&host, "carrick0")?;
    let to = neighbour(&host)?;
    let victim_address = pod_address(&osaka, &far[0])?;
    let victim = pod_network(&osaka, &far[0])?.udp(VICTIM)?;
    let source = SocketAddrV4::new(pod_address(&paris, &names[0])?, 1234);
    let inner = |word: &[u8]| {
        let packet = datagram(source, SocketAddrV4::new(victim_address, VICTIM), word);
        encapsulated(to, from, &packet)
    };
    let outer = SocketAddrV4::new(gateway_address(&paris)?, PORT);
    // From the node it arrives.
    let address = node.plan().address;
    let own = node_network(lab, &names[0])?;
    let genuine = own.inside(|| UdpSocket::bind((address, 0)))?;
    let genuine = text(genuine)?;
    text(wait_until(SOON, "a packet of the node", || {
        text(genuine.send_to(&inner(b"genuine"), outer))?;
        if hears(&victim, b"genuine")? { Ok(()) } else { Err("nothing".to_owned()) }
    }))?;
    for name in &names {
        let before = dropped(&paris)?;
        text(pod_network(&paris, name)?.udp(0)?.send_to(&inner(b"plain"), outer))?;
        check(!hears(&victim, b"plain")?, || format!("a pod on {name} injected"))?;
        check(dropped(&paris)? > before, || format!("nothing counted of {name}"))?;
    }
    Ok(())
}

/// The Ethernet address of the next hop that stands for the other cluster.
fn neighbour(host: &dyn Fn(&[&str]) -> Result<String, String>) -> Result<[u8; 6], String> {
    let said = host(&["ip", "neighbour", "show", "dev", "carrick0", "nud", "permanent"])?;
    let word = said.split_whitespace().skip_while(|word| *word != "lladdr").nth(1);
    let bytes: Vec<u8> = word
        .unwrap_or_default()
        .split(':')
        .filter_map(|byte| u8::from_str_radix(byte, 16).ok())
        .collect();
    bytes.try_into().map_err(|_| format!("no next hop in {said:?}"))
}
