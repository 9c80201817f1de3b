//! replication-ndc
