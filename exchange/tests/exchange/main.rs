//! The exchange from the outside: on loopback, and its pure parts with whole inputs.

mod book;
mod hostile;
mod joining;
mod links;
mod member;
mod session;
mod snapshots;
mod support;
mod trust;
