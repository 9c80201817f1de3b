//! The clients: orders in an open loop, each with its signal, and carts that are signalled all the
//! time. A call that fails is repeated with the same request id until it is acknowledged, on the other
//! side too unless clients stay with theirs, as a service that must get its order through does.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use proto_messages::temporal::api::common::v1::Payloads;
use scenarios_load::{
    client::Client,
    script::{Script, Step},
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use super::{Side, heartbeats, interventions};
use crate::{
    definition::Drill,
    oracle::{Op, Oracle, repeatable},
};

/// How long a client goes on repeating one call.
const PATIENCE: Duration = Duration::from_secs(90);

/// How long it waits between attempts.
const BETWEEN: Duration = Duration::from_millis(100);

/// The signal that ends long-lived workflows.
pub(crate) const FINISH: &str = "finish";

/// All clients of a drill.
pub(crate) struct Traffic {
    pub(super) sides: Vec<Side>,
    /// Indexes of the sides with clients.
    homes: Vec<usize>,
    stay: bool,
    orders_per_second: f64,
    cart_signals_per_second: f64,
    carts: Vec<String>,
    shared_every: u64,
    order: Payloads,
    pub(super) oracle: Oracle,
    pub(super) stop: CancellationToken,
    pub(super) interventions_per_second: f64,
    heartbeats: bool,
}

impl Traffic {
    pub(super) fn new(drill: &Drill, sides: Vec<Side>, oracle: Oracle) -> Self {
        let load = &drill.workload;
        let homes = drill
            .client_sides()
            .iter()
            .filter_map(|name| sides.iter().position(|s| s.cluster == *name))
            .collect();
        let timers = load
            .order_timers
            .iter()
            .map(|t| u64::try_from(t.get().as_millis()).unwrap_or(u64::MAX))
            .collect();
        Self {
            sides,
            homes,
            stay: load.clients_stay,
            orders_per_second: load.orders_per_second,
            cart_signals_per_second: load.cart_signals_per_second,
            carts: (0..load.carts).map(|n| format!("cart-{n}")).collect(),
            shared_every: u64::from(load.shared_order_every),
            order: Script {
                steps: vec![
                    Step::Activities(load.order_activities),
                    Step::Timers(timers),
                    Step::Signals(1),
                ],
                ..Default::default()
            }
            .input(128),
            oracle,
            stop: CancellationToken::new(),
            interventions_per_second: load.interventions_per_second,
            heartbeats: load.heartbeats,
        }
    }

    /// Starts the carts on the side that is active first.
    pub(super) async fn open_carts(&self) -> anyhow::Result<()> {
        let script = Script {
            steps: vec![Step::Until(FINISH.to_owned())],
            ..Default::default()
        }
        .input(0);
        for cart in &self.carts {
            let started = self.start(0, cart, &script).await;
            anyhow::ensure!(started.is_some(), "cart {cart} could not be started");
        }
        Ok(())
    }

    /// Tells the carts to end.
    pub(super) async fn close_carts(&self) {
        let home = self.homes.first().copied().unwrap_or_default();
        for cart in &self.carts {
            // Its own name for each, since names of signals identify them in histories; the script
            // looks for the bare name, which therefore is sent to each workflow once.
            self.signal(home, cart, FINISH).await;
        }
    }

    /// Begins the loops of all clients.
    pub(super) fn run(self: Arc<Self>) -> JoinSet<()> {
        let mut loops = JoinSet::new();
        for (n, home) in self.homes.iter().enumerate() {
            loops.spawn(self.clone().order_loop(n, *home));
            loops.spawn(self.clone().cart_loop(n, *home));
            loops.spawn(interventions::run(self.clone(), n, *home));
            let lanes = if self.heartbeats {
                heartbeats::AT_ONCE
            } else {
                0
            };
            for lane in 0..lanes {
                let nth = n * heartbeats::AT_ONCE + lane;
                loops.spawn(heartbeats::run(self.clone(), nth, *home));
            }
        }
        loops
    }

    /// Lets what was begun be finished, and begins nothing more.
    pub(super) fn stop(&self) {
        self.stop.cancel();
    }

    async fn order_loop(self: Arc<Self>, n: usize, home: usize) {
        let gap = Duration::from_secs_f64(self.homes.len() as f64 / self.orders_per_second);
        let mut every = tokio::time::interval(gap);
        let mut open = JoinSet::new();
        for k in 1u64.. {
            if self.stop.run_until_cancelled(every.tick()).await.is_none() {
                break;
            }
            let shared = self.shared_every > 0 && k.is_multiple_of(self.shared_every);
            let id = if shared {
                format!("order-shared-{k}")
            } else {
                format!("order-{}-{k}", self.sides[home].cluster)
            };
            open.spawn(self.clone().one_order(n, home, id));
            while open.try_join_next().is_some() {}
        }
        while open.join_next().await.is_some() {}
    }

    /// An order: start it and, a little later, signal it.
    async fn one_order(self: Arc<Self>, n: usize, home: usize, id: String) {
        if self.start(home, &id, &self.order).await.is_none() {
            return;
        }
        // Spread over the workflow's life, and never the same on two sides.
        let pause = Duration::from_millis(100 + (id.len() as u64 * 37 + n as u64 * 211) % 900);
        tokio::time::sleep(pause).await;
        self.signal(home, &id, &format!("paid-{id}-{n}")).await;
    }

    async fn cart_loop(self: Arc<Self>, n: usize, home: usize) {
        if self.carts.is_empty() || self.cart_signals_per_second <= 0.0 {
            return;
        }
        let gap = Duration::from_secs_f64(self.homes.len() as f64 / self.cart_signals_per_second);
        let mut every = tokio::time::interval(gap);
        let mut open = JoinSet::new();
        let next = AtomicU64::new(0);
        while self.stop.run_until_cancelled(every.tick()).await.is_some() {
            let k = next.fetch_add(1, Ordering::Relaxed);
            let cart = self.carts[k as usize % self.carts.len()].clone();
            let name = format!("item-{n}-{k}");
            let this = self.clone();
            open.spawn(async move { this.signal(home, &cart, &name).await });
            while open.try_join_next().is_some() {}
        }
        while open.join_next().await.is_some() {}
    }

    /// Starts a workflow, repeating until acknowledged; its run. `None` when it exists already or
    /// patience ended.
    pub(super) async fn start(&self, home: usize, id: &str, input: &Payloads) -> Option<String> {
        self.start_by(home, id, input, |side| side.client.clone())
            .await
    }

    /// The same, by clients of another task queue.
    pub(super) async fn start_by(
        &self,
        home: usize,
        id: &str,
        input: &Payloads,
        client: impl Fn(&Side) -> Client,
    ) -> Option<String> {
        let request = format!("{id}@{}", self.sides[home].cluster);
        let deadline = Instant::now() + PATIENCE;
        let mut at = home;
        while Instant::now() < deadline {
            let side = &self.sides[at];
            let begun = Instant::now();
            let outcome = client(side).start(id, &request, input).await;
            let run = outcome.as_deref().unwrap_or_default();
            let known = outcome.as_ref().map(|_| ());
            self.oracle
                .record(&side.cluster, Op::Start, id, run, begun.elapsed(), known);
            match outcome {
                Ok(run) => return Some(run),
                // Somebody else's order of the same id; on this side it is a signal's target all the same.
                Err(status) if status.code() == Code::AlreadyExists => return Some(String::new()),
                Err(status) if repeatable(&status) => at = self.elsewhere(home, at),
                Err(_) => return None,
            }
            tokio::time::sleep(BETWEEN).await;
        }
        None
    }

    /// Signals a workflow, repeating until acknowledged.
    pub(crate) async fn signal(&self, home: usize, id: &str, name: &str) {
        let op = Op::Signal {
            name: name.to_owned(),
        };
        self.repeat(home, id, &op).await;
    }

    /// Makes a call until it is acknowledged or refused for good.
    pub(super) async fn repeat(&self, home: usize, id: &str, op: &Op) {
        let deadline = Instant::now() + PATIENCE;
        let mut at = home;
        while Instant::now() < deadline {
            let side = &self.sides[at];
            let begun = Instant::now();
            let outcome = attempt(&side.client, id, op).await;
            let known = outcome.as_ref().copied();
            self.oracle
                .record(&side.cluster, op.clone(), id, "", begun.elapsed(), known);
            match outcome {
                Ok(()) => return,
                Err(status) if repeatable(&status) => at = self.elsewhere(home, at),
                // Closed already, or lost with its start.
                Err(_) => return,
            }
            tokio::time::sleep(BETWEEN).await;
        }
    }

    /// Where to try next.
    fn elsewhere(&self, home: usize, at: usize) -> usize {
        if self.stay {
            home
        } else {
            (at + 1) % self.sides.len()
        }
    }
}

/// One attempt of a call that may be repeated: what it carries makes the repetition harmless.
async fn attempt(client: &Client, id: &str, op: &Op) -> Result<(), Status> {
    match op {
        Op::Signal { name } => client.signal(id, name, &format!("{id}/{name}")).await,
        Op::Cancel { reason } => client.cancel(id, reason, reason).await,
        Op::Terminate { reason } => client.terminate(id, reason).await,
        Op::Start
        | Op::Reset { .. }
        | Op::WorkflowTask { .. }
        | Op::Activity { .. }
        | Op::Heartbeat { .. }
        | Op::Attempt { .. } => Err(Status::invalid_argument(format!(
            "a {} is not repeated this way",
            op.name()
        ))),
    }
}
