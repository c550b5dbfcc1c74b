//! The controller against a fake Kubernetes API, with real links over loopback.

mod api;
mod apply;
mod books;
mod drills;
mod link;
mod many;
mod remains;
mod rig;
