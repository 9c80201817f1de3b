//! scenarios-load
