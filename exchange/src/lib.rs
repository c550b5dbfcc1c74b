//! Messages, trust and transport between Carrick's parts: one QUIC protocol with three uses.

pub mod message;
