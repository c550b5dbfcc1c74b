//! From `ClusterPeering.spec` to values that are known to be good. Everything that is wrong is found
//! at once, each with its field, so that one look at the status is enough.

use std::fmt;
use std::net::IpAddr;

use carrick_model::{ClusterId, IdentityKey, Prefix};

use super::namespaces::Namespaces;
use super::spec::{
    AcceptSpec, COST_LIMIT, ClusterPeeringSpec, DETECTION_RANGE, ENDPOINTS_LIMIT, EndpointSpec,
    IDENTITIES_LIMIT, MAX_IMPORTS_RANGE, MAX_PREFIXES_LIMIT, MTU_RANGE, NAMESPACES_LIMIT,
    RANGES_LIMIT, ServicesSpec, TunnelSpec,
};

/// A `ClusterPeering.spec` that is known to be good by itself. Whether it collides with this cluster
/// or with another ClusterPeering is the controller's to find out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peering {
    /// The other cluster.
    pub cluster: ClusterId,
    /// Its identity keys: 1–4, all different.
    pub identities: Vec<IdentityKey>,
    /// Where to dial; may be empty.
    pub endpoints: Vec<Endpoint>,
    /// Ranges that we accept: at least one; none overlaps another.
    pub accept: Vec<Prefix>,
    /// How many prefixes the other cluster may announce, 1–256.
    pub max_prefixes: u32,
    /// Which parts of our pod ranges to announce; empty means all.
    pub announce: Vec<Prefix>,
    /// What new connections from there may reach.
    pub access: Access,
    /// How many lanes between two gateways at most, 1–7, if not as many as both have.
    pub lanes: Option<u32>,
    /// The largest inner packet in bytes, if this peering wants another than the chart's.
    pub mtu: Option<u32>,
    /// WireGuard's persistent keepalive in seconds; 0 is off.
    pub keepalive_seconds: u16,
    /// Connections without a post-quantum key exchange are refused.
    pub post_quantum_required: bool,
    /// After how many milliseconds of silence a path is lost, 150–60,000, if not after 300.
    pub detection_milliseconds: Option<u32>,
    /// Namespaces whose exported services it may use.
    pub exports: Namespaces,
    /// Namespaces into which its exported services are imported.
    pub imports: Namespaces,
    /// How many of them at most, 1–16,384, if not as many as there is room for.
    pub max_imports: Option<u32>,
    /// Its drills may hit the traffic between both clusters.
    pub drills_allowed: bool,
    /// All traffic is stopped.
    pub suspended: bool,
}

/// Where to dial.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// Address or name.
    pub host: Host,
    /// The UDP port of the gateway's exchange.
    pub port: u16,
    /// Dearer paths are used when cheaper ones fail.
    pub cost: u16,
}

/// An address or a name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// An IP address.
    Address(IpAddr),
    /// A DNS name, lower case, without the final dot.
    Name(String),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Address(IpAddr::V6(address)) => write!(f, "[{address}]:{}", self.port),
            Host::Address(address) => write!(f, "{address}:{}", self.port),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

/// What new connections from the other cluster may reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// All pods of this cluster.
    AllPods,
    /// Only pods behind exported services; without any export, none.
    ExportedServices,
}

/// One thing that is wrong in a spec.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct FieldError {
    /// The field's path, such as `spec.accept.podRanges[1]`.
    pub field: String,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The value is wrong.
    #[error("{0}")]
    Invalid(String),
    /// The value asks for what this release cannot do.
    #[error("{0} is not implemented in this release")]
    NotImplemented(String),
}

impl Peering {
    /// Reads a spec. All errors, in the order of the fields.
    pub fn parse(spec: &ClusterPeeringSpec) -> Result<Self, Vec<FieldError>> {
        let mut errors = Errors::default();
        let cluster = errors.keep("spec.clusterID", spec.cluster_id.parse::<ClusterId>());
        let identities = identities(&spec.identities, &mut errors);
        let endpoints = endpoints(&spec.endpoints, &mut errors);
        let (accept, max_prefixes) = accept(&spec.accept, &mut errors);
        let announced = spec.announce.iter().flat_map(|a| &a.pod_ranges);
        let announce = ranges("spec.announce.podRanges", announced, &mut errors);
        let access = access(&spec.access, &mut errors);
        let shared = |list: fn(&ServicesSpec) -> &Vec<String>| {
            spec.services.as_ref().map(list).map(Vec::as_slice).unwrap_or_default()
        };
        let exports = namespaces("spec.services.export", shared(|s| &s.export), &mut errors);
        let imports = namespaces("spec.services.import", shared(|s| &s.import), &mut errors);
        let most = spec.services.as_ref().and_then(|services| services.max_imports);
        let field = "spec.services.maxImports";
        let max_imports = most.and_then(|most| errors.number(field, most, MAX_IMPORTS_RANGE));
        refuse_unimplemented(spec, &mut errors);
        let detection = spec.failover.as_ref().and_then(|failover| failover.detection_milliseconds);
        let field = "spec.failover.detectionMilliseconds";
        let detection = detection.and_then(|wish| errors.number(field, wish, DETECTION_RANGE));
        let tunnel = tunnel(&spec.tunnel, &mut errors);
        match (cluster, access, errors.found.is_empty()) {
            (Some(cluster), Some(access), true) => Ok(Self {
                cluster,
                identities,
                endpoints,
                accept,
                max_prefixes,
                announce,
                access,
                mtu: tunnel.mtu,
                keepalive_seconds: tunnel.keepalive_seconds,
                lanes: tunnel.lanes,
                post_quantum_required: tunnel.post_quantum_required,
                detection_milliseconds: detection,
                exports,
                imports,
                max_imports,
                drills_allowed: spec.drills == "Allow",
                suspended: spec.suspended,
            }),
            _ => Err(errors.found),
        }
    }
}

/// All errors of one spec.
#[derive(Default)]
struct Errors {
    found: Vec<FieldError>,
}

impl Errors {
    fn invalid(&mut self, field: impl Into<String>, why: impl Into<String>) {
        self.found.push(FieldError { field: field.into(), problem: Problem::Invalid(why.into()) });
    }

    fn not_implemented(&mut self, field: impl Into<String>, what: impl Into<String>) {
        let problem = Problem::NotImplemented(what.into());
        self.found.push(FieldError { field: field.into(), problem });
    }

    fn keep<T, E: fmt::Display>(
        &mut self,
        field: impl Into<String>,
        result: Result<T, E>,
    ) -> Option<T> {
        result.map_err(|error| self.invalid(field, error.to_string())).ok()
    }

    /// Whether a list of `length` is within `limit`; a longer one isn't read at all.
    fn within(&mut self, field: &str, length: usize, limit: usize) -> bool {
        let fits = length <= limit;
        if !fits {
            self.invalid(field, format!("has {length} entries; at most {limit} are allowed"));
        }
        fits
    }

    fn number<T: TryFrom<i32>>(
        &mut self,
        field: impl Into<String>,
        value: i32,
        (min, max): (i32, i32),
    ) -> Option<T> {
        let inside = (min..=max).contains(&value);
        let number = inside.then(|| T::try_from(value).ok()).flatten();
        if number.is_none() {
            self.invalid(field, format!("{value} must be {min}–{max}"));
        }
        number
    }
}

fn identities(texts: &[String], errors: &mut Errors) -> Vec<IdentityKey> {
    const FIELD: &str = "spec.identities";
    if texts.is_empty() {
        errors
            .invalid(FIELD, "must hold the other cluster's identity key (`carrick invite` there)");
    }
    let mut keys: Vec<IdentityKey> = Vec::new();
    if !errors.within(FIELD, texts.len(), IDENTITIES_LIMIT) {
        return keys;
    }
    for (i, text) in texts.iter().enumerate() {
        match errors.keep(format!("{FIELD}[{i}]"), text.parse::<IdentityKey>()) {
            Some(key) if keys.contains(&key) => {
                errors.invalid(format!("{FIELD}[{i}]"), format!("{key} is there twice"));
            }
            Some(key) => keys.push(key),
            None => {}
        }
    }
    keys
}

fn endpoints(specs: &[EndpointSpec], errors: &mut Errors) -> Vec<Endpoint> {
    const FIELD: &str = "spec.endpoints";
    if !errors.within(FIELD, specs.len(), ENDPOINTS_LIMIT) {
        return Vec::new();
    }
    specs
        .iter()
        .enumerate()
        .filter_map(|(i, e)| endpoint(&format!("{FIELD}[{i}]"), e, errors))
        .collect()
}

fn endpoint(field: &str, spec: &EndpointSpec, errors: &mut Errors) -> Option<Endpoint> {
    let host = host(&spec.address);
    if host.is_none() {
        let shown: String = spec.address.chars().take(260).collect();
        errors.invalid(
            format!("{field}.address"),
            format!("{shown:?} must be an IP address or a DNS name, without a port"),
        );
    }
    let port = errors.number(format!("{field}.port"), spec.port, (1, 65535));
    if let Some(network) = &spec.network {
        errors.not_implemented(format!("{field}.network"), format!("network {network:?}"));
    }
    let cost = errors.number(format!("{field}.cost"), spec.cost, (0, COST_LIMIT));
    Some(Endpoint { host: host?, port: port?, cost: cost? })
}

fn host(text: &str) -> Option<Host> {
    if let Ok(address) = text.parse::<IpAddr>() {
        let unusable = address.is_unspecified() || address.is_multicast();
        return (!unusable).then_some(Host::Address(address));
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    let fits = matches!(name.len(), 1..=253) && name.split('.').all(is_name_label);
    // A name whose last label is a number is a mistyped address (RFC 1123, section 2.1).
    let last_is_number =
        name.rsplit('.').next().is_some_and(|l| l.bytes().all(|b| b.is_ascii_digit()));
    (fits && !last_is_number).then(|| Host::Name(name.to_owned()))
}

fn is_name_label(label: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    matches!(label.len(), 1..=63)
        && label.bytes().all(|b| word(b) || b == b'-')
        && label.bytes().next().is_some_and(word)
        && label.bytes().last().is_some_and(word)
}

fn accept(spec: &AcceptSpec, errors: &mut Errors) -> (Vec<Prefix>, u32) {
    const FIELD: &str = "spec.accept.podRanges";
    if spec.pod_ranges.is_empty() {
        errors.invalid(FIELD, "must name at least one range, or nothing can be reached");
    }
    let accepted = ranges(FIELD, spec.pod_ranges.iter(), errors);
    let max = errors.number("spec.accept.maxPrefixes", spec.max_prefixes, (1, MAX_PREFIXES_LIMIT));
    (accepted, max.unwrap_or_default())
}

/// Ranges that are good by themselves and do not overlap one another.
fn ranges<'a>(
    field: &str,
    texts: impl Iterator<Item = &'a String> + Clone,
    errors: &mut Errors,
) -> Vec<Prefix> {
    let mut good: Vec<Prefix> = Vec::new();
    if !errors.within(field, texts.clone().count(), RANGES_LIMIT) {
        return good;
    }
    for (i, text) in texts.enumerate() {
        let field = format!("{field}[{i}]");
        let Some(prefix) = errors.keep(field.as_str(), text.parse::<Prefix>()) else { continue };
        if let Some(why) = unusable(&prefix, &good) {
            errors.invalid(field, why);
        } else {
            good.push(prefix);
        }
    }
    good
}

fn unusable(prefix: &Prefix, others: &[Prefix]) -> Option<String> {
    if prefix.is_default_route() {
        return Some(format!("{prefix} is a default route; name the ranges where pods live"));
    }
    if prefix.is_special_use() {
        return Some(format!(
            "{prefix} holds loopback, link-local or multicast addresses; pods never live there"
        ));
    }
    let other = others.iter().find(|other| other.overlaps(prefix))?;
    Some(format!("{prefix} overlaps {other} in the same list"))
}

/// Namespaces that are good by themselves.
fn namespaces(field: &str, texts: &[String], errors: &mut Errors) -> Namespaces {
    let mut good = Namespaces::default();
    if errors.within(field, texts.len(), NAMESPACES_LIMIT) {
        for (i, text) in texts.iter().enumerate() {
            errors.keep(format!("{field}[{i}]"), good.add(text));
        }
    }
    good
}

fn access(text: &str, errors: &mut Errors) -> Option<Access> {
    match text {
        "AllPods" => Some(Access::AllPods),
        "ExportedServices" => Some(Access::ExportedServices),
        other => {
            let why = format!("{:?} must be AllPods or ExportedServices", shown(other));
            errors.invalid("spec.access", why);
            None
        }
    }
}

/// What the schema knows already and this release cannot do yet.
fn refuse_unimplemented(spec: &ClusterPeeringSpec, errors: &mut Errors) {
    match spec.drills.as_str() {
        "Allow" | "Deny" => {}
        other => errors.invalid("spec.drills", format!("{:?} must be Allow or Deny", shown(other))),
    }
    match spec.remap.as_str() {
        "Never" => {}
        "Auto" => errors.not_implemented("spec.remap", "Auto"),
        other => errors.invalid("spec.remap", format!("{:?} must be Never or Auto", shown(other))),
    }
}

/// The part of [`Peering`] that comes from `spec.tunnel`.
struct Tunnel {
    lanes: Option<u32>,
    mtu: Option<u32>,
    keepalive_seconds: u16,
    post_quantum_required: bool,
}

fn tunnel(spec: &TunnelSpec, errors: &mut Errors) -> Tunnel {
    let lanes = spec.lanes.and_then(|lanes| errors.number("spec.tunnel.lanes", lanes, (1, 7)));
    let mtu = spec.mtu.and_then(|mtu| errors.number("spec.tunnel.mtu", mtu, MTU_RANGE));
    let keepalive =
        errors.number("spec.tunnel.keepaliveSeconds", spec.keepalive_seconds, (0, 65535));
    let required = match spec.post_quantum.as_str() {
        "Preferred" => false,
        "Required" => true,
        other => {
            let why = format!("{:?} must be Preferred or Required", shown(other));
            errors.invalid("spec.tunnel.postQuantum", why);
            false
        }
    };
    Tunnel {
        lanes,
        mtu,
        keepalive_seconds: keepalive.unwrap_or_default(),
        post_quantum_required: required,
    }
}

fn shown(text: &str) -> String {
    text.chars().take(64).collect()
}
