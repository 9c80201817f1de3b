//! schema-sql
