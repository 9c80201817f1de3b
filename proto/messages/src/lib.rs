//! Message types on the wire: Temporal's public API (generated from the published descriptors) under
//! [`temporal::api`], the messages a peer cluster sees under `temporal::server::api`, and this
//! project's own under [`meridian`]. Prost and bytes only; no rule lives here.
#![allow(clippy::all, missing_docs)]

#[macro_use]
mod wire;
pub mod attributes;
pub mod time;

pub use prost::DecodeError;
pub use wire::Wire;

include!(concat!(env!("OUT_DIR"), "/api.rs"));

/// The encoded file descriptor set of everything above, for reflection and JSON.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
