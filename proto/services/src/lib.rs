//! gRPC traits, servers and clients for the public API, the services a peer cluster calls, and this project's
//! internal history and matching services. An RPC nobody implements answers UNIMPLEMENTED.
#![allow(clippy::all, missing_docs)]

mod call;

include!(concat!(env!("OUT_DIR"), "/services.rs"));
