//! Two clusters' frontends over real sockets. What stands behind them answers like history and matching
//! do at this boundary: it refuses when its side is passive, and parks polls.

mod behind;
mod calls;
mod cluster;
mod failing_over;
mod peers;
