//! How the parts of the server talk: statuses with details, listeners, channels, and one client handle
//! per internal service that hides whether the callee is in this process. This crate moves messages; it
//! knows no rule.

pub mod status;
