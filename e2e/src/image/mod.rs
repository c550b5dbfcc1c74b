//! Container images without a registry: archives in the OCI layout, written
//! from static programs, which each node's containerd imports.

mod build;
mod oci;
mod previous;

pub(crate) use build::PAUSE;
pub use build::{Carrick, Gateway};
pub use build::{build_carrick, carrick_program, cluster_images, gateway_program, program_alone};
pub use oci::{Entry, Image, Source};
pub use previous::{Previous, previous};
