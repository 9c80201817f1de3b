//! A member: one process of the cluster, its roles and its addresses.

use std::{fmt, net::SocketAddr, str::FromStr};

/// A set of services that a process offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// The public API.
    Frontend,
    /// Workflow state.
    History,
    /// Task queues.
    Matching,
    /// Replication pullers and system jobs.
    Worker,
}

/// One process. Two values with the same id are the same process or its successor; the higher
/// incarnation is the living one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Unique within the cluster; where keys land depends on it, so it should outlive a restart.
    pub id: String,
    /// Where it listens for gossip.
    pub gossip: SocketAddr,
    /// Its roles with their addresses.
    pub roles: Vec<(Role, SocketAddr)>,
    /// Rises with every start and whenever the member was declared dead in error.
    pub incarnation: u64,
}

/// The text names no role.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a role; roles are frontend, history, matching and worker")]
pub struct UnknownRole(String);

impl Role {
    /// All roles.
    pub const ALL: [Self; 4] = [Self::Frontend, Self::History, Self::Matching, Self::Worker];

    /// The name, as configuration files and logs have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Frontend => "frontend",
            Self::History => "history",
            Self::Matching => "matching",
            Self::Worker => "worker",
        }
    }

    pub(crate) const fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        Self::ALL
            .into_iter()
            .find(|r| r.as_str() == text)
            .ok_or_else(|| UnknownRole(text.to_owned()))
    }
}

impl Member {
    /// Where this member can be called in the role; `None` when it does not play it.
    pub fn rpc(&self, role: Role) -> Option<SocketAddr> {
        self.roles
            .iter()
            .find(|(r, _)| *r == role)
            .map(|(_, at)| *at)
    }
}
