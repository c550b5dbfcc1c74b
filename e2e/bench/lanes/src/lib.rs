//! Lanes in memory: packets from a buffer, sealed by one lane, opened by another, into a buffer. What is
//! left is our own code and the cipher, so it shows whether lanes get in each other's way.
//!
//! [`traffic`] makes the packets, [`pair`] carries them from lane to lane, [`race`] runs pairs on one
//! core and on two, and [`command`] is what the program does.

pub mod command;
pub mod pair;
pub mod race;
pub mod traffic;
