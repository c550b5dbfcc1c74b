//! ClusterIdentity `self` and what belongs to it: the key ([`secret`]), what members trust
//! ([`trust`]), what is remembered across restarts ([`record`]), which installation this is
//! ([`installation`]), and what is said of this cluster ([`status`]).

pub mod installation;
pub mod record;
pub mod secret;
pub mod status;
pub mod trust;

pub use record::Record;
