//! cluster-matching
