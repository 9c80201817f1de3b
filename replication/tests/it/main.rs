//! The parts of replication against each other, over real connections.

mod pulling;
mod reapplying;
mod two_clusters;
mod world;
