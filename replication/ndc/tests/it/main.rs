//! Drawings of branches as scripts, and the law that the order of arrival does not matter.

mod arrival;
mod crowd;
mod election;
mod migration;
mod script;
