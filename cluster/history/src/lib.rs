//! cluster-history
