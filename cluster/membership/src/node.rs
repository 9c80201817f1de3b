//! A member as the gossip protocol knows it: distinguished by its gossip address, and of two at the same
//! address the later incarnation is the living one.

use std::{net::SocketAddr, ops::Deref, sync::Arc};

use foca::Identity;

use crate::Member;

/// A member, cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node(Arc<Member>);

impl Node {
    pub(crate) fn new(member: Member) -> Self {
        Self(Arc::new(member))
    }

    pub(crate) fn member(&self) -> Arc<Member> {
        self.0.clone()
    }
}

impl Deref for Node {
    type Target = Member;

    fn deref(&self) -> &Member {
        &self.0
    }
}

impl Identity for Node {
    type Addr = SocketAddr;

    /// A member that was declared dead in error comes back as the next incarnation.
    fn renew(&self) -> Option<Self> {
        let incarnation = self.incarnation.saturating_add(1);
        Some(Self::new(Member {
            incarnation,
            ..(*self.0).clone()
        }))
    }

    fn addr(&self) -> SocketAddr {
        self.gossip
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        (self.incarnation, &self.id) > (adversary.incarnation, &adversary.id)
    }
}
