//! cluster-runtime
