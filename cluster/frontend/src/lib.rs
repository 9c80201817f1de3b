//! cluster-frontend
