//! The loop that drives the gossip protocol: datagrams and timers in, datagrams and rings out. The
//! protocol itself is a state machine without I/O (foca); everything it wants done is done here, by one
//! task that owns socket and state.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    num::{NonZeroU8, NonZeroUsize},
    sync::Arc,
    time::Duration,
};

use cluster_runtime::CancellationToken;
use foca::{
    AccumulatingRuntime, Config, Foca, NoCustomBroadcast, OwnedNotification, PeriodicParams, Timer,
};
use rand::{SeedableRng, rngs::SmallRng};
use tokio::{
    net::UdpSocket,
    sync::{mpsc, oneshot},
    time::Instant,
};
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    Member, Membership,
    node::Node,
    seal::{SEAL_BYTES, Seal},
    wire::GossipCodec,
};

/// Fits into one frame of every network met in practice.
const DATAGRAM_BYTES_MAX: usize = 1_400;
/// The most members. A cluster that is larger needs another way to keep its members in sight.
const MEMBERS_MAX: usize = 1_000;
/// Datagrams taken in one second. Every member sends a few dozen, to a few others.
const DATAGRAMS_MAX: u32 = 2_000;
/// Pause between two lines about dropped datagrams.
const SAY_EVERY: Duration = Duration::from_secs(60);
/// How many contacts are greeted at a time.
const GREETED_MAX: usize = 8;

/// How quickly members notice each other. The defaults notice a dead member within 3 s on a LAN.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Each member probes another this often.
    pub probe_every: Duration,
    /// An answer is expected within this; then others are asked to probe, too.
    pub answer_within: Duration,
    /// A member that does not answer any other is suspected for this long before it counts as dead.
    pub suspect_for: Duration,
    /// News are spread this often.
    pub gossip_every: Duration,
    /// Contacts are announced and looked up this often.
    pub contact_every: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            probe_every: Duration::from_millis(500),
            answer_within: Duration::from_millis(200),
            suspect_for: Duration::from_millis(1_500),
            gossip_every: Duration::from_millis(200),
            contact_every: Duration::from_secs(5),
        }
    }
}

impl Timing {
    fn config(&self) -> Config {
        let few = |n| NonZeroUsize::new(n).unwrap_or(NonZeroUsize::MIN);
        let every = |frequency, n| {
            Some(PeriodicParams {
                frequency,
                num_members: few(n),
            })
        };
        Config {
            probe_period: self.probe_every.max(self.answer_within * 2),
            probe_rtt: self.answer_within,
            num_indirect_probes: few(3),
            max_transmissions: NonZeroU8::new(10).unwrap_or(NonZeroU8::MIN),
            suspect_to_down_after: self.suspect_for,
            // Dead members are forgotten soon: one that comes back does so as a new incarnation.
            remove_down_after: Some(Duration::from_secs(300)),
            max_packet_size: few(DATAGRAM_BYTES_MAX - SEAL_BYTES),
            notify_down_members: true,
            periodic_announce: every(Duration::from_secs(10), 1),
            // Two halves of a network that heals find each other through those they thought dead.
            periodic_announce_to_down_members: every(self.probe_every * 4, 2),
            periodic_gossip: every(self.gossip_every, 3),
        }
    }
}

/// A command to the gossip loop.
pub(crate) enum Ask {
    /// Greet these, if they are not known.
    Greet(Vec<Member>),
    /// Tell the others, then stop.
    Leave(oneshot::Sender<()>),
}

/// The loop's state.
pub(crate) struct Gossip {
    foca: Foca<Node, GossipCodec, SmallRng, NoCustomBroadcast>,
    wishes: AccumulatingRuntime<Node>,
    timers: BTreeMap<(Instant, u64), Timer<Node>>,
    timers_made: u64,
    socket: UdpSocket,
    seal: Seal,
    door: Door,
    membership: Membership,
}

/// Counters of accepted and refused datagrams in recent time.
struct Door {
    count_dropped: CountDropped,
    /// When the present second began, and how many datagrams it brought.
    second: (Instant, u32),
    said: Option<Instant>,
}

/// Counts a dropped datagram by its reason.
pub(crate) type CountDropped = Box<dyn Fn(&'static str) + Send>;

impl Door {
    /// Whether this second has room for one more.
    fn has_room(&mut self) -> bool {
        let now = Instant::now();
        if now.duration_since(self.second.0) >= Duration::from_secs(1) {
            self.second = (now, 0);
        }
        self.second.1 += 1;
        self.second.1 <= DATAGRAMS_MAX
    }

    fn drop(&mut self, reason: &'static str, from: SocketAddr) {
        (self.count_dropped)(reason);
        if self.said.is_some_and(|at| at.elapsed() < SAY_EVERY) {
            return;
        }
        self.said = Some(Instant::now());
        tracing::warn!(
            %from,
            reason,
            "gossip is dropped; the metric meridian_gossip_dropped_total tells how much"
        );
    }
}

impl Gossip {
    pub(crate) fn new(
        membership: Membership,
        seal: Seal,
        count_dropped: CountDropped,
        timing: &Timing,
        socket: UdpSocket,
    ) -> Self {
        let me = Node::new((**membership.me()).clone());
        let seed = xxh3_64(me.id.as_bytes()) ^ me.incarnation;
        let rng = SmallRng::seed_from_u64(seed);
        Self {
            foca: Foca::new(me, timing.config(), rng, GossipCodec::default()),
            wishes: AccumulatingRuntime::new(),
            timers: BTreeMap::new(),
            timers_made: 0,
            socket,
            seal,
            door: Door {
                count_dropped,
                second: (Instant::now(), 0),
                said: None,
            },
            membership,
        }
    }

    /// Runs until told to leave or to stop, which means to leave, too.
    pub(crate) async fn run(mut self, mut asks: mpsc::Receiver<Ask>, token: CancellationToken) {
        let mut datagram = vec![0; 65_536];
        self.show();
        loop {
            let due = self.timers.first_key_value().map(|((at, _), _)| *at);
            let timer = async {
                match due {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                received = self.socket.recv_from(&mut datagram) => match received {
                    Ok((bytes, from)) => self.receive(&datagram[..bytes], from),
                    // A port that nobody listens on any more is told this way on some systems.
                    Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                    Err(error) => {
                        tracing::warn!(%error, "gossip could not be received");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                },
                () = timer => self.tick(),
                ask = asks.recv() => match ask {
                    Some(Ask::Greet(members)) => self.greet(members),
                    Some(Ask::Leave(done)) => {
                        self.leave();
                        let _ = done.send(());
                        return;
                    }
                    None => return self.leave(),
                },
                () = token.cancelled() => return self.leave(),
            }
            self.fulfil();
        }
    }

    fn receive(&mut self, datagram: &[u8], from: SocketAddr) {
        // No member sends more, so that nobody else has it checked, either.
        if datagram.len() > DATAGRAM_BYTES_MAX {
            return self.door.drop("too_long", from);
        }
        let data = match self.seal.open(datagram) {
            Ok(data) => data,
            Err(refused) => return self.door.drop(refused.reason(), from),
        };
        if !self.door.has_room() {
            return self.door.drop("too_many", from);
        }
        if self.foca.num_members() >= MEMBERS_MAX && !self.is_known(from) {
            return self.door.drop("members_max", from);
        }
        if let Err(error) = self.foca.handle_data(data, &mut self.wishes) {
            tracing::debug!(%error, "datagram is ignored");
        }
    }

    fn is_known(&self, from: SocketAddr) -> bool {
        self.foca.iter_members().any(|m| m.id().gossip == from)
    }

    fn tick(&mut self) {
        let now = Instant::now();
        // Foca tolerates delays, and asks that what is late be handed over in its own order.
        let later = self.timers.split_off(&(now, u64::MAX));
        let mut due: Vec<_> = std::mem::replace(&mut self.timers, later)
            .into_values()
            .collect();
        due.sort();
        for timer in due {
            if let Err(error) = self.foca.handle_timer(timer, &mut self.wishes) {
                tracing::debug!(%error, "gossip timer");
            }
        }
    }

    fn greet(&mut self, members: Vec<Member>) {
        let me = self.foca.identity().clone();
        let strangers: Vec<_> = members
            .into_iter()
            .filter(|m| {
                m.gossip != me.gossip
                    && !self.foca.iter_members().any(|k| k.id().gossip == m.gossip)
            })
            .take(GREETED_MAX)
            .collect();
        for stranger in strangers {
            if let Err(error) = self.foca.announce(Node::new(stranger), &mut self.wishes) {
                tracing::debug!(%error, "greeting failed");
            }
        }
    }

    fn leave(&mut self) {
        if let Err(error) = self.foca.leave_cluster(&mut self.wishes) {
            tracing::debug!(%error, "leaving was not told; the others will notice");
        }
        self.send();
        let others: Vec<_> = self.foca.iter_members().map(|m| m.id().member()).collect();
        self.membership.show(others);
    }

    /// Does what foca wants done.
    fn fulfil(&mut self) {
        self.send();
        let now = Instant::now();
        while let Some((after, timer)) = self.wishes.to_schedule() {
            self.timers_made += 1;
            self.timers.insert((now + after, self.timers_made), timer);
        }
        let mut changed = false;
        while let Some(notification) = self.wishes.to_notify() {
            changed |= self.note(&notification);
        }
        if changed {
            self.show();
        }
    }

    fn send(&mut self) {
        while let Some((to, data)) = self.wishes.to_send() {
            let datagram = self.seal.close(&data);
            // Gossip may be lost at any time; a full buffer is no different.
            if let Err(error) = self.socket.try_send_to(&datagram, to.gossip) {
                tracing::debug!(to = %to.gossip, %error, "gossip could not be sent");
            }
        }
    }

    /// Logs the news; tells whether the rings may differ.
    fn note(&self, notification: &OwnedNotification<Node>) -> bool {
        match notification {
            OwnedNotification::MemberUp(node) => {
                tracing::info!(member = node.id, gossip = %node.gossip, "member joined");
                true
            }
            OwnedNotification::MemberDown(node) => {
                tracing::warn!(member = node.id, gossip = %node.gossip, "member left or died");
                true
            }
            OwnedNotification::Rename(..) => true,
            OwnedNotification::Rejoin(node) => {
                tracing::warn!(
                    incarnation = node.incarnation,
                    "the others thought this member dead; it is back"
                );
                true
            }
            _ => false,
        }
    }

    fn show(&self) {
        let others = self.foca.iter_members().map(|m| m.id().member());
        let all: Vec<Arc<Member>> = others.chain([self.foca.identity().member()]).collect();
        self.membership.show(all);
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;

    type Dropped = Arc<Mutex<Vec<&'static str>>>;

    fn member(port: u16) -> Member {
        Member {
            id: format!("member-{port}"),
            gossip: ([127, 0, 0, 1], port).into(),
            roles: Vec::new(),
            incarnation: 1,
        }
    }

    /// A member that is not run; what it drops is noted.
    async fn gossip(port: u16) -> (Gossip, Dropped) {
        let dropped = Dropped::default();
        let noted = dropped.clone();
        let count: CountDropped = Box::new(move |reason| noted.lock().push(reason));
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
        let membership = Membership::of(member(port));
        let seal = Seal::new(b"secret", "west", u64::from(port));
        let timing = Timing::default();
        (
            Gossip::new(membership, seal, count, &timing, socket),
            dropped,
        )
    }

    /// A newcomer who greets from this port.
    async fn greets(port: u16, seal: &mut Seal, to: &mut Gossip) {
        let (mut newcomer, _) = gossip(port).await;
        let host = to.foca.identity().clone();
        newcomer
            .foca
            .announce(host, &mut newcomer.wishes)
            .expect("greets");
        let (_, data) = newcomer.wishes.to_send().expect("a greeting");
        let datagram = seal.close(&data);
        to.receive(&datagram, member(port).gossip);
    }

    #[tokio::test]
    async fn the_cluster_takes_as_many_members_as_it_may_have_and_no_more() {
        let (mut full, dropped) = gossip(1).await;
        let mut seal = Seal::new(b"secret", "west", 9);
        let known =
            (2..=MEMBERS_MAX as u16).map(|port| foca::Member::alive(Node::new(member(port))));
        let filled = full.foca.apply_many(known, false, &mut full.wishes);
        filled.expect("members");
        assert_eq!(full.foca.num_members(), MEMBERS_MAX - 1);
        greets(50_000, &mut seal, &mut full).await;
        assert_eq!(full.foca.num_members(), MEMBERS_MAX);
        assert!(dropped.lock().is_empty());
        greets(50_001, &mut seal, &mut full).await;
        assert_eq!(full.foca.num_members(), MEMBERS_MAX);
        assert_eq!(*dropped.lock(), ["members_max"]);
        // Those who are members go on.
        greets(50_000, &mut seal, &mut full).await;
        assert_eq!(dropped.lock().len(), 1);
    }

    #[tokio::test]
    async fn a_datagram_longer_than_any_member_sends_is_not_even_checked() {
        let (mut host, dropped) = gossip(1).await;
        let mut seal = Seal::new(b"secret", "west", 9);
        let longest = seal.close(&vec![0; DATAGRAM_BYTES_MAX - SEAL_BYTES]);
        assert_eq!(longest.len(), DATAGRAM_BYTES_MAX);
        let from = member(2).gossip;
        host.receive(&longest, from);
        assert!(dropped.lock().is_empty());
        let longer = seal.close(&vec![0; DATAGRAM_BYTES_MAX - SEAL_BYTES + 1]);
        host.receive(&longer, from);
        assert_eq!(*dropped.lock(), ["too_long"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_brings_so_many_datagrams_and_the_next_one_as_many_again() {
        let (mut host, dropped) = gossip(1).await;
        let mut seal = Seal::new(b"secret", "west", 9);
        for second in 0..2 {
            for _ in 0..DATAGRAMS_MAX {
                host.receive(&seal.close(b"x"), member(2).gossip);
            }
            assert_eq!(dropped.lock().len(), second);
            host.receive(&seal.close(b"x"), member(2).gossip);
            assert_eq!(dropped.lock().len(), second + 1);
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(*dropped.lock(), ["too_many"; 2]);
    }
}
