//! cluster-server
