//! Several clusters that serve: which of them a connection ends in, and what it sees of the client. No report counts this.

use serde_json::json;

use super::ground::{Ground, Seen};
use super::imports::clusters;
use super::objects::{PORT, of_both_families, port, usual, with_ports};
use super::side::{Client, Side};
use crate::world::Outcome;

/// By each policy, to each address of each family, from each node to each node that serves: the servers see the client.
pub fn the_source_is_kept(ground: &Ground) -> Result<Seen, String> {
    let [paris, osaka] = [&ground.paris, &ground.osaka].map(Side::serve_on_each_node);
    let (paris, osaka) = (paris?, osaka?);
    let all = [paris.clone(), osaka.clone()].concat();
    ground.everywhere(|side| {
        side.service(of_both_families(with_ports(&[port("tcp", "TCP", PORT)])))
    })?;
    for (policy, in_paris, in_osaka) in [
        ("Balanced", &all, &all),
        ("PreferLocal", &paris, &osaka),
        ("Failover: osaka, paris", &osaka, &osaka),
        ("Failover: paris, osaka", &paris, &paris),
    ] {
        ground.everywhere(|side| side.export_by(policy))?;
        for (side, servers) in [(&ground.paris, in_paris), (&ground.osaka, in_osaka)] {
            each_client_of(side, |client, address| client.served_by(address, PORT, servers))
                .map_err(|error| format!("{policy}: {error}"))?;
        }
    }
    Ok(Seen::All)
}

/// The same for each test pod of a cluster and each of the import's addresses.
fn each_client_of(side: &Side, look: impl Fn(&Client, &str) -> Outcome) -> Outcome {
    let addresses = side.addresses()?;
    for client in side.clients()? {
        addresses.both().into_iter().try_for_each(|address| look(&client, address))?;
    }
    Ok(())
}

/// Where the Service has it, a client stays with one pod of one cluster; where it has none, with no one.
pub fn affinity_over_clusters(ground: &Ground) -> Result<Seen, String> {
    let [paris, osaka] = [&ground.paris, &ground.osaka].map(Side::serve_on_each_node);
    let (paris, osaka) = (paris?, osaka?);
    ground.both_export(usual(), usual())?;
    ground.everywhere(|side| side.has_slices_of(&["osaka", "paris"]))?;
    let all = [paris, osaka.clone()].concat();
    // The pods of both clusters are behind the address: without affinity each client sees them all.
    let affinity = |wanted: &str| {
        let mut spec = usual();
        if wanted == "None" {
            spec["sessionAffinity"] = json!("None");
            spec["sessionAffinityConfig"] = json!(null);
        }
        ground.everywhere(|side| side.service(spec.clone()))?;
        ground.everywhere(|side| {
            let has = |import: &serde_json::Value| import["spec"]["sessionAffinity"] == wanted;
            side.import(&format!("affinity {wanted}"), has).map(drop)
        })
    };
    affinity("None")?;
    ground.everywhere(|side| {
        each_client_of(side, |client, address| client.served_by(address, PORT, &all))
    })?;
    affinity("ClientIP")?;
    ground.everywhere(|side| {
        each_client_of(side, |client, address| client.stays(address, PORT, &all))
    })?;
    // Whoever stayed with the cluster that serves no more comes to the other, and stays there.
    ground.paris.unexport()?;
    ground.everywhere(|side| side.has_slices_of(&["osaka"]))?;
    ground.everywhere(|side| {
        each_client_of(side, |client, address| client.stays(address, PORT, &osaka))
    })?;
    Ok(Seen::All)
}

/// Three clusters export, and one of them, the oldest, something else in the end.
pub fn three_clusters(ground: &Ground) -> Result<Seen, String> {
    let lima = (ground.third)()?;
    let all: [&Side; 3] = [&lima, &ground.osaka, &ground.paris];
    let served = three_export(all);
    lima.end()?;
    served.map(|()| Seen::All)
}

fn three_export(all: [&Side; 3]) -> Outcome {
    let [lima, osaka, paris] = all;
    let of = |number| with_ports(&[port("tcp", "TCP", number)]);
    for side in all {
        side.serve()?;
        side.exports(of(PORT))?;
        side.is_older()?;
    }
    let leads_to = |side: &Side, number: u16, wanted: &[&Side]| {
        let servers: Vec<String> = wanted.iter().map(|side| side.server()).collect();
        let address = side.address()?;
        let clients = side.clients()?;
        clients.iter().try_for_each(|client| client.served_by(&address, number, &servers))
    };
    let all_serve = |wanted: &[&Side]| {
        let ids: Vec<&str> = wanted.iter().map(|side| side.id()).collect();
        for side in all {
            side.import(&format!("clusters {ids:?}"), |import| clusters(import) == ids)?;
            side.has_slices_of(&ids)?;
            leads_to(side, PORT, wanted)?;
        }
        Ok::<(), String>(())
    };
    all_serve(&all)?;
    // One name, two numbers: that of the oldest counts, and all three are told.
    lima.service(of(PORT + 1))?;
    for side in all {
        side.condition("Conflict", "True", "PortConflict")?;
        side.import("the oldest's port", |import| import["spec"]["ports"][0]["port"] == PORT + 1)?;
        leads_to(side, PORT + 1, &[lima])?;
    }
    lima.unexport()?;
    all_serve(&[osaka, paris])
}
