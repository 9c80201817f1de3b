//! Transport security: who this process is, whom it trusts, and how both change while it runs. Files
//! are checked before anything of them is used; what is published can be handshaken with, and before
//! the first publication every handshake fails.

mod receiver;

pub use receiver::{ClientTls, ServerTls};
