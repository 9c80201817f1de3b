//! Members on real sockets: they find each other, notice the dead, and agree on owners.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use cluster_membership::{Join, Member, Membership, Ring, Role, StoreContacts, Timing};
use cluster_runtime::{Metrics, SharedClock, SystemClock, Tasks};
use schema_store::{cluster::ClusterStore, memory::MemoryStore};

const LONG: Duration = Duration::from_secs(20);

struct Process {
    membership: Membership,
    metrics: Metrics,
    tasks: Tasks,
}

struct Cluster {
    name: &'static str,
    key: &'static [u8],
    store: Arc<dyn ClusterStore>,
    clock: SharedClock,
}

impl Cluster {
    fn new(name: &'static str) -> Self {
        Self {
            name,
            key: b"secret",
            store: Arc::new(MemoryStore::default()),
            clock: SystemClock::shared(),
        }
    }

    async fn start(&self, id: &str, roles: &[Role]) -> Process {
        self.start_at(id, roles, ([127, 0, 0, 1], 0).into()).await
    }

    async fn start_at(&self, id: &str, roles: &[Role], at: std::net::SocketAddr) -> Process {
        let metrics = Metrics::new();
        let rpc = ([127, 0, 0, 1], 1).into();
        let roles = roles.iter().map(|r| (*r, rpc)).collect();
        let join = Join {
            member: Member {
                id: id.into(),
                gossip: at,
                roles,
                incarnation: 0,
            },
            bind: at,
            cluster: self.name.into(),
            key: self.key.into(),
            metrics: metrics.clone(),
            contacts: Arc::new(StoreContacts::new(self.store.clone(), self.clock.clone())),
            timing: Timing::default(),
        };
        let tasks = Tasks::new(id.to_owned());
        let membership = Membership::join(join, &self.clock, &tasks).await.unwrap();
        Process {
            membership,
            metrics,
            tasks,
        }
    }
}

impl Process {
    /// As a killed process: nothing is said to anybody.
    async fn kill(self) {
        // No deadline: whatever runs is aborted at once.
        self.tasks.kill().await;
    }

    async fn sees(&self, role: Role, n: usize) -> Arc<Ring> {
        let mut ring = self.membership.watch(role);
        let seen = tokio::time::timeout(LONG, ring.wait_for(|r| r.len() == n)).await;
        match seen {
            Ok(ring) => ring.unwrap().clone(),
            Err(_) => panic!(
                "{:?} sees {:?}",
                self.membership,
                self.membership.ring(role)
            ),
        }
    }
}

#[tokio::test]
async fn the_dead_are_noticed_and_come_back_as_new_incarnations() {
    let cluster = Cluster::new("east");
    let a = cluster.start("a", &[Role::History, Role::Frontend]).await;
    let b = cluster.start("b", &[Role::History, Role::Matching]).await;
    let c = cluster.start("c", &[Role::History, Role::Matching]).await;
    let mut views = Vec::new();
    for process in [&a, &b, &c] {
        views.push(process.sees(Role::History, 3).await);
        process.sees(Role::Frontend, 1).await;
        process.sees(Role::Matching, 2).await;
    }
    for key in (0..100).map(|n: u32| n.to_string()) {
        let owners: Vec<_> = views.iter().map(|v| &v.owner(&key).unwrap().id).collect();
        assert!(owners.windows(2).all(|w| w[0] == w[1]), "{owners:?}");
    }

    let (at, first) = (c.membership.me().gossip, c.membership.me().incarnation);
    let killed = Instant::now();
    c.kill().await;
    let after = a.sees(Role::History, 2).await;
    b.sees(Role::History, 2).await;
    let took = killed.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
    // Only what was on c has moved.
    for key in (0..100).map(|n: u32| n.to_string()) {
        let before = views[0].owner(&key).unwrap();
        assert!(before.id == "c" || before == after.owner(&key).unwrap());
    }

    let again = cluster
        .start_at("c", &[Role::History, Role::Matching], at)
        .await;
    let ring = a.sees(Role::History, 3).await;
    assert!(ring.get("c").unwrap().incarnation > first);
    b.sees(Role::History, 3).await;
    again.sees(Role::History, 3).await;

    // Leaving is known much sooner than dying.
    let left = Instant::now();
    b.membership.leave().await;
    a.sees(Role::History, 2).await;
    assert!(
        left.elapsed() < Duration::from_millis(1_500),
        "{:?}",
        left.elapsed()
    );
    assert!(b.membership.ring(Role::History).get("b").is_none());
}

#[tokio::test]
async fn a_restart_under_another_id_takes_the_place_of_the_dead_at_once() {
    let cluster = Cluster::new("east");
    let a = cluster.start("a", &[Role::History]).await;
    let b = cluster.start("b", &[Role::History]).await;
    a.sees(Role::History, 2).await;
    let at = b.membership.me().gossip;
    b.kill().await;
    let _later = cluster.start_at("b2", &[Role::History], at).await;
    let mut ring = a.membership.watch(Role::History);
    let swapped = ring.wait_for(|r| r.get("b2").is_some() && r.get("b").is_none());
    tokio::time::timeout(LONG, swapped).await.unwrap().unwrap();
}

#[tokio::test]
async fn clusters_do_not_mix_even_with_the_same_contacts() {
    let east = Cluster::new("east");
    let west = Cluster {
        name: "west",
        key: b"secret",
        store: east.store.clone(),
        clock: east.clock.clone(),
    };
    let a = east.start("a", &[Role::History]).await;
    let b = west.start("b", &[Role::History]).await;
    let c = east.start("c", &[Role::History]).await;
    a.sees(Role::History, 2).await;
    c.sees(Role::History, 2).await;
    assert_eq!(b.membership.ring(Role::History).len(), 1);
    let few = b
        .membership
        .wait_for(Role::History, 2, Duration::from_millis(300))
        .await
        .unwrap_err();
    assert_eq!(few.seen, 1);
}

#[tokio::test]
async fn alone_needs_no_socket() {
    let at = ([127, 0, 0, 1], 1).into();
    let me = Member {
        id: "me".into(),
        gossip: at,
        roles: vec![(Role::History, at)],
        incarnation: 1,
    };
    let alone = Membership::alone(me);
    assert!(alone.is_me(alone.ring(Role::History).owner("7").unwrap()));
    assert!(alone.ring(Role::Worker).is_empty());
    alone.leave().await;
    alone.wait_for(Role::History, 1, LONG).await.unwrap();
}

#[tokio::test]
async fn whoever_lacks_the_key_becomes_no_member_and_is_counted() {
    let east = Cluster::new("east");
    let a = east.start("a", &[Role::History]).await;
    let b = east.start("b", &[Role::History]).await;
    a.sees(Role::History, 2).await;
    b.sees(Role::History, 2).await;
    // It knows the cluster's name and every address, and says all that a member says.
    let forger = Cluster {
        name: "east",
        key: b"guess",
        store: east.store.clone(),
        clock: east.clock.clone(),
    };
    let c = forger.start("c", &[Role::History]).await;
    let at = a.membership.me().gossip;
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let counted = |reason: &str| {
        let line = format!("meridian_gossip_dropped_total{{reason=\"{reason}\"}} ");
        let text = a.metrics.text();
        let found = text
            .lines()
            .find_map(|l| l.strip_prefix(&line).map(str::to_owned));
        found.map_or(0, |n| n.parse::<u64>().unwrap())
    };
    let counts = async {
        while counted("forged") < 3 || counted("foreign") < 1 {
            socket
                .send_to(b"MRG\x01 of an older version", at)
                .await
                .unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LONG, counts)
        .await
        .expect("dropped datagrams are counted");
    assert_eq!(a.membership.ring(Role::History).len(), 2);
    assert_eq!(c.membership.ring(Role::History).len(), 1);
}
