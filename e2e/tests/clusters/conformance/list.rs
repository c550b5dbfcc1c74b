//! The behaviours, in the order of the report: the 27 that count, and what is looked at beyond them.

use carrick_e2e::conformance::Level::{self, Beyond, Optional, Required};

use super::ground::Look;
use super::{beyond, conflicts, imports, names, several, traffic};

/// A behaviour, and the case that looks at it.
pub struct Behaviour {
    /// `conformance::…`.
    pub case: &'static str,
    /// Whether it is required.
    pub level: Level,
    /// What has to hold.
    pub text: &'static str,
    /// A section of KEP-1645, or its DNS specification.
    pub reference: &'static str,
    /// Looks at it.
    pub look: Look,
}

const fn behaviour(
    case: &'static str,
    level: Level,
    (text, reference): (&'static str, &'static str),
    look: Look,
) -> Behaviour {
    Behaviour { case, level, text, reference, look }
}

const EXPORTING: &str = "KEP-1645, Exporting Services";
const IMPORTING: &str = "KEP-1645, Importing Services";
const TYPES: &str = "KEP-1645, Service Types";
const CLUSTERSET_IP: &str = "KEP-1645, ClusterSetIP";
const GLOBAL: &str = "KEP-1645, Global Properties";
const PORT: &str = "KEP-1645, Service Port";
const HEADLESSNESS: &str = "KEP-1645, Headlessness";
const AFFINITY: &str = "KEP-1645, Session Affinity";
const ENDPOINTS: &str = "KEP-1645, Tracking Endpoints";
const DNS: &str = "KEP-1645, DNS";
const TARGETING: &str = "KEP-1645, Not allowing cluster-specific targeting via DNS";
const SOURCES: &str = "Carrick: the source is kept";
const VERSION: &str = "DNS specification, 2.2";
const NAME: &str = "DNS specification, 2.3.1";
const SRV: &str = "DNS specification, 2.3.2";
const HEADLESS_NAME: &str = "DNS specification, 2.4.1";
const HEADLESS_SRV: &str = "DNS specification, 2.4.2";

/// All behaviours.
pub const ALL: &[Behaviour] = &[
    behaviour(
        "conformance::an_import_lives_as_long_as_one_of_two_exports",
        Required,
        (
            "An import stays while one of two clusters exports the Service, and goes with the last export.",
            IMPORTING,
        ),
        imports::lives_with_its_last_export,
    ),
    behaviour(
        "conformance::an_export_makes_an_import_in_each_cluster",
        Required,
        (
            "An export is Valid, and makes an import of the type ClusterSetIP in the same namespace of each cluster; unexporting removes it.",
            EXPORTING,
        ),
        imports::clusterset_ip_comes_and_goes,
    ),
    behaviour(
        "conformance::session_affinity_is_carried",
        Required,
        ("The import has the Service's session affinity and its configuration.", AFFINITY),
        imports::session_affinity,
    ),
    behaviour(
        "conformance::internal_traffic_policy_is_carried",
        Required,
        ("The import has the Service's internal traffic policy.", GLOBAL),
        imports::internal_traffic_policy,
    ),
    behaviour(
        "conformance::traffic_distribution_is_carried",
        Required,
        ("The import has the Service's traffic distribution.", GLOBAL),
        imports::traffic_distribution,
    ),
    behaviour(
        "conformance::an_import_has_an_address_of_each_family",
        Required,
        (
            "The import has one address of each of the Service's families, in their order.",
            CLUSTERSET_IP,
        ),
        imports::an_address_a_family,
    ),
    behaviour(
        "conformance::ports_are_carried",
        Required,
        ("The import has the Service's ports.", PORT),
        imports::ports,
    ),
    behaviour(
        "conformance::ports_of_two_exports_are_united",
        Required,
        (
            "Of two exports with different ports the import has all, and each export says Conflict.",
            PORT,
        ),
        conflicts::ports_are_united,
    ),
    behaviour(
        "conformance::of_clashing_ports_the_oldest_count",
        Required,
        (
            "Of ports that clash those of the oldest export count, and each export says Conflict.",
            PORT,
        ),
        conflicts::the_oldest_ports_count,
    ),
    behaviour(
        "conformance::a_headless_export_makes_a_headless_import",
        Required,
        (
            "A headless Service's export makes an import of the type Headless in each cluster; unexporting removes it.",
            TYPES,
        ),
        imports::headless_comes_and_goes,
    ),
    behaviour(
        "conformance::a_headless_import_has_no_address",
        Required,
        ("A headless import has no clusterset IP.", CLUSTERSET_IP),
        imports::headless_has_no_address,
    ),
    behaviour(
        "conformance::an_external_name_is_not_exported",
        Required,
        ("The export of an ExternalName Service is not Valid, and makes no import.", TYPES),
        imports::external_name,
    ),
    behaviour(
        "conformance::the_oldest_says_whether_it_is_headless",
        Required,
        (
            "Where one export is headless and the other is not, the oldest counts in each cluster, and each export says Conflict.",
            HEADLESSNESS,
        ),
        conflicts::the_oldest_says_whether_headless,
    ),
    behaviour(
        "conformance::what_is_not_exported_cannot_be_reached",
        Required,
        (
            "A Service that is not exported can't be reached as a Service of the cluster set.",
            EXPORTING,
        ),
        traffic::not_exported,
    ),
    behaviour(
        "conformance::only_labels_that_the_export_names_travel",
        Optional,
        (
            "An import has those labels and annotations that the export names, and none of the Service's own.",
            EXPORTING,
        ),
        imports::only_named_labels_travel,
    ),
    behaviour(
        "conformance::clashing_labels_are_told",
        Optional,
        (
            "Where exports name different labels or annotations, the oldest counts, and each export says Conflict.",
            GLOBAL,
        ),
        conflicts::clashing_labels,
    ),
    behaviour(
        "conformance::slices_are_in_each_cluster",
        Optional,
        (
            "Each cluster, the exporter included, has EndpointSlices with the labels of service and source cluster; unexporting removes them.",
            ENDPOINTS,
        ),
        traffic::slices,
    ),
    behaviour(
        "conformance::the_name_is_the_clusterset_address",
        Optional,
        ("A and AAAA of the Service's name in clusterset.local are the clusterset IPs.", NAME),
        names::addresses,
    ),
    behaviour(
        "conformance::srv_of_the_name_is_one_record",
        Optional,
        (
            "SRV of the Service's name, with two ports of one number, is one record with that number and the name itself.",
            SRV,
        ),
        names::one_srv_record,
    ),
    behaviour(
        "conformance::cluster_local_means_local_services_only",
        Optional,
        ("Names in cluster.local mean the cluster's own Services only, whatever is imported.", DNS),
        names::cluster_local_is_local,
    ),
    behaviour(
        "conformance::a_headless_name_is_its_ready_endpoints",
        Optional,
        (
            "A and AAAA of a headless Service's name are the addresses of its ready endpoints, and no others.",
            HEADLESS_NAME,
        ),
        names::headless_is_its_ready_pods,
    ),
    behaviour(
        "conformance::a_stateful_pod_has_a_name_in_the_cluster_set",
        Optional,
        (
            "A StatefulSet's pod has a name of its host name, its cluster's id and the headless Service.",
            HEADLESS_NAME,
        ),
        names::a_pod_by_its_name,
    ),
    behaviour(
        "conformance::srv_of_a_headless_name_is_one_record_an_endpoint",
        Optional,
        (
            "SRV of a headless Service's name is one record for each endpoint, with its host name or its dashed address.",
            HEADLESS_SRV,
        ),
        names::headless_srv,
    ),
    behaviour(
        "conformance::the_name_is_reached_from_each_cluster",
        Optional,
        (
            "The Service is reached by its name from each cluster, the exporter included.",
            CLUSTERSET_IP,
        ),
        traffic::reached_by_name,
    ),
    behaviour(
        "conformance::only_the_exporter_serves",
        Optional,
        (
            "Of a Service that is in both clusters and exported from one only that one's endpoints answer, in the other cluster as well.",
            EXPORTING,
        ),
        traffic::only_the_exporter_serves,
    ),
    behaviour(
        "conformance::a_port_of_two_numbers_leads_where_it_is",
        Optional,
        (
            "Of exports with one port name and two numbers, traffic goes only to the cluster that has the import's port.",
            PORT,
        ),
        conflicts::a_port_of_two_numbers,
    ),
    behaviour(
        "conformance::ports_of_different_names_lead_where_they_are",
        Optional,
        (
            "Of exports with different ports, traffic to each goes only to the cluster that has it.",
            PORT,
        ),
        conflicts::ports_of_different_names,
    ),
    behaviour(
        "conformance::beyond::the_zone_has_a_version",
        Beyond,
        ("The zone says the version of its schema.", VERSION),
        beyond::the_zone_has_a_version,
    ),
    behaviour(
        "conformance::beyond::srv_of_a_named_port",
        Beyond,
        (
            "SRV of a port's name and protocol is its number and the Service's name; other names don't exist.",
            SRV,
        ),
        beyond::srv_of_a_named_port,
    ),
    behaviour(
        "conformance::beyond::srv_of_a_headless_port",
        Beyond,
        ("SRV of a headless Service's named port is one record for each endpoint.", HEADLESS_SRV),
        beyond::srv_of_a_headless_port,
    ),
    behaviour(
        "conformance::beyond::no_name_for_a_cluster",
        Beyond,
        ("There is no name for one cluster's part of a Service.", TARGETING),
        beyond::no_name_for_a_cluster,
    ),
    behaviour(
        "conformance::beyond::without_endpoints_refused",
        Beyond,
        (
            "Without a ready endpoint the name stays, and connections are refused at once.",
            CLUSTERSET_IP,
        ),
        beyond::without_endpoints_refused,
    ),
    behaviour(
        "conformance::beyond::reached_over_both_families",
        Beyond,
        ("The Service is reached by its address of each family.", CLUSTERSET_IP),
        beyond::reached_over_both_families,
    ),
    behaviour(
        "conformance::beyond::headless_without_endpoints",
        Beyond,
        ("A headless Service's name exists as long as it has a ready endpoint.", HEADLESS_NAME),
        beyond::headless_without_endpoints,
    ),
    behaviour(
        "conformance::beyond::exported_before_its_service",
        Beyond,
        (
            "An export without a Service says NoService and Pending, and works once there is one.",
            EXPORTING,
        ),
        beyond::exported_before_its_service,
    ),
    behaviour(
        "conformance::beyond::exported_before_the_namespace",
        Beyond,
        (
            "Nothing is imported where the namespace is missing; the import comes with it.",
            IMPORTING,
        ),
        beyond::exported_before_the_namespace,
    ),
    behaviour(
        "conformance::several::the_source_is_kept",
        Beyond,
        (
            "By each policy, over each family, between each two nodes the pod that serves sees the client's own address.",
            SOURCES,
        ),
        several::the_source_is_kept,
    ),
    behaviour(
        "conformance::several::affinity_over_clusters",
        Beyond,
        (
            "With the affinity ClientIP a client stays with one pod among those of all clusters, as long as that serves.",
            AFFINITY,
        ),
        several::affinity_over_clusters,
    ),
    behaviour(
        "conformance::several::three_clusters",
        Beyond,
        (
            "Three clusters serve one Service in each of them; the oldest of the three counts, and when it goes the others.",
            IMPORTING,
        ),
        several::three_clusters,
    ),
];
