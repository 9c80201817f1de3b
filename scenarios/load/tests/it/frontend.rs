//! A frontend in memory: enough of the workflow service for the load's scripts.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, SystemTime},
};

use proto_messages::temporal::api::{
    command::v1::{Command, command::Attributes as Of},
    common::v1::{Payloads, WorkflowExecution},
    enums::v1::{EventType, HistoryEventFilterType},
    history::v1::{
        ActivityTaskCompletedEventAttributes, ActivityTaskScheduledEventAttributes,
        ActivityTaskStartedEventAttributes, History, HistoryEvent, TimerFiredEventAttributes,
        TimerStartedEventAttributes, WorkflowExecutionCompletedEventAttributes,
        WorkflowExecutionSignaledEventAttributes, WorkflowExecutionStartedEventAttributes,
        WorkflowTaskCompletedEventAttributes, WorkflowTaskScheduledEventAttributes,
        WorkflowTaskStartedEventAttributes, history_event::Attributes,
    },
    workflowservice::v1::*,
};
use proto_services::temporal::api::workflowservice::v1::workflow_service_server::{
    WorkflowService, WorkflowServiceServer,
};
use tokio::{
    net::TcpListener,
    sync::{Mutex, MutexGuard, Notify},
    task::JoinSet,
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

/// Events in a page; small, so that every history has several.
const PAGE: usize = 3;

/// A running frontend; dropping it ends it.
pub struct Frontend {
    pub address: String,
    _serving: JoinSet<()>,
}

impl Frontend {
    /// Starts one. With `forget` it sends partial histories to whoever polls, held or not.
    pub async fn start(forget: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address").to_string();
        let service = Service(Arc::new(Shared {
            forget,
            state: Mutex::default(),
            changed: Notify::new(),
        }));
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            tonic::transport::Server::builder()
                .add_service(WorkflowServiceServer::new(service))
                .serve_with_incoming(TcpListenerStream::new(listener))
                .await
                .expect("serve");
        });
        Self {
            address,
            _serving: serving,
        }
    }
}

#[derive(Clone)]
struct Service(Arc<Shared>);

struct Shared {
    forget: bool,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    runs: HashMap<String, Run>,
    /// Run ids by queue name.
    workflow_tasks: HashMap<String, VecDeque<String>>,
    activity_tasks: HashMap<String, VecDeque<(String, i64, String)>>,
}

struct Run {
    id: String,
    queue: String,
    sticky: Option<String>,
    events: Vec<HistoryEvent>,
    task_pending: bool,
    previous_started: i64,
}

impl Run {
    fn push(&mut self, kind: EventType, attributes: Attributes) -> i64 {
        let id = self.events.len() as i64 + 1;
        self.events.push(HistoryEvent {
            event_id: id,
            event_time: Some(SystemTime::now().into()),
            event_type: kind as i32,
            attributes: Some(attributes),
            ..Default::default()
        });
        id
    }

    fn closed(&self) -> bool {
        self.events
            .last()
            .is_some_and(|e| e.event_type() == EventType::WorkflowExecutionCompleted)
    }
}

impl Service {
    async fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().await
    }

    /// Schedules a workflow task unless one is on its way.
    fn schedule(&self, state: &mut State, run_id: &str) {
        let run = state.runs.get_mut(run_id).expect("run");
        if run.task_pending || run.closed() {
            return;
        }
        run.task_pending = true;
        let attributes = WorkflowTaskScheduledEventAttributes::default();
        run.push(
            EventType::WorkflowTaskScheduled,
            Attributes::WorkflowTaskScheduledEventAttributes(attributes),
        );
        let queue = run.sticky.clone().unwrap_or_else(|| run.queue.clone());
        state
            .workflow_tasks
            .entry(queue)
            .or_default()
            .push_back(run_id.to_owned());
        self.0.changed.notify_waiters();
    }

    fn task(
        &self,
        state: &mut State,
        run_id: &str,
        partial: bool,
    ) -> PollWorkflowTaskQueueResponse {
        let run = state.runs.get_mut(run_id).expect("run");
        let attributes = WorkflowTaskStartedEventAttributes::default();
        let started = run.push(
            EventType::WorkflowTaskStarted,
            Attributes::WorkflowTaskStartedEventAttributes(attributes),
        );
        let from = if partial {
            run.previous_started as usize
        } else {
            0
        };
        let until = (from + PAGE).min(run.events.len());
        let next = (until < run.events.len()).then(|| until.to_string());
        PollWorkflowTaskQueueResponse {
            task_token: run_id.to_owned().into(),
            workflow_execution: Some(WorkflowExecution {
                workflow_id: run.id.clone(),
                run_id: run_id.to_owned(),
            }),
            previous_started_event_id: run.previous_started,
            started_event_id: started,
            history: Some(History {
                events: run.events[from..until].to_vec(),
            }),
            next_page_token: next.unwrap_or_default().into(),
            ..Default::default()
        }
    }

    fn command(&self, state: &mut State, run_id: &str, command: Command) {
        let run = state.runs.get_mut(run_id).expect("run");
        match command.attributes.expect("attributes") {
            Of::ScheduleActivityTaskCommandAttributes(a) => {
                let id = a.activity_id.clone();
                let attributes = ActivityTaskScheduledEventAttributes {
                    activity_id: a.activity_id,
                    ..Default::default()
                };
                let event = run.push(
                    EventType::ActivityTaskScheduled,
                    Attributes::ActivityTaskScheduledEventAttributes(attributes),
                );
                let queue = a.task_queue.expect("queue").name;
                let tasks = state.activity_tasks.entry(queue).or_default();
                tasks.push_back((run_id.to_owned(), event, id));
            }
            Of::StartTimerCommandAttributes(a) => {
                let length = a.start_to_fire_timeout;
                let attributes = TimerStartedEventAttributes {
                    timer_id: a.timer_id,
                    start_to_fire_timeout: length,
                    ..Default::default()
                };
                let event = run.push(
                    EventType::TimerStarted,
                    Attributes::TimerStartedEventAttributes(attributes),
                );
                let length = proto_messages::time::duration_from_proto(length.as_ref());
                tokio::spawn(self.clone().fire(run_id.to_owned(), event, length));
            }
            Of::CompleteWorkflowExecutionCommandAttributes(_) => {
                let attributes = WorkflowExecutionCompletedEventAttributes::default();
                run.push(
                    EventType::WorkflowExecutionCompleted,
                    Attributes::WorkflowExecutionCompletedEventAttributes(attributes),
                );
            }
            other => panic!("unexpected command {other:?}"),
        }
    }

    async fn fire(self, run_id: String, started_event_id: i64, length: Duration) {
        tokio::time::sleep(length).await;
        let mut state = self.state().await;
        let attributes = TimerFiredEventAttributes {
            started_event_id,
            ..Default::default()
        };
        state.runs.get_mut(&run_id).expect("run").push(
            EventType::TimerFired,
            Attributes::TimerFiredEventAttributes(attributes),
        );
        self.schedule(&mut state, &run_id);
    }

    fn started(input: Option<Payloads>, queue: &str) -> Attributes {
        Attributes::WorkflowExecutionStartedEventAttributes(
            WorkflowExecutionStartedEventAttributes {
                input,
                task_queue: Some(proto_messages::temporal::api::taskqueue::v1::TaskQueue {
                    name: queue.to_owned(),
                    ..Default::default()
                }),
                ..Default::default()
            },
        )
    }
}

#[async_trait::async_trait]
impl WorkflowService for Service {
    async fn describe_namespace(
        &self,
        request: Request<DescribeNamespaceRequest>,
    ) -> Result<Response<DescribeNamespaceResponse>, Status> {
        match request.get_ref().namespace.as_str() {
            "default" => Ok(Response::new(Default::default())),
            _ => Err(Status::not_found("Namespace absent is not found.")),
        }
    }

    async fn start_workflow_execution(
        &self,
        request: Request<StartWorkflowExecutionRequest>,
    ) -> Result<Response<StartWorkflowExecutionResponse>, Status> {
        let request = request.into_inner();
        let run_id = format!("run-{}", request.workflow_id);
        let queue = request.task_queue.expect("queue").name;
        let mut run = Run {
            id: request.workflow_id,
            queue: queue.clone(),
            sticky: None,
            events: Vec::new(),
            task_pending: false,
            previous_started: 0,
        };
        run.push(
            EventType::WorkflowExecutionStarted,
            Self::started(request.input, &queue),
        );
        let mut state = self.state().await;
        state.runs.insert(run_id.clone(), run);
        self.schedule(&mut state, &run_id);
        Ok(Response::new(StartWorkflowExecutionResponse {
            run_id,
            ..Default::default()
        }))
    }

    async fn signal_workflow_execution(
        &self,
        request: Request<SignalWorkflowExecutionRequest>,
    ) -> Result<Response<SignalWorkflowExecutionResponse>, Status> {
        let request = request.into_inner();
        let run_id = format!(
            "run-{}",
            request.workflow_execution.expect("run").workflow_id
        );
        let mut state = self.state().await;
        // A real server holds signals back while a task is started; here the order does not matter.
        let attributes = WorkflowExecutionSignaledEventAttributes {
            signal_name: request.signal_name,
            ..Default::default()
        };
        let run = state
            .runs
            .get_mut(&run_id)
            .ok_or(Status::not_found("no run"))?;
        run.push(
            EventType::WorkflowExecutionSignaled,
            Attributes::WorkflowExecutionSignaledEventAttributes(attributes),
        );
        self.schedule(&mut state, &run_id);
        Ok(Response::new(Default::default()))
    }

    async fn poll_workflow_task_queue(
        &self,
        request: Request<PollWorkflowTaskQueueRequest>,
    ) -> Result<Response<PollWorkflowTaskQueueResponse>, Status> {
        let queue = request.into_inner().task_queue.expect("queue").name;
        loop {
            let changed = self.0.changed.notified();
            {
                let mut state = self.state().await;
                let next = state
                    .workflow_tasks
                    .get_mut(&queue)
                    .and_then(VecDeque::pop_front);
                if let Some(run_id) = next {
                    let sticky = state.runs[&run_id].sticky.as_ref() == Some(&queue);
                    let partial =
                        sticky || (self.0.forget && state.runs[&run_id].previous_started > 0);
                    return Ok(Response::new(self.task(&mut state, &run_id, partial)));
                }
            }
            changed.await;
        }
    }

    async fn respond_workflow_task_completed(
        &self,
        request: Request<RespondWorkflowTaskCompletedRequest>,
    ) -> Result<Response<RespondWorkflowTaskCompletedResponse>, Status> {
        let request = request.into_inner();
        let run_id = String::from_utf8(request.task_token.to_vec()).expect("token");
        let mut state = self.state().await;
        let run = state.runs.get_mut(&run_id).expect("run");
        let started = run
            .events
            .iter()
            .rev()
            .find(|e| e.event_type() == EventType::WorkflowTaskStarted);
        let started_event_id = started.expect("started").event_id;
        let news = run.events.len() as i64 > started_event_id;
        run.previous_started = started_event_id;
        run.task_pending = false;
        // Without the sticky queue a forgetful frontend sends its partial histories to the normal one.
        run.sticky = request
            .sticky_attributes
            .and_then(|a| a.worker_task_queue)
            .map(|q| q.name)
            .filter(|_| !self.0.forget);
        let attributes = WorkflowTaskCompletedEventAttributes {
            started_event_id,
            ..Default::default()
        };
        run.push(
            EventType::WorkflowTaskCompleted,
            Attributes::WorkflowTaskCompletedEventAttributes(attributes),
        );
        for command in request.commands {
            self.command(&mut state, &run_id, command);
        }
        if news {
            self.schedule(&mut state, &run_id);
        }
        self.0.changed.notify_waiters();
        Ok(Response::new(Default::default()))
    }

    async fn poll_activity_task_queue(
        &self,
        request: Request<PollActivityTaskQueueRequest>,
    ) -> Result<Response<PollActivityTaskQueueResponse>, Status> {
        let queue = request.into_inner().task_queue.expect("queue").name;
        loop {
            let changed = self.0.changed.notified();
            {
                let mut state = self.state().await;
                let next = state
                    .activity_tasks
                    .get_mut(&queue)
                    .and_then(VecDeque::pop_front);
                if let Some((run_id, event, activity_id)) = next {
                    return Ok(Response::new(PollActivityTaskQueueResponse {
                        task_token: format!("{event}/{run_id}").into(),
                        activity_id,
                        ..Default::default()
                    }));
                }
            }
            changed.await;
        }
    }

    async fn respond_activity_task_completed(
        &self,
        request: Request<RespondActivityTaskCompletedRequest>,
    ) -> Result<Response<RespondActivityTaskCompletedResponse>, Status> {
        let token = String::from_utf8(request.get_ref().task_token.to_vec()).expect("token");
        let (event, run_id) = token.split_once('/').expect("token");
        let mut state = self.state().await;
        let run = state.runs.get_mut(run_id).expect("run");
        let started = ActivityTaskStartedEventAttributes::default();
        run.push(
            EventType::ActivityTaskStarted,
            Attributes::ActivityTaskStartedEventAttributes(started),
        );
        let attributes = ActivityTaskCompletedEventAttributes {
            scheduled_event_id: event.parse().expect("number"),
            ..Default::default()
        };
        run.push(
            EventType::ActivityTaskCompleted,
            Attributes::ActivityTaskCompletedEventAttributes(attributes),
        );
        self.schedule(&mut state, run_id);
        Ok(Response::new(Default::default()))
    }

    async fn get_workflow_execution_history(
        &self,
        request: Request<GetWorkflowExecutionHistoryRequest>,
    ) -> Result<Response<GetWorkflowExecutionHistoryResponse>, Status> {
        let request = request.into_inner();
        let run_id = request.execution.clone().expect("run").run_id;
        let close = request.history_event_filter_type() == HistoryEventFilterType::CloseEvent;
        loop {
            let changed = self.0.changed.notified();
            {
                let state = self.state().await;
                let run = state.runs.get(&run_id).ok_or(Status::not_found("no run"))?;
                if close && run.closed() {
                    let events = run.events.last().cloned().into_iter().collect();
                    return Ok(Response::new(GetWorkflowExecutionHistoryResponse {
                        history: Some(History { events }),
                        ..Default::default()
                    }));
                }
                if !close {
                    let token = String::from_utf8_lossy(&request.next_page_token).into_owned();
                    let from: usize = token.parse().unwrap_or(0);
                    let until = (from + PAGE).min(run.events.len());
                    let next = (until < run.events.len()).then(|| until.to_string());
                    return Ok(Response::new(GetWorkflowExecutionHistoryResponse {
                        history: Some(History {
                            events: run.events[from..until].to_vec(),
                        }),
                        next_page_token: next.unwrap_or_default().into(),
                        ..Default::default()
                    }));
                }
            }
            changed.await;
        }
    }
}
