//! Two clusters that export different things under one name: the oldest export counts, and both are told.

use serde_json::{Value, json};

use super::ground::{Ground, Seen};
use super::imports::have_ports;
use super::objects::{headless, port, usual, with, with_ports};
use super::side::Side;
use crate::world::Outcome;

/// Both exports are told of it.
fn told(ground: &Ground, reason: &str) -> Outcome {
    ground.everywhere(|side| side.condition("Conflict", "True", reason))
}

/// Both exports have a port of TCP, and each has another.
pub fn ports_are_united(ground: &Ground) -> Result<Seen, String> {
    let tcp = port("tcp", "TCP", 42);
    let of = |other: Value| with(usual(), "ports", json!([tcp, other]));
    ground.both_export(of(port("udp", "UDP", 42)), of(port("sctp", "SCTP", 42)))?;
    have_ports(ground, &[("tcp", "TCP", 42), ("udp", "UDP", 42), ("sctp", "SCTP", 42)])?;
    told(ground, "PortConflict")?;
    Ok(Seen::All)
}

/// One name for two numbers.
pub fn the_oldest_ports_count(ground: &Ground) -> Result<Seen, String> {
    let of = |number| with(usual(), "ports", json!([port("tcp", "TCP", number)]));
    ground.both_export(of(42), of(142))?;
    told(ground, "PortConflict")?;
    have_ports(ground, &[("tcp", "TCP", 42)])?;
    Ok(Seen::All)
}

/// Headless in one cluster and not in the other, exported in both orders.
pub fn the_oldest_says_whether_headless(ground: &Ground) -> Result<Seen, String> {
    let is = |type_: &'static str| {
        ground.everywhere(|side| {
            side.import(type_, |import| import["spec"]["type"] == type_).map(drop)
        })
    };
    ground.both_export(usual(), headless())?;
    told(ground, "TypeConflict")?;
    is("ClusterSetIP")?;
    ground.everywhere(Side::unexport)?;
    ground.everywhere(Side::gone)?;
    ground.osaka.export(json!({}))?;
    ground.osaka.is_older()?;
    ground.paris.export(json!({}))?;
    told(ground, "TypeConflict")?;
    is("Headless")?;
    Ok(Seen::All)
}

pub fn clashing_labels(ground: &Ground) -> Result<Seen, String> {
    let of = |value: &str| {
        json!({
            "exportedLabels": { "team": value },
            "exportedAnnotations": { "example.org/note": value },
        })
    };
    ground.everywhere(|side| side.service(usual()))?;
    ground.paris.export(of("a"))?;
    ground.paris.is_older()?;
    ground.osaka.export(of("b"))?;
    told(ground, "LabelsConflict")?;
    told(ground, "AnnotationsConflict")?;
    ground.everywhere(|side| {
        side.import("what the oldest says", |import| {
            let metadata = &import["metadata"];
            metadata["labels"]["team"] == "a" && metadata["annotations"]["example.org/note"] == "a"
        })
        .map(drop)
    })?;
    Ok(Seen::All)
}

/// Connections to a port go to the cluster that has it, and to a number that lost nowhere.
pub fn a_port_of_two_numbers(ground: &Ground) -> Result<Seen, String> {
    ground.everywhere(Side::serve)?;
    let of = |number| with_ports(&[port("tcp", "TCP", number)]);
    ground.both_export(of(42), of(43))?;
    told(ground, "PortConflict")?;
    ground.everywhere(|side| {
        side.reaches(&side.name(), 42, &ground.paris.server())?;
        side.cannot_reach(&side.address()?, 43)
    })?;
    Ok(Seen::All)
}

/// Each port leads to the cluster that has it.
pub fn ports_of_different_names(ground: &Ground) -> Result<Seen, String> {
    ground.everywhere(Side::serve)?;
    let of = |name, number| with_ports(&[port(name, "TCP", number)]);
    ground.both_export(of("first", 42), of("second", 43))?;
    ground.everywhere(|side| {
        side.reaches(&side.name(), 42, &ground.paris.server())?;
        side.reaches(&side.name(), 43, &ground.osaka.server())
    })?;
    Ok(Seen::All)
}
