//! Why a condition says what it says: the `reason` of every condition, with its remedy.

use std::fmt;
use std::str::FromStr;

/// Declares the reasons once: variant (which is the word in the API), meaning, and what to do.
macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident => $remedy:literal,)+) => {
        /// Why a condition says what it says. The variant's name is the word in the API.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Reason {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// The word in the API.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)+ }
            }

            /// What to do about it; empty where nothing is wrong.
            pub fn remedy(self) -> &'static str {
                match self { $(Self::$name => $remedy,)+ }
            }
        }
    };
}

reasons! {
    // Accepted
    /// The spec is good.
    Accepted => "",
    /// A field of the spec is wrong.
    InvalidSpec => "correct the fields that the message names, then apply the ClusterPeering again",
    /// A field asks for what this release cannot do.
    NotImplemented => "take the fields that the message names out of the spec: this release cannot do what they ask for",
    /// `spec.clusterID` is our own.
    OwnCluster => "apply the ClusterPeering that the other cluster offers (`carrick invite` there), not our own",
    /// `spec.identities` holds our own key.
    OwnIdentity => "apply the ClusterPeering that the other cluster offers (`carrick invite` there); if the two clusters share one identity key, give one of them a key of its own",
    /// An older ClusterPeering names the same cluster or key.
    DuplicatePeering => "delete one of the two ClusterPeerings that the message names",
    /// A range in `accept` overlaps a range of this cluster.
    OverlapsOwnRanges => "narrow spec.accept.podRanges; clusters whose pod ranges overlap cannot be peered",
    /// A range in `accept` overlaps what another ClusterPeering accepts.
    OverlapsOtherPeering => "narrow spec.accept.podRanges of one of the two ClusterPeerings",

    // Connected
    /// A tunnel stands.
    Connected => "",
    /// No attempt has ended yet.
    Connecting => "wait a few seconds; if it stays, see `carrick check`",
    /// `spec.suspended` is set here.
    Suspended => "set spec.suspended to false to resume",
    /// The ClusterPeering is not accepted, so nothing is tried.
    NotAccepted => "see the condition Accepted",
    /// No gateway of this cluster is in service.
    NoLocalGateway => "see the pods of the StatefulSet carrick-gateway: kubectl -n carrick-system get pods,events",
    /// There is nothing to dial, and the peer has not dialled.
    NoEndpoint => "add an address to spec.endpoints, or let the peer dial: it needs our endpoints",
    /// The endpoint's name did not resolve.
    NameNotResolved => "correct the name in spec.endpoints, or the DNS that the gateway pods use",
    /// Nothing answered.
    Timeout => "open UDP to the address and port that the message names (firewall, security group, NodePort), and see that the peer's gateway runs",
    /// The port is closed or the network says that there is no way.
    Unreachable => "correct spec.endpoints, or open UDP to the address and port that the message names",
    /// Who answered holds another key than spec.identities.
    WrongIdentity => "compare spec.identities with the peer's `kubectl get clusteridentity self -o yaml`; something else answers at that address, or the peer's key changed",
    /// Who dialled holds a key that no ClusterPeering here names.
    UnknownIdentity => "apply the peer's offer here (`carrick invite` there prints it)",
    /// Who answered or dialled calls itself by another cluster ID than spec.clusterID, here or there.
    WrongCluster => "compare spec.clusterID of the ClusterPeering with the other cluster's `kubectl get clusteridentity self`, on the side that the message names, and see that spec.endpoints are that cluster's",
    /// Who answered is no gateway.
    WrongRole => "point spec.endpoints at the peer's gateways",
    /// The other's certificate is over, by our clock.
    CertificateExpired => "compare the clocks of both clusters' nodes; certificates are renewed daily and hold 7 days",
    /// The other's certificate begins later, by our clock.
    CertificateNotYetValid => "compare the clocks of both clusters' nodes",
    /// No common protocol version.
    VersionMismatch => "upgrade the older side: neighbouring releases understand each other",
    /// The peer holds no ClusterPeering for us, or suspended it.
    Withdrawn => "ask the peer's operator: both clusters need a ClusterPeering that is not suspended",
    /// The peer closed the connection on purpose.
    Refused => "see the peer's side: `carrick status` there says why",
    /// The key exchange is not post-quantum although spec.tunnel.postQuantum is Required.
    NotPostQuantum => "upgrade the peer, or set spec.tunnel.postQuantum to Preferred",
    /// Who answered or dialled showed no certificate.
    NoCertificate => "point spec.endpoints at the peer's gateways: something else answers at that address",
    /// Who answered or dialled showed a certificate that is no gateway's of ours or the peer's.
    BadCertificate => "point spec.endpoints at the peer's gateways: something else answers at that address",
    /// The peer is handling as many new connections as it may.
    Busy => "wait a few seconds; if it stays, someone floods the peer's gateway with connections",
    /// Our own gateway has no certificate yet.
    NotJoined => "see why the gateway cannot join: kubectl -n carrick-system logs carrick-gateway-0",
    /// QUIC failed for a reason of its own.
    TransportError => "the message says what QUIC reported; something on the way may alter UDP packets",
    /// The peer broke the protocol.
    Violation => "upgrade both sides to the newest release; if it stays, report it with both gateways' logs",
    /// A connection stands, but no tunnel has had a handshake.
    NoTunnel => "open the UDP ports of the lanes (the gateway's base port + 1 and on) as well as the base port",
    /// Connections broke off and are being made anew.
    Disconnected => "wait a few seconds; if it stays, see `carrick check`",

    // RoutesReady
    /// Every live node routes every accepted prefix.
    RoutesProgrammed => "",
    /// There is no connection, so nothing is routed.
    NotConnected => "see the condition Connected",
    /// The peer's signed snapshot has not come yet.
    NoSnapshot => "wait a few seconds; if it stays, the peer's controller is not running",
    /// The peer's signed snapshot was not believed.
    SnapshotRefused => "the message names what is wrong; compare spec.clusterID and spec.identities with the peer's ClusterIdentity, and the clocks",
    /// The peer announced nothing that we accept.
    NothingAccepted => "compare spec.accept.podRanges with the pod ranges of the peer's ClusterIdentity",
    /// Some nodes have not applied the newest configuration.
    AgentsPending => "wait a few seconds; if it stays, see the agent's pod on the nodes that the message names",
    /// Some nodes could not apply their configuration.
    AgentErrors => "see the errors that the message quotes, and the agent's log on that node",
    /// No agent is connected to the controller.
    NoAgents => "see the DaemonSet carrick-agent: kubectl -n carrick-system get pods -o wide",

    // DataPathReady
    /// All probes come back.
    ProbesPass => "",
    /// Nothing is routed, so nothing is probed.
    NotRouted => "see the condition RoutesReady",
    /// The first probes are under way.
    ProbesPending => "wait a few seconds",
    /// The peer announced no node to probe.
    NoTargets => "see that agents run in the peer cluster",
    /// No answer to probes, neither small nor full-size ones.
    NoAnswer => "packets are lost between the nodes that the message names: check routes and firewalls inside both clusters (UDP 7789 between nodes and gateway pods)",
    /// Small probes come back, full-size ones don't.
    LargePacketsLost => "the gateways find out what the path between them carries, so packets of that size are lost elsewhere: the network between nodes and gateway pods carries less than the tunnel's packets and 50 bytes (lower the chart's tunnel.mtu on that side), or a path has just become smaller (wait some seconds; status.tunnels names what each carries)",
    /// A probe arrived from another source address than it left with.
    SourceRewritten => "something on the way masquerades mesh traffic: exempt the peer's pod ranges from SNAT in the CNI of the node that the message names",
    /// The node's kernel does not send probes: it has no way to the peer, or refuses it.
    NoRoute => "see the agent's log and `ip rule` and `ip route show table 51820` on the node that the message names; a firewall of the node may refuse the packets",
    /// Probes fail for different reasons.
    ProbesFail => "see the nodes and reasons that the message names",

    // NodesDegraded
    /// All nodes work.
    NodesHealthy => "",
    /// Some nodes fail while others work.
    NodesFailing => "see the nodes that the message names",

    // Ready
    /// Everything holds.
    Ready => "",

    // ClusterIdentity
    /// The identity key cannot be read.
    IdentityUnreadable => "repair or restore the Secret carrick-identity (key identity.pem: Ed25519, PKCS#8); it is never replaced silently, because peers pin it",
    /// No pod range is known.
    PodRangesUnknown => "set podRanges in the chart's values: the nodes have no spec.podCIDR to find them by",
    /// A pod range is too wide to be found automatically.
    PodRangesTooWide => "set podRanges in the chart's values: the nodes' pod ranges have no common prefix of /16 or longer",
    /// Every pod lies in the announced ranges.
    PodsCovered => "",
    /// Some pods have addresses outside of the announced ranges.
    PodsOutside => "set podRanges in the chart's values to the ranges that your CNI really uses",
    /// Carrick is in service.
    InService => "",
    /// Carrick is being taken off the nodes.
    Withdrawing => "wait; the message names the nodes that have not reported yet",
    /// Nothing of Carrick is left on any node.
    AllWithdrawn => "finish `helm uninstall`, or install Carrick anew",
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word is no [`Reason`] of this release.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no condition reason of this release")]
pub struct UnknownReason(String);

impl FromStr for Reason {
    type Err = UnknownReason;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .iter()
            .find(|reason| reason.as_str() == text)
            .copied()
            .ok_or_else(|| UnknownReason(text.chars().take(64).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_round_trip_and_remedies_are_sentences_for_an_operator() {
        for reason in Reason::ALL {
            assert_eq!(reason.as_str().parse(), Ok(*reason));
            let remedy = reason.remedy();
            assert!(!remedy.ends_with('.') && !remedy.starts_with(char::is_uppercase), "{remedy}");
        }
        assert!("Nonsense".parse::<Reason>().is_err());
    }
}
