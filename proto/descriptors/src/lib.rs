//! The descriptor sets that the code generators read. Build-time only: nothing of this crate, nor of
//! the published crate the public API's descriptors come from, is linked into the server.

use temporalio_protos as _;

/// The public API and this project's own protos, without files that only declare generator options.
pub const PRUNED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/pruned.bin"));

/// The same with every import, as reflection and JSON need it.
pub const ALL: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/all.bin"));
