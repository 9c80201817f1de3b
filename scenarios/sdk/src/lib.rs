//! scenarios-sdk
