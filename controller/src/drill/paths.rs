//! How paths of gateways to the peer are while a drill runs: what a report plots beside the streams.

use std::collections::BTreeMap;

use carrick_crds::drill::{PATHS_LIMIT, PathSeriesStatus, SeriesStatus};
use carrick_exchange::message::member::{GatewayState, PathHealth};
use carrick_model::ClusterId;

use super::guard::{Choice, Sight};

/// What a gateway says of a path.
#[derive(Debug, Clone, PartialEq)]
pub struct PathSample {
    /// The gateway's pod.
    pub gateway: String,
    /// Where the path leads.
    pub endpoint: String,
    /// How it is.
    pub now: PathPoint,
}

/// How a path is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PathPoint {
    /// What is lost in the worse direction, in percent.
    pub loss_percent: f64,
    /// The round-trip time in microseconds; 0 where nobody knows.
    pub rtt_microseconds: i64,
}

/// A path that works in one direction at most.
const DOWN: PathPoint = PathPoint { loss_percent: 100.0, rtt_microseconds: 0 };
/// One of which nothing is known.
const UNKNOWN: PathPoint = PathPoint { loss_percent: -1.0, rtt_microseconds: 0 };

impl PathPoint {
    fn of(path: &PathHealth) -> Self {
        if path.state == "down" {
            return DOWN;
        }
        Self {
            loss_percent: f64::from(path.loss_out.max(path.loss_in)) / 100.0,
            rtt_microseconds: i64::try_from(path.rtt_micros).unwrap_or(i64::MAX),
        }
    }
}

/// The paths to a cluster of which a gateway tells.
pub fn to<'a>(
    state: &'a GatewayState,
    cluster: &'a ClusterId,
) -> impl Iterator<Item = &'a PathHealth> {
    let peer = state.peers.iter().filter(|peer| peer.cluster == cluster.as_str());
    let tunnels = peer.flat_map(|peer| &peer.connections).flat_map(|one| &one.tunnels);
    tunnels.flat_map(|tunnel| &tunnel.paths)
}

/// All paths to a cluster, as gateways say that run now. Those of the gateway that is hit come first.
pub fn samples(sight: Sight<'_>, cluster: &ClusterId, choice: &Choice) -> Vec<PathSample> {
    let mut pods = sight.world.facts.gateway_pods(&sight.world.settings.namespace);
    let hit = |uid: &str| choice.gateway.as_ref().is_some_and(|gateway| gateway.uid == uid);
    pods.sort_by_key(|pod| !hit(&pod.uid));
    let mut all = Vec::new();
    for pod in pods {
        let says = sight.world.gateway_says(pod, sight.now);
        let paths = says.into_iter().flat_map(|state| to(state, cluster));
        all.extend(paths.map(|path| PathSample {
            gateway: pod.name.clone(),
            endpoint: path.endpoint.clone(),
            now: PathPoint::of(path),
        }));
    }
    all
}

/// How paths were over time, by gateway and end: what was known at points of the series.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PathHistory(BTreeMap<(String, String), BTreeMap<usize, PathPoint>>);

impl PathHistory {
    /// What another controller wrote of a drill.
    pub fn known(series: Option<&SeriesStatus>) -> Self {
        let mut history = Self::default();
        for path in series.iter().flat_map(|series| &series.paths) {
            let points = path.loss_percent.iter().zip(&path.rtt_microseconds).enumerate();
            let points = points.map(|(index, (loss, rtt))| {
                (index, PathPoint { loss_percent: *loss, rtt_microseconds: *rtt })
            });
            let key = (path.gateway.clone(), path.endpoint.clone());
            history.0.insert(key, points.collect());
        }
        history
    }

    /// Notes how paths are at a point of the series; new ones as long as there is room.
    pub fn note(&mut self, index: usize, samples: Vec<PathSample>) {
        for sample in samples {
            let key = (sample.gateway, sample.endpoint);
            if self.0.contains_key(&key) || self.0.len() < PATHS_LIMIT {
                self.0.entry(key).or_default().insert(index, sample.now);
            }
        }
    }

    /// The first `length` points of each: what was known last holds on.
    pub fn series(&self, length: usize) -> Vec<PathSeriesStatus> {
        let of =
            |((gateway, endpoint), points): (&(String, String), &BTreeMap<usize, PathPoint>)| {
                let at =
                    |index| points.range(..=index).next_back().map_or(UNKNOWN, |(_, point)| *point);
                PathSeriesStatus {
                    gateway: gateway.clone(),
                    endpoint: endpoint.clone(),
                    loss_percent: (0..length).map(|index| at(index).loss_percent).collect(),
                    rtt_microseconds: (0..length).map(|index| at(index).rtt_microseconds).collect(),
                }
            };
        self.0.iter().map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(endpoint: &str, loss_percent: f64) -> PathSample {
        let now = PathPoint { loss_percent, rtt_microseconds: 20_000 };
        PathSample { gateway: "g".to_owned(), endpoint: endpoint.to_owned(), now }
    }

    #[test]
    fn what_is_known_holds_on_and_another_controller_goes_on_with_it() {
        let mut history = PathHistory::default();
        history.note(1, vec![sample("a", 0.0)]);
        history.note(3, vec![sample("a", 100.0), sample("b", 1.5)]);
        let series = history.series(5);
        assert_eq!(series[0].loss_percent, [-1.0, 0.0, 0.0, 100.0, 100.0]);
        assert_eq!(series[1].loss_percent, [-1.0, -1.0, -1.0, 1.5, 1.5]);
        assert_eq!(series[1].rtt_microseconds, [0, 0, 0, 20_000, 20_000]);
        let written = SeriesStatus { paths: series.clone(), ..SeriesStatus::default() };
        assert_eq!(PathHistory::known(Some(&written)).series(5), series);
    }

    #[test]
    fn there_is_room_for_so_many_paths() {
        let mut history = PathHistory::default();
        for index in 0..100 {
            history.note(index, (0..100).map(|n| sample(&n.to_string(), 0.0)).collect());
        }
        assert_eq!(history.series(1).len(), PATHS_LIMIT);
    }

    #[test]
    fn a_path_that_is_down_has_lost_everything() {
        let path = PathHealth { loss_out: 20, loss_in: 150, rtt_micros: 7, ..Default::default() };
        let expected = PathPoint { loss_percent: 1.5, rtt_microseconds: 7 };
        assert_eq!(PathPoint::of(&path), expected);
        assert_eq!(PathPoint::of(&PathHealth { state: "down".to_owned(), ..path }), DOWN);
    }
}
