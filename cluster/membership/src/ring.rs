//! Which member a key belongs to, by rendezvous hashing: every member gets a score for the key, the
//! highest owns it. All members with the same view give the same answer, and when a member comes or
//! goes only the keys it wins or owned move.

use std::sync::Arc;

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::member::Member;

/// The members that play one role, as seen at one moment.
#[derive(Clone, Debug, Default)]
pub struct Ring {
    /// Sorted by id, so that two rings of the same members are equal.
    members: Vec<RingMember>,
}

#[derive(Clone, Debug)]
struct RingMember {
    member: Arc<Member>,
    seed: u64,
}

impl Ring {
    /// A ring of these members. Of two with the same id the higher incarnation counts.
    pub fn new(members: impl IntoIterator<Item = Arc<Member>>) -> Self {
        let mut members: Vec<RingMember> = members
            .into_iter()
            .map(|member| RingMember {
                seed: xxh3_64(member.id.as_bytes()),
                member,
            })
            .collect();
        members.sort_by(|a, b| {
            (&a.member.id, b.member.incarnation).cmp(&(&b.member.id, a.member.incarnation))
        });
        members.dedup_by(|later, first| later.member.id == first.member.id);
        Self { members }
    }

    /// The owner of the key; `None` when the ring is empty.
    pub fn owner(&self, key: &str) -> Option<&Arc<Member>> {
        if let [only] = self.members.as_slice() {
            return Some(&only.member);
        }
        // Equal scores are settled by the order of ids, which is the same everywhere.
        self.members
            .iter()
            .max_by_key(|p| xxh3_64_with_seed(key.as_bytes(), p.seed))
            .map(|p| &p.member)
    }

    /// The first `n` members in the key's order of preference: the owner, then the member that would own it if
    /// the owner went, and so on.
    pub fn owners(&self, key: &str, n: usize) -> Vec<&Arc<Member>> {
        let mut scored: Vec<_> = self
            .members
            .iter()
            .map(|p| (xxh3_64_with_seed(key.as_bytes(), p.seed), &p.member))
            .collect();
        scored.sort_by(|a, b| (b.0, &b.1.id).cmp(&(a.0, &a.1.id)));
        scored.into_iter().take(n).map(|(_, m)| m).collect()
    }

    /// The members, in the order of their ids.
    pub fn members(&self) -> impl ExactSizeIterator<Item = &Arc<Member>> {
        self.members.iter().map(|p| &p.member)
    }

    /// The member with this id.
    pub fn get(&self, id: &str) -> Option<&Arc<Member>> {
        self.members.iter().map(|p| &p.member).find(|m| m.id == id)
    }

    /// How many members.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether no member has the role.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }
}

impl PartialEq for Ring {
    fn eq(&self, other: &Self) -> bool {
        self.members().eq(other.members())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(n: usize) -> Arc<Member> {
        let at = ([127, 0, 0, 1], 7000 + n as u16).into();
        Arc::new(Member {
            id: format!("member-{n}"),
            gossip: at,
            roles: vec![],
            incarnation: 1,
        })
    }

    #[test]
    fn only_the_keys_of_a_leaver_move() {
        let five = Ring::new((0..5).map(member));
        let four = Ring::new((0..5).filter(|n| *n != 2).map(member));
        let mut moved = 0;
        for key in (1..=4_000).map(|n: u32| n.to_string()) {
            let (before, after) = (five.owner(&key).unwrap(), four.owner(&key).unwrap());
            if before.id == "member-2" {
                moved += 1;
                // The successor was known before.
                assert_eq!(five.owners(&key, 2), [before, after]);
            } else {
                assert_eq!(before, after);
            }
        }
        assert!(
            (700..=900).contains(&moved),
            "{moved} of 4000 keys were on one of five members"
        );
    }

    #[test]
    fn the_living_incarnation_counts() {
        let mut newer = (*member(0)).clone();
        newer.incarnation = 2;
        let ring = Ring::new([member(0), Arc::new(newer), member(1)]);
        assert_eq!(ring.len(), 2);
        assert_eq!(ring.get("member-0").unwrap().incarnation, 2);
        assert!(Ring::default().owner("x").is_none());
    }
}
