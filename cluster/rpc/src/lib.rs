//! cluster-rpc
