//! cluster-cli
