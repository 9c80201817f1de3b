//! schema-store
