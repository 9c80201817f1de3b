//! cluster-membership
