//! Membership of the cluster, and the member that owns a key. Members find each other through rows in
//! the store and keep each other in sight by gossip (SWIM). This crate maps keys to members; what a key
//! stands for, and who may act on it, is decided elsewhere: the store's fences are the arbiter of
//! ownership, a ring is only everybody's best guess.

mod contacts;
mod gossip;
mod member;
mod membership;
mod node;
mod ring;
mod seal;
mod wire;

pub use contacts::{ContactError, Contacts, StoreContacts};
pub use gossip::Timing;
pub use member::{Member, Role, UnknownRole};
pub use membership::{Join, Membership, TooFew};
pub use ring::Ring;
pub use wire::WireError;
