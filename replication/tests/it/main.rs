//! The parts of replication against each other, over real connections.

mod completeness;
mod dlq;
mod faults;
mod pulling;
mod reapplying;
mod setbacks;
mod two_clusters;
mod world;
