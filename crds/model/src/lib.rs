//! Validated types that every part of Carrick shares.
//!
//! Parse, don't validate: text from users, peers and the Kubernetes API becomes one of these types
//! once, at the border, and everything behind it works with values that are known to be good.

pub mod cluster;
pub mod fnv;
pub mod gateway_probe;
pub mod key;
pub mod member;
pub mod mesh;
pub mod policy;
pub mod prefix;
pub mod service;

pub use cluster::ClusterId;
pub use key::{IdentityKey, TunnelKey};
pub use member::{MemberId, MemberName, Role};
pub use mesh::{Mac, MeshPrefix};
pub use policy::ServicePolicy;
pub use prefix::{Family, Prefix};
pub use service::{ExportedService, ServiceName};
