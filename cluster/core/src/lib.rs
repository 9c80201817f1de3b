//! cluster-core
