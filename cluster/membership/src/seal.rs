//! Authentication of datagrams: a code over the bytes, made with a key that every process of the
//! cluster reads from the database and no other process has. Each datagram counts once: its number, within the session
//! of the process that sent it, was not seen before and is not far behind the latest.
//!
//! Wall clocks take no part in it, since a host whose clock is wrong has to stay a member.

use std::collections::{HashMap, VecDeque};

use aws_lc_rs::hmac;
use xxhash_rust::xxh3::xxh3_64;

/// First bytes of every datagram; the last is the version of the format.
const MAGIC: [u8; 4] = *b"MRG\x02";
/// Magic, cluster, session, number.
const PREFIX_BYTES: usize = MAGIC.len() + 3 * 8;
const CODE_BYTES: usize = 32;
/// The overhead of a sealed datagram.
pub(crate) const SEAL_BYTES: usize = PREFIX_BYTES + CODE_BYTES;
/// The purpose of the key, so that the same secret can serve another one.
const PURPOSE: &[u8] = b"meridian gossip 2";
/// Sessions whose numbers are remembered. A session is a process; only those of this cluster get here.
const SESSIONS_MAX: usize = 4_096;
/// How far behind the latest number of a session one may come, as the network may swap them.
const BEHIND_MAX: u64 = 63;

/// Seals what is sent, and opens what comes.
pub(crate) struct Seal {
    key: hmac::Key,
    cluster: [u8; 8],
    session: u64,
    sent: u64,
    sessions: HashMap<u64, Numbers>,
    order: VecDeque<u64>,
}

/// Numbers of one session: the latest, and a bit for each of those before it.
#[derive(Clone, Copy, Debug, Default)]
struct Numbers {
    latest: u64,
    seen: u64,
}

/// Why a datagram was dropped; the metric's label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Something else, or gossip of another cluster or version.
    Foreign,
    /// Without this cluster's key.
    Forged,
    /// Seen before.
    Repeated,
}

impl Seal {
    /// `session` differs between any two processes that ever have the key.
    pub(crate) fn new(key: &[u8], cluster: &str, session: u64) -> Self {
        let secret = hmac::Key::new(hmac::HMAC_SHA256, key);
        let key = hmac::sign(&secret, PURPOSE);
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, key.as_ref()),
            cluster: xxh3_64(cluster.as_bytes()).to_be_bytes(),
            session,
            sent: 0,
            sessions: HashMap::new(),
            order: VecDeque::new(),
        }
    }

    /// The datagram that says this.
    pub(crate) fn close(&mut self, data: &[u8]) -> Vec<u8> {
        self.sent += 1;
        let mut datagram = Vec::with_capacity(SEAL_BYTES + data.len());
        datagram.extend_from_slice(&MAGIC);
        datagram.extend_from_slice(&self.cluster);
        datagram.extend_from_slice(&self.session.to_be_bytes());
        datagram.extend_from_slice(&self.sent.to_be_bytes());
        datagram.extend_from_slice(data);
        let code = hmac::sign(&self.key, &datagram);
        datagram.extend_from_slice(code.as_ref());
        datagram
    }

    /// The content of the datagram.
    pub(crate) fn open<'a>(&mut self, datagram: &'a [u8]) -> Result<&'a [u8], Refused> {
        let after_magic = datagram.strip_prefix(&MAGIC).ok_or(Refused::Foreign)?;
        let rest = after_magic
            .strip_prefix(&self.cluster)
            .ok_or(Refused::Foreign)?;
        let (session, rest) = rest.split_first_chunk::<8>().ok_or(Refused::Foreign)?;
        let (number, rest) = rest.split_first_chunk::<8>().ok_or(Refused::Foreign)?;
        let (data, code) = rest
            .split_last_chunk::<CODE_BYTES>()
            .ok_or(Refused::Foreign)?;
        let sealed = &datagram[..datagram.len() - CODE_BYTES];
        hmac::verify(&self.key, sealed, code).map_err(|_| Refused::Forged)?;
        let (session, number) = (u64::from_be_bytes(*session), u64::from_be_bytes(*number));
        match self.numbers(session).take(number) {
            true => Ok(data),
            false => Err(Refused::Repeated),
        }
    }

    fn numbers(&mut self, session: u64) -> &mut Numbers {
        if !self.sessions.contains_key(&session) {
            self.order.push_back(session);
            if self.order.len() > SESSIONS_MAX
                && let Some(oldest) = self.order.pop_front()
            {
                self.sessions.remove(&oldest);
            }
        }
        self.sessions.entry(session).or_default()
    }
}

impl Numbers {
    /// Notes the number; false when it was there before, or is too far behind to tell.
    fn take(&mut self, number: u64) -> bool {
        if number > self.latest {
            let ahead = number - self.latest;
            self.seen = self
                .seen
                .checked_shl(u32::try_from(ahead).unwrap_or(u32::MAX))
                .unwrap_or(0);
            self.seen |= 1;
            self.latest = number;
            return true;
        }
        let behind = self.latest - number;
        if behind > BEHIND_MAX || self.seen & (1 << behind) != 0 {
            return false;
        }
        self.seen |= 1 << behind;
        true
    }
}

impl Refused {
    /// The metric's label.
    pub(crate) const fn reason(self) -> &'static str {
        match self {
            Self::Foreign => "foreign",
            Self::Forged => "forged",
            Self::Repeated => "repeated",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_datagrams_of_this_cluster_count_and_each_once() {
        let mut ours = Seal::new(b"secret", "west", 1);
        let mut theirs = Seal::new(b"secret", "west", 2);
        let first = theirs.close(b"hello");
        assert_eq!(ours.open(&first), Ok(&b"hello"[..]));
        assert_eq!(ours.open(&first), Err(Refused::Repeated));
        // Any other byte, or one missing, is noticed.
        let second = theirs.close(b"again");
        for at in 0..second.len() {
            let mut broken = second.clone();
            broken[at] ^= 1;
            assert!(
                matches!(ours.open(&broken), Err(Refused::Foreign | Refused::Forged)),
                "{at}"
            );
            assert!(ours.open(&second[..at]).is_err());
        }
        assert_eq!(ours.open(&second), Ok(&b"again"[..]));
        let mut stranger = Seal::new(b"guess", "west", 3);
        assert_eq!(ours.open(&stranger.close(b"evil")), Err(Refused::Forged));
        let mut east = Seal::new(b"secret", "east", 4);
        assert_eq!(ours.open(&east.close(b"hello")), Err(Refused::Foreign));
        // As the first form sent it, without any proof.
        assert_eq!(ours.open(b"MRG\x01whatever"), Err(Refused::Foreign));
    }

    #[test]
    fn numbers_may_be_swapped_but_not_come_again() {
        let mut numbers = Numbers::default();
        for (number, fresh) in [
            (5, true),
            (3, true),
            (3, false),
            (5, false),
            (1_000, true),
            (5, false),
            (936, false),
            (937, true),
            (937, false),
            (u64::MAX, true),
            (u64::MAX, false),
            (1_000, false),
        ] {
            assert_eq!(numbers.take(number), fresh, "{number}");
        }
    }
}
