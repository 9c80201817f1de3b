//! The handle on the rings of the moment, and how a process joins and leaves.

use std::{
    fmt, io,
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use cluster_runtime::{Metrics, SharedClock, TaskKind, Tasks};
use tokio::{
    net::UdpSocket,
    sync::{mpsc, oneshot, watch},
};

use xxhash_rust::xxh3::xxh3_64;

use crate::{
    Contacts, Member, Ring, Role,
    gossip::{Ask, CountDropped, Gossip, Timing},
    seal::Seal,
    wire::ID_BYTES_MAX,
};

/// How long leaving may take before it is left to the others to notice.
const LEAVE_WITHIN: Duration = Duration::from_secs(2);

/// A handle on who is in the cluster. Cheap to clone.
#[derive(Clone)]
pub struct Membership(Arc<MembershipInner>);

struct MembershipInner {
    me: Arc<Member>,
    rings: [watch::Sender<Arc<Ring>>; Role::ALL.len()],
    /// How many members are known, this one included.
    seen: watch::Sender<usize>,
    /// Set once the process gossips.
    link: OnceLock<Link>,
}

struct Link {
    asks: mpsc::Sender<Ask>,
    contacts: Arc<dyn Contacts>,
}

/// The parameters of joining.
pub struct Join {
    /// This process. Port 0 in its gossip address stands for the port that is bound, incarnation 0 for
    /// the time of start.
    pub member: Member,
    /// Where to listen for gossip.
    pub bind: SocketAddr,
    /// The cluster's name; gossip of another is ignored.
    pub cluster: String,
    /// A secret of the cluster's processes; gossip without it is dropped.
    pub key: Vec<u8>,
    /// Where dropped gossip is counted.
    pub metrics: Metrics,
    /// How to find the others.
    pub contacts: Arc<dyn Contacts>,
    /// How quickly to notice.
    pub timing: Timing,
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
        Self(Arc::new(MembershipInner {
            me: Arc::new(member),
            rings,
            seen: watch::Sender::new(0),
            link: OnceLock::new(),
        }))
    }

    /// Opens the gossip port, finds the others and takes part until the group is stopped or
    /// [`Membership::leave`] is called. Returns when others have answered, or when there seem to be none;
    /// from then on the rings hold at least this process.
    pub async fn join(join: Join, clock: &SharedClock, tasks: &Tasks) -> io::Result<Self> {
        let Join {
            mut member,
            bind,
            cluster,
            key,
            metrics,
            contacts,
            timing,
        } = join;
        if member.id.is_empty() || member.id.len() > ID_BYTES_MAX {
            let problem = format!("a member's id must have 1 to {ID_BYTES_MAX} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, problem));
        }
        let socket = UdpSocket::bind(bind).await?;
        if member.gossip.port() == 0 {
            member.gossip.set_port(socket.local_addr()?.port());
        }
        if member.incarnation == 0 {
            member.incarnation = clock.now_nanos().max(1).unsigned_abs();
        }
        let membership = Self::of(member);
        let (asks, inbox) = mpsc::channel(16);
        let link = Link {
            asks: asks.clone(),
            contacts: contacts.clone(),
        };
        // The cell is new; nobody else can have filled it.
        let _ = membership.0.link.set(link);
        let me = membership.me();
        // No two starts have the same id and time.
        let seal = Seal::new(&key, &cluster, xxh3_64(me.id.as_bytes()) ^ me.incarnation);
        let dropped = metrics.counters(
            "meridian_gossip_dropped_total",
            "Datagrams on the membership port that were not taken, by reason",
            &["reason"],
        );
        let count: CountDropped =
            Box::new(move |reason| dropped.with_label_values(&[reason]).inc());
        let gossip = Gossip::new(membership.clone(), seal, count, &timing, socket);
        // Told to stop last: until then others may still have to find their way around this member.
        let token = tasks.token(TaskKind::Lane);
        tasks.spawn(TaskKind::Lane, "gossip", gossip.run(inbox, token));

        let has_others = membership.meet(&*contacts, &asks).await;
        let meeting = membership.clone();
        tasks.spawn_restarting(TaskKind::Background, "contacts", move || {
            let (meeting, contacts, asks) = (meeting.clone(), contacts.clone(), asks.clone());
            async move { meeting.keep_meeting(&*contacts, &asks, timing).await }
        });
        // Contacts may be rows of the dead; they get as long as the living would take to answer.
        let wanted = if has_others { 2 } else { 1 };
        let mut seen = membership.0.seen.subscribe();
        let _ =
            tokio::time::timeout(timing.answer_within * 4, seen.wait_for(|n| *n >= wanted)).await;
        tracing::info!(member = membership.me().id, gossip = %membership.me().gossip,
            members = *seen.borrow(), "joined");
        Ok(membership)
    }

    /// Announces itself and greets others, again and again until gossip has ended.
    async fn keep_meeting(
        &self,
        contacts: &dyn Contacts,
        asks: &mpsc::Sender<Ask>,
        timing: Timing,
    ) {
        loop {
            // As long as nobody is known, somebody else may just be starting.
            let is_alone = *self.0.seen.borrow() < 2;
            let pause = match is_alone {
                true => timing.probe_every,
                false => timing.contact_every,
            };
            tokio::time::sleep(pause).await;
            if asks.is_closed() {
                return;
            }
            self.meet(contacts, asks).await;
        }
    }

    /// Leaves in good order: the others know at once, and keys find new owners. The rings here hold the
    /// others from then on. A process that is alone stays as it is.
    pub async fn leave(&self) {
        let Some(link) = self.0.link.get() else {
            return;
        };
        let leaving = async {
            let (done, left) = oneshot::channel();
            if link.asks.send(Ask::Leave(done)).await.is_ok() {
                let _ = left.await;
            }
            if let Err(error) = link.contacts.withdraw(&self.0.me).await {
                tracing::debug!(%error, "this member's contact row stays until it is old");
            }
        };
        if tokio::time::timeout(LEAVE_WITHIN, leaving).await.is_err() {
            tracing::warn!("leaving took too long; the others will notice by themselves");
        }
    }

    /// Announces this process and greets whom it finds; tells whether there was anybody.
    async fn meet(&self, contacts: &dyn Contacts, asks: &mpsc::Sender<Ask>) -> bool {
        if let Err(error) = contacts.announce(&self.0.me).await {
            tracing::warn!(%error, "this member could not be announced; others may not find it");
        }
        let mut found = match contacts.recent().await {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(%error, "members could not be looked up");
                return false;
            }
        };
        found.retain(|m| m.gossip != self.0.me.gossip);
        let has_others = !found.is_empty();
        // Fails only after leaving.
        has_others && asks.send(Ask::Greet(found)).await.is_ok()
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
        let seen = Ring::new(members.iter().cloned()).len();
        self.0.seen.send_replace(seen);
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
