//! Who is in the cluster, and which member a key belongs to. Members find each other through rows in
//! the store and keep each other in sight by gossip (SWIM). This crate maps keys to members; what a key
//! stands for, and who may act on it, is decided elsewhere: the store's fences are the arbiter of
//! ownership, a ring is only everybody's best guess.

mod member;
mod membership;
mod ring;

pub use member::{Member, Role, UnknownRole};
pub use membership::Membership;
pub use ring::Ring;
