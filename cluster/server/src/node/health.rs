//! Whether the process lives, and whether it can serve. It lives from the moment its ports are served until it
//! stops; it can serve while the database answers and some history host is there to own shards. The gRPC health
//! service tells the first as the service without a name, the second for each service; over HTTP they are
//! `/health/live` and `/health/ready` on the metrics port.

use std::{sync::Arc, time::Duration};

use cluster_membership::{Membership, Role};
use cluster_runtime::task::{TaskKind, Tasks};
use schema_store::{StoreError, cluster::ClusterStore};
use tokio::sync::watch;

/// How often the database is asked.
const ASK_EVERY: Duration = Duration::from_secs(2);
/// How long it may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// A handle on what is known. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Health(watch::Sender<State>);

/// The state as last observed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    /// Whether the ports are served.
    pub(crate) is_live: bool,
    /// Why calls cannot be served now; empty when they can.
    pub(crate) faults: Vec<String>,
}

impl State {
    pub(crate) fn is_ready(&self) -> bool {
        self.is_live && self.faults.is_empty()
    }
}

impl Health {
    /// Not yet.
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(State {
            is_live: false,
            faults: vec!["the process is starting".into()],
        }))
    }

    pub(crate) fn state(&self) -> State {
        self.0.borrow().clone()
    }

    pub(crate) fn watch(&self) -> watch::Receiver<State> {
        self.0.subscribe()
    }

    /// The ports are served, or not any more.
    pub(crate) fn set_live(&self, is_live: bool) {
        self.0
            .send_if_modified(|state| std::mem::replace(&mut state.is_live, is_live) != is_live);
    }

    /// Looks once, then again and again as a task of the group.
    pub(crate) async fn follow(
        &self,
        store: Arc<dyn ClusterStore>,
        membership: Membership,
        tasks: &Tasks,
    ) {
        self.look(store.as_ref(), &membership).await;
        let health = self.clone();
        tasks.spawn_restarting(TaskKind::Background, "health", move || {
            let (health, store, membership) = (health.clone(), store.clone(), membership.clone());
            async move { health.keep_looking(store.as_ref(), &membership).await }
        });
    }

    async fn keep_looking(&self, store: &dyn ClusterStore, membership: &Membership) {
        let mut hosts = membership.watch(Role::History);
        loop {
            tokio::select! {
                () = tokio::time::sleep(ASK_EVERY) => {}
                _ = hosts.changed() => {}
            }
            self.look(store, membership).await;
        }
    }

    async fn look(&self, store: &dyn ClusterStore, membership: &Membership) {
        let mut faults = Vec::new();
        match tokio::time::timeout(ANSWER_WITHIN, store.cluster_list()).await {
            // A full one, or one that changes under the read, is there.
            Ok(Ok(_) | Err(StoreError::Conflict(_))) => {}
            Ok(Err(error)) => faults.push(error.to_string()),
            Err(_) => faults.push(format!(
                "the store did not answer within {} s",
                ANSWER_WITHIN.as_secs()
            )),
        }
        if membership.ring(Role::History).is_empty() {
            faults.push("no history host is there to own shards".into());
        }
        self.0.send_if_modified(|state| {
            let differs = state.faults != faults;
            if differs && faults.is_empty() {
                tracing::info!("ready to serve");
            } else if differs {
                tracing::warn!(reason = faults.join("; "), "not ready to serve");
            }
            state.faults = faults;
            differs
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use cluster_membership::Member;
    use proto_ids::{ClusterName, Timestamp};
    use schema_store::cluster::{ClusterRecord, MemberRecord};

    use super::*;

    /// A database that is there or not.
    #[derive(Default)]
    struct Database(AtomicBool);

    impl Database {
        fn answer<T>(&self, value: T) -> Result<T, StoreError> {
            match self.0.load(Ordering::Relaxed) {
                true => Ok(value),
                false => Err(StoreError::Unavailable("PostgreSQL is away".into())),
            }
        }
    }

    #[async_trait::async_trait]
    impl ClusterStore for Database {
        async fn cluster_list(&self) -> Result<Vec<ClusterRecord>, StoreError> {
            self.answer(Vec::new())
        }

        async fn cluster_put(&self, _: ClusterRecord) -> Result<(), StoreError> {
            self.answer(())
        }

        async fn cluster_delete(&self, _: &ClusterName) -> Result<(), StoreError> {
            self.answer(())
        }

        async fn member_put(&self, _: MemberRecord) -> Result<(), StoreError> {
            self.answer(())
        }

        async fn member_list(&self, _: Timestamp) -> Result<Vec<MemberRecord>, StoreError> {
            self.answer(Vec::new())
        }

        async fn member_delete(&self, _: &str) -> Result<(), StoreError> {
            self.answer(())
        }
    }

    fn alone(role: Role) -> Membership {
        let at = ([127, 0, 0, 1], 1).into();
        Membership::alone(Member {
            id: "me".into(),
            gossip: at,
            roles: vec![(role, at)],
            incarnation: 1,
        })
    }

    #[tokio::test]
    async fn a_process_without_database_or_owners_lives_and_is_not_ready() {
        let (health, database) = (Health::new(), Database::default());
        assert!(!health.state().is_live && !health.state().is_ready());
        health.set_live(true);
        health.look(&database, &alone(Role::History)).await;
        let state = health.state();
        assert!(state.is_live && !state.is_ready());
        assert!(state.faults[0].contains("PostgreSQL is away"), "{state:?}");

        database.0.store(true, Ordering::Relaxed);
        health.look(&database, &alone(Role::History)).await;
        assert!(health.state().is_ready());
        health.look(&database, &alone(Role::Frontend)).await;
        let state = health.state();
        assert!(state.is_live && !state.is_ready());
        assert_eq!(state.faults, ["no history host is there to own shards"]);

        health.look(&database, &alone(Role::History)).await;
        health.set_live(false);
        assert!(!health.state().is_ready(), "it stops");
    }
}
