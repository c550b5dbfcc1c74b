//! What books cost on the wire.

use std::time::{Duration, Instant};

use super::net::Net;
use super::{exports, service};

const SERVICES: u32 = 10_000;

/// What QUIC, UDP and IP add to each datagram of up to 1,200 bytes, about.
fn on_the_wire(bytes: usize, messages: usize) -> usize {
    bytes + (bytes.div_ceil(1200) + messages) * 70
}

#[test]
fn ten_thousand_services_come_in_three_megabytes_and_one_change_in_a_kilobyte() {
    let mut all = exports((0..SERVICES).map(|n| service(n, 3, true)));
    let mut net = Net::new(&all);
    let began = Instant::now();
    let took = net.settle();
    let cpu = began.elapsed();
    let (asked, answered) = (net.asked, net.answered);
    let first = on_the_wire(asked + answered, 2 * net.questions);
    println!(
        "{SERVICES} services, 3 endpoints each: {asked} bytes asked in {} questions, {answered} answered, \
         about {first} on the wire; {} ms at 20 ms RTT, {} ms of work (this build)",
        net.questions,
        took.as_millis(),
        cpu.as_millis(),
    );
    assert!(first <= 3_000_000);

    net.run(Duration::from_secs(5));
    let (asked, answered, questions) = (net.asked, net.answered, net.questions);
    all.extend(exports([service(4711, 4, true)]));
    net.export(&all);
    net.settle();
    // The question that was answered lies before, and so does the one that waits now.
    net.step();
    let bytes = net.asked - asked + net.answered - answered;
    let change = on_the_wire(bytes, 2 * (net.questions - questions));
    println!("one endpoint more: {bytes} bytes, about {change} on the wire");
    assert!(change <= 1000);

    // The other controller begins anew with the same to say: a head, and nothing of the book.
    let answered = net.answered;
    net.restart_publisher(&all);
    net.run(Duration::from_secs(5));
    let again = net.answered - answered;
    println!("a controller begins anew: {again} bytes in 5 s");
    assert!(again <= 400);
}
