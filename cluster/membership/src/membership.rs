//! The handle on the rings of the moment.

use std::{fmt, sync::Arc, time::Duration};

use tokio::sync::watch;

use crate::{Member, Ring, Role};

/// A handle on who is in the cluster. Cheap to clone.
#[derive(Clone)]
pub struct Membership(Arc<Inner>);

struct Inner {
    me: Arc<Member>,
    rings: [watch::Sender<Arc<Ring>>; Role::ALL.len()],
}

/// The members waited for did not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("waited {waited:?} for {wanted} {role} members and saw {seen}")]
pub struct TooFew {
    /// The role.
    pub role: Role,
    /// How many were wanted.
    pub wanted: usize,
    /// How many there are.
    pub seen: usize,
    /// How long was waited.
    pub waited: Duration,
}

impl Membership {
    /// A cluster of one process: every ring holds this member in the roles it plays. No socket.
    pub fn alone(member: Member) -> Self {
        let made = Self::of(member);
        made.show([made.0.me.clone()]);
        made
    }

    pub(crate) fn of(member: Member) -> Self {
        let rings = std::array::from_fn(|_| watch::Sender::new(Arc::default()));
        Self(Arc::new(Inner {
            me: Arc::new(member),
            rings,
        }))
    }

    /// This process.
    pub fn me(&self) -> &Arc<Member> {
        &self.0.me
    }

    /// Whether the member is this process.
    pub fn is_me(&self, member: &Member) -> bool {
        member.id == self.0.me.id
    }

    /// The ring of the moment.
    pub fn ring(&self, role: Role) -> Arc<Ring> {
        self.0.rings[role.index()].borrow().clone()
    }

    /// Rings as they change.
    pub fn watch(&self, role: Role) -> watch::Receiver<Arc<Ring>> {
        self.0.rings[role.index()].subscribe()
    }

    /// Waits until at least `n` members play the role.
    pub async fn wait_for(
        &self,
        role: Role,
        n: usize,
        at_most: Duration,
    ) -> Result<Arc<Ring>, TooFew> {
        let mut ring = self.watch(role);
        let seen = tokio::time::timeout(at_most, ring.wait_for(|r| r.len() >= n)).await;
        if let Ok(Ok(ring)) = seen {
            return Ok(ring.clone());
        }
        let seen = self.ring(role).len();
        Err(TooFew {
            role,
            wanted: n,
            seen,
            waited: at_most,
        })
    }

    /// Publishes the rings these members make; only those that differ wake watchers.
    pub(crate) fn show(&self, members: impl IntoIterator<Item = Arc<Member>>) {
        let members: Vec<_> = members.into_iter().collect();
        for role in Role::ALL {
            let ring = Ring::new(members.iter().filter(|m| m.rpc(role).is_some()).cloned());
            self.0.rings[role.index()].send_if_modified(|current| {
                let differs = **current != ring;
                if differs {
                    *current = Arc::new(ring);
                }
                differs
            });
        }
    }
}

impl fmt::Debug for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Membership of {}", self.0.me.id)
    }
}
