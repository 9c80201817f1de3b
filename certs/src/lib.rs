//! Transport security: who this process is, whom it trusts, and how both change while it runs. Files
//! are checked before anything of them is used; what is published can be handshaken with, and before
//! the first publication every handshake fails. Nothing here knows gRPC or what a peer may do.

mod error;
mod expiry;
mod identity;
pub mod issue;
mod receiver;
mod source;
mod store;
pub mod verify;

pub use error::CertError;
pub use expiry::Expiry;
pub use issue::{Issued, Leaf};
pub use receiver::{ClientTls, ServerTls};
pub use source::{ClientAuth, Identity, Protocols, Source};
pub use store::{Reload, Store};
pub use verify::Peer;
