//! Drawings of branches as scripts, and the law that the order of arrival does not matter.

mod crowd;
mod election;
mod incoming;
mod migration;
mod script;
