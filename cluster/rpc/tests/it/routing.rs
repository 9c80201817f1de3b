//! Calls find the service in this process or at its owner, and follow ownership when it moves.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use cluster_membership::{ContactError, Contacts, Join, Member, Membership, Role, Timing};
use cluster_rpc::{
    ChannelOptions, Channels, HistoryClient, INTERNAL_MESSAGE_BYTES_MAX, Listener, Security,
    ServeOptions, history::shard_key, status, tuned,
};
use cluster_runtime::{SystemClock, Tasks};
use proto_messages::{
    meridian::history::v1::StartWorkflowExecutionRequest,
    temporal::api::workflowservice::v1::{self as api, StartWorkflowExecutionResponse},
};
use proto_services::meridian::history::v1::history_service_server::{
    HistoryService, HistoryServiceServer,
};
use tonic::{Code, Request, Response, Status};

/// Says that it has lost the shard for the first `losses` calls, then answers with its name.
#[derive(Default)]
pub struct Named {
    pub name: &'static str,
    pub losses: AtomicU32,
    pub hangs: AtomicBool,
}

/// Members of one test.
#[derive(Default)]
struct Known(std::sync::Mutex<Vec<Member>>);

#[tonic::async_trait]
impl Contacts for Known {
    async fn announce(&self, me: &Member) -> Result<(), ContactError> {
        let mut known = self.0.lock().unwrap();
        known.retain(|m| m.id != me.id);
        known.push(me.clone());
        Ok(())
    }

    async fn recent(&self) -> Result<Vec<Member>, ContactError> {
        Ok(self.0.lock().unwrap().clone())
    }

    async fn withdraw(&self, me: &Member) -> Result<(), ContactError> {
        self.0.lock().unwrap().retain(|m| m.id != me.id);
        Ok(())
    }
}

/// One process of two.
struct Process {
    tasks: Tasks,
    service: Arc<Named>,
    membership: Membership,
    client: HistoryClient,
}

impl Process {
    async fn start(name: &'static str, known: Arc<Known>) -> Self {
        let any = ([127, 0, 0, 1], 0).into();
        let tasks = Tasks::new(name);
        let listener = Listener::bind(any, None, ServeOptions::internal())
            .await
            .unwrap();
        let join = Join {
            member: Member {
                id: name.into(),
                gossip: any,
                roles: vec![(Role::History, listener.address())],
                incarnation: 0,
            },
            bind: any,
            cluster: "test".into(),
            key: b"secret".to_vec(),
            metrics: Default::default(),
            contacts: known,
            timing: Timing::default(),
        };
        let service = Arc::new(Named {
            name,
            ..Named::default()
        });
        let server = HistoryServiceServer::from_arc(service.clone());
        listener.serve(
            &tasks,
            "history",
            tonic::service::Routes::new(tuned!(server, INTERNAL_MESSAGE_BYTES_MAX)),
        );
        let membership = Membership::join(join, &SystemClock::shared(), &tasks)
            .await
            .unwrap();
        let channels = Channels::new(Security::Plain, ChannelOptions::within_cluster());
        let client = HistoryClient::routed(membership.clone(), channels, 16);
        client.set_local(service.clone());
        Self {
            tasks,
            service,
            membership,
            client,
        }
    }

    /// A workflow whose shard belongs to that member.
    fn workflow_of(&self, owner: &str) -> String {
        let ring = self.membership.ring(Role::History);
        (0..1_000)
            .map(|n: u32| n.to_string())
            .find(|w| {
                ring.owner(&shard_key(self.client.shard_of("n", w)))
                    .unwrap()
                    .id
                    == owner
            })
            .unwrap()
    }
}

#[tonic::async_trait]
impl HistoryService for Named {
    async fn start_workflow_execution(
        &self,
        _: Request<StartWorkflowExecutionRequest>,
    ) -> Result<Response<StartWorkflowExecutionResponse>, Status> {
        if self.hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        let left = self
            .losses
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        if left.is_ok() {
            return Err(status::shard_ownership_lost("elsewhere", self.name));
        }
        Ok(Response::new(StartWorkflowExecutionResponse {
            run_id: self.name.into(),
            ..Default::default()
        }))
    }
}

pub fn start(workflow_id: &str) -> StartWorkflowExecutionRequest {
    let request = api::StartWorkflowExecutionRequest {
        workflow_id: workflow_id.into(),
        ..Default::default()
    };
    StartWorkflowExecutionRequest {
        namespace_id: "n".into(),
        request: Some(request),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_local_call_is_made_again_after_a_lost_shard() {
    let client = HistoryClient::local(4);
    let mut impatient = Request::new(start("w"));
    impatient.set_timeout(Duration::from_millis(1));
    let early = client
        .start_workflow_execution(impatient)
        .await
        .unwrap_err();
    assert_eq!(early.code(), Code::Unavailable, "{early}");
    client.set_local(Arc::new(Named {
        name: "here",
        losses: AtomicU32::new(2),
        ..Named::default()
    }));
    // Spawned, as handlers are: the future has to be Send.
    let answer = tokio::spawn(async move { client.start_workflow_execution(start("w")).await });
    assert_eq!(answer.await.unwrap().unwrap().run_id, "here");
}

#[tokio::test]
async fn calls_go_to_the_owner_and_to_the_next_one_when_it_dies() {
    let known = Arc::new(Known::default());
    let a = Process::start("a", known.clone()).await;
    let b = Process::start("b", known).await;
    a.membership
        .wait_for(Role::History, 2, Duration::from_secs(10))
        .await
        .unwrap();
    b.membership
        .wait_for(Role::History, 2, Duration::from_secs(10))
        .await
        .unwrap();
    let (on_a, on_b) = (a.workflow_of("a"), a.workflow_of("b"));
    for client in [&a.client, &b.client] {
        assert_eq!(
            client
                .start_workflow_execution(start(&on_a))
                .await
                .unwrap()
                .run_id,
            "a"
        );
        assert_eq!(
            client
                .start_workflow_execution(start(&on_b))
                .await
                .unwrap()
                .run_id,
            "b"
        );
    }
    // A remote owner that has lost the shard is asked again.
    b.service.losses.store(1, Ordering::SeqCst);
    assert_eq!(
        a.client
            .start_workflow_execution(start(&on_b))
            .await
            .unwrap()
            .run_id,
        "b"
    );

    // A member that stops answering while it holds a call, as when its machine is gone.
    b.service.hangs.store(true, Ordering::SeqCst);
    let client = a.client.clone();
    let call = tokio::spawn(async move { client.start_workflow_execution(start(&on_b)).await });
    b.tasks.kill().await;
    assert_eq!(call.await.unwrap().unwrap().run_id, "a");
    assert!(a.tasks.shutdown(Duration::from_secs(10)).await);
}
