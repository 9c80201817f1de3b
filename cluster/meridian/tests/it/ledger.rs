//! What servers acknowledged, and the judgement at the end: every acknowledged start, signal and completion
//! is in the histories, each exactly once, and every workflow came to its end in one run.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use proto_messages::temporal::api::{
    history::v1::{HistoryEvent, history_event::Attributes},
    workflowservice::v1::CountWorkflowExecutionsRequest,
};
use scenarios_load::{
    client::{Client, WORKFLOW_TYPE, Whose},
    connect::timed,
    script::{Script, Step},
    worker::{WorkerEvent, WorkerObserver},
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

/// How long a client repeats one call.
const PATIENCE: Duration = Duration::from_secs(40);

/// Between two attempts of a call.
const BETWEEN: Duration = Duration::from_millis(30);

/// The signal that ends the long-lived workflows.
const FINISH: &str = "finish";

/// Acknowledged calls.
#[derive(Default)]
pub(crate) struct Ledger {
    /// Runs by workflow.
    started: Mutex<BTreeMap<String, String>>,
    /// Workflow and name.
    signalled: Mutex<BTreeSet<(String, String)>>,
    /// Workflow task answers by run: their started event.
    answered: Mutex<HashMap<String, Vec<i64>>>,
    /// Activity answers: run and activity.
    activities: Mutex<BTreeSet<(String, String)>>,
    /// Runs whose closing answer was acknowledged.
    closed: Mutex<BTreeSet<String>>,
}

impl WorkerObserver for Ledger {
    fn observe(&self, event: WorkerEvent<'_>) {
        match event {
            WorkerEvent::WorkflowTaskAnswered {
                run_id,
                started_event_id,
                closing,
                outcome: Ok(()),
                ..
            } => {
                let mut answered = self.answered.lock();
                let of_run = answered.entry(run_id.to_owned()).or_default();
                of_run.push(started_event_id);
                if closing {
                    self.closed.lock().insert(run_id.to_owned());
                }
            }
            WorkerEvent::ActivityAnswered {
                run_id,
                activity_id,
                outcome: Ok(()),
                ..
            } => {
                let activity = (run_id.to_owned(), activity_id.to_owned());
                self.activities.lock().insert(activity);
            }
            _ => {}
        }
    }
}

/// Clients that start and signal workflows, whatever happens to the server.
pub(crate) struct Traffic {
    ledger: Arc<Ledger>,
    client: Client,
    next: AtomicU64,
    stop: CancellationToken,
}

impl Traffic {
    pub(crate) fn new(client: Client, ledger: Arc<Ledger>) -> Arc<Self> {
        Arc::new(Self {
            ledger,
            client,
            next: AtomicU64::new(0),
            stop: CancellationToken::new(),
        })
    }

    /// Begins `clients` clients, each with one long-lived workflow that it signals again and again, beside
    /// orders: an activity, a timer, a signal.
    pub(crate) fn run(self: &Arc<Self>, clients: usize) -> JoinSet<()> {
        (0..clients).map(|n| self.clone().one_client(n)).collect()
    }

    /// How many orders were started so far.
    pub(crate) fn orders(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    /// No more orders; what was begun is finished.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    async fn one_client(self: Arc<Self>, n: usize) {
        let cart = format!("cart-{n}");
        self.start(&cart, vec![Step::Until(FINISH.to_owned())])
            .await;
        while !self.stop.is_cancelled() {
            let k = self.next.fetch_add(1, Ordering::Relaxed);
            let order = format!("order-{k}");
            let steps = vec![
                Step::Activities(1),
                Step::Timers(vec![20]),
                Step::Signals(1),
            ];
            self.start(&order, steps).await;
            self.signal(&cart, &format!("item-{k}")).await;
            self.signal(&order, &format!("paid-{k}")).await;
        }
        self.signal(&cart, FINISH).await;
    }

    async fn start(&self, id: &str, steps: Vec<Step>) {
        let script = Script {
            steps,
            ..Default::default()
        };
        let input = script.input(64);
        let run = persist(|| self.client.start(id, id, &input)).await;
        let run = run.unwrap_or_else(|e| panic!("start {id}: {e}"));
        self.ledger.started.lock().insert(id.to_owned(), run);
    }

    async fn signal(&self, id: &str, name: &str) {
        let request = format!("{id}/{name}");
        let sent = persist(|| self.client.signal(id, name, &request)).await;
        sent.unwrap_or_else(|e| panic!("signal {name} of {id}: {e}"));
        let signal = (id.to_owned(), name.to_owned());
        self.ledger.signalled.lock().insert(signal);
    }
}

/// Repeats a call, with the same request id, for as long as nobody is there to answer it.
async fn persist<T, F>(mut call: impl FnMut() -> F) -> Result<T, Status>
where
    F: Future<Output = Result<T, Status>>,
{
    let begun = tokio::time::Instant::now();
    loop {
        match call().await {
            Err(status) if begun.elapsed() < PATIENCE && passing(&status) => {}
            other => return other,
        }
        tokio::time::sleep(BETWEEN).await;
    }
}

/// Whether a failure is one of a server that is away, and not an answer.
fn passing(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable
            | Code::DeadlineExceeded
            | Code::Cancelled
            | Code::Unknown
            | Code::Internal
            | Code::ResourceExhausted
            | Code::Aborted
    )
}

impl Ledger {
    /// Waits until everything started has ended, then looks at every history.
    pub(crate) async fn judge(self: &Arc<Self>, client: &Client, within: Duration) {
        let started = self.started.lock().clone();
        let count = started.len();
        assert!(count > 0, "nothing was started");
        let mut judging = JoinSet::new();
        for (id, run) in started {
            let (ledger, client) = (self.clone(), client.clone());
            judging.spawn(async move {
                let closed = persist(|| client.closing_event(&id, &run, Whose::Any));
                let closed = tokio::time::timeout(within, closed).await;
                let history = persist(|| client.history(&id, &run, Whose::Any)).await;
                let history = history.map_err(|e| format!("{id} {run}: {e}"))?;
                match closed {
                    Ok(Ok(_)) => ledger.judge_run(&id, &run, &history),
                    Ok(Err(status)) => Err(format!("{id} {run}: {status}")),
                    Err(_) => Err(format!("{id} {run} is stuck: {}", sketch(&history))),
                }
            });
        }
        let mut wrong = Vec::new();
        for judged in judging.join_all().await {
            wrong.extend(judged.err());
        }
        assert!(
            wrong.is_empty(),
            "{} of {count} runs are wrong:\n{}",
            wrong.len(),
            wrong[..wrong.len().min(12)].join("\n")
        );
        one_run_each(client, count).await;
    }

    /// What is acknowledged by now; later calls do not change it.
    pub(crate) fn snapshot(&self) -> Self {
        Self {
            started: Mutex::new(self.started.lock().clone()),
            signalled: Mutex::new(self.signalled.lock().clone()),
            answered: Mutex::new(self.answered.lock().clone()),
            activities: Mutex::new(self.activities.lock().clone()),
            closed: Mutex::new(self.closed.lock().clone()),
        }
    }

    /// Looks at every history for what was acknowledged, whether or not the run has ended.
    pub(crate) async fn judge_kept(&self, client: &Client) {
        let started = self.started.lock().clone();
        assert!(!started.is_empty(), "nothing was started");
        let mut wrong = Vec::new();
        for (id, run) in &started {
            match client.history(id, run, Whose::Any).await {
                Ok(history) => wrong.extend(self.judge_events(id, run, &history).err()),
                Err(status) => wrong.push(format!("{id} {run}: {status}")),
            }
        }
        let few = &wrong[..wrong.len().min(12)];
        assert!(
            wrong.is_empty(),
            "{} wrong:\n{}",
            wrong.len(),
            few.join("\n")
        );
    }

    fn judge_run(&self, id: &str, run: &str, history: &[HistoryEvent]) -> Result<(), String> {
        self.judge_events(id, run, history)?;
        match history.last().and_then(|e| e.attributes.as_ref()) {
            Some(Attributes::WorkflowExecutionCompletedEventAttributes(_)) => Ok(()),
            _ => Err(format!(
                "{id} {run}: does not end in completion: {}",
                sketch(history)
            )),
        }
    }

    fn judge_events(&self, id: &str, run: &str, history: &[HistoryEvent]) -> Result<(), String> {
        let wrong = |what: String| Err(format!("{id} {run}: {what}: {}", sketch(history)));
        let mut signals: HashMap<&str, usize> = HashMap::new();
        let mut scheduled: HashMap<i64, &str> = HashMap::new();
        let mut tasks = Vec::new();
        let mut activities = Vec::new();
        for (event, expected) in history.iter().zip(1..) {
            if event.event_id != expected {
                return wrong(format!("event {} where {expected} was due", event.event_id));
            }
            match event.attributes.as_ref() {
                Some(Attributes::WorkflowExecutionSignaledEventAttributes(a)) => {
                    *signals.entry(a.signal_name.as_str()).or_default() += 1;
                }
                Some(Attributes::ActivityTaskScheduledEventAttributes(a)) => {
                    scheduled.insert(event.event_id, a.activity_id.as_str());
                }
                Some(Attributes::ActivityTaskCompletedEventAttributes(a)) => {
                    activities.extend(scheduled.get(&a.scheduled_event_id).copied());
                }
                Some(Attributes::WorkflowTaskCompletedEventAttributes(a)) => {
                    tasks.push(a.started_event_id);
                }
                _ => {}
            }
        }
        for (_, name) in self.signalled.lock().iter().filter(|(w, _)| w == id) {
            if signals.get(name.as_str()).copied() != Some(1) {
                return wrong(format!("acknowledged signal {name} is not there once"));
            }
        }
        if let Some((name, n)) = signals.iter().find(|(_, n)| **n != 1) {
            return wrong(format!("signal {name} is there {n} times"));
        }
        for started in self.answered.lock().get(run).into_iter().flatten() {
            if !tasks.contains(started) {
                return wrong(format!("acknowledged task answer {started} is missing"));
            }
        }
        for (_, activity) in self.activities.lock().iter().filter(|(r, _)| r == run) {
            if !activities.contains(&activity.as_str()) {
                return wrong(format!("acknowledged activity {activity} is missing"));
            }
        }
        Ok(())
    }

    /// What was acknowledged, for the log.
    pub(crate) fn counts(&self) -> String {
        format!(
            "{} starts, {} signals, {} activities, {} closings acknowledged",
            self.started.lock().len(),
            self.signalled.lock().len(),
            self.activities.lock().len(),
            self.closed.lock().len(),
        )
    }
}

/// As many runs as workflows, and none open: no id has two runs.
async fn one_run_each(client: &Client, count: usize) {
    let all = format!("WorkflowType = '{WORKFLOW_TYPE}'");
    let open = format!("{all} AND ExecutionStatus = 'Running'");
    let begun = tokio::time::Instant::now();
    loop {
        let found = (number(client, &all).await, number(client, &open).await);
        if found == (count as i64, 0) {
            return;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "visibility tells of {} runs, {} of them open, where {count} were started and closed",
            found.0,
            found.1
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn number(client: &Client, query: &str) -> i64 {
    let request = CountWorkflowExecutionsRequest {
        namespace: client.namespace().to_owned(),
        query: query.to_owned(),
    };
    let request = timed(request, Duration::from_secs(5));
    let mut api = client.connections().api();
    let answer = api.count_workflow_executions(request).await;
    answer.expect("count").into_inner().count
}

/// A history in short.
fn sketch(history: &[HistoryEvent]) -> String {
    let kinds: Vec<String> = history
        .iter()
        .map(|e| format!("{} {:?}", e.event_id, e.event_type()))
        .collect();
    let kinds = &kinds[kinds.len().saturating_sub(14)..];
    kinds.join(", ")
}
