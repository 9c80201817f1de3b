use super::*;
use std::future::pending;

#[tokio::test]
async fn shutdown_goes_kind_by_kind_and_lanes_go_last() {
    let tasks = Tasks::new("test");
    let shard = tasks.child("shard");
    let order = Arc::new(Mutex::new(Vec::new()));
    for kind in [TaskKind::Lane, TaskKind::Queue, TaskKind::Server] {
        let (token, order) = (shard.token(kind), order.clone());
        shard.spawn(kind, kind.to_string(), async move {
            token.cancelled().await;
            order.lock().push(kind);
        });
    }
    let background = tasks.spawn(TaskKind::Background, "forever", pending::<()>());
    assert_eq!(tasks.running(), 4);
    assert!(tasks.shutdown(Duration::from_secs(10)).await);
    assert_eq!(
        *order.lock(),
        [TaskKind::Server, TaskKind::Queue, TaskKind::Lane]
    );
    assert_eq!(background.await, Err(Stopped));
    assert_eq!(tasks.running(), 0);
}

#[tokio::test]
async fn a_child_stops_alone() {
    let tasks = Tasks::new("test");
    let shard = tasks.child("shard");
    let outer = tasks.token(TaskKind::Queue);
    let stay = tasks.spawn(
        TaskKind::Queue,
        "outer",
        async move { outer.cancelled().await },
    );
    let inner = shard.token(TaskKind::Queue);
    shard.spawn(
        TaskKind::Queue,
        "inner",
        async move { inner.cancelled().await },
    );
    assert!(shard.shutdown(Duration::from_secs(10)).await);
    assert!(!stay.is_finished());
    assert!(tasks.shutdown(Duration::from_secs(10)).await);
    assert_eq!(stay.await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn whoever_holds_on_is_aborted_at_the_deadline() {
    let tasks = Tasks::new("test");
    let child = tasks.child("child");
    let stuck = child.spawn(TaskKind::Request, "stuck", pending::<()>());
    assert!(!tasks.shutdown(Duration::from_secs(5)).await);
    assert_eq!(stuck.await, Err(Stopped));
}

#[tokio::test]
async fn only_a_fatal_panic_is_reported() {
    let tasks = Tasks::new("test");
    let lane = tasks.child("lanes");
    let request = tasks.spawn(TaskKind::Request, "request", async { panic!("small") });
    let _: Result<(), Stopped> = request.await;
    assert!(tasks.failed().now_or_never().is_none());
    lane.spawn(TaskKind::Lane, "commit", async {
        panic!("range {} lost", 7)
    })
    .await
    .map(|(): ()| ())
    .unwrap_err();
    let failure = tasks.failed().await;
    assert_eq!(
        (failure.name.as_str(), failure.reason.as_str()),
        ("test/lanes/commit", "range 7 lost")
    );
}

/// A long-lived task that panics is started again and counted; it ends when it returns.
#[tokio::test(start_paused = true)]
async fn a_long_lived_task_that_panics_is_started_again() {
    let (tasks, metrics) = (Tasks::new("t"), crate::Metrics::new());
    tasks.count_restarts(&metrics);
    let starts = Arc::new(AtomicUsize::new(0));
    let counted = starts.clone();
    let kept = tasks
        .child("c")
        .spawn_restarting(TaskKind::Queue, "queue", move || {
            let start = counted.fetch_add(1, Ordering::SeqCst);
            async move { assert!(start >= 2, "not yet") }
        });
    kept.await.unwrap();
    assert_eq!(starts.load(Ordering::SeqCst), 3);
    let text = metrics.text();
    let line = "meridian_task_restarts_total{task=\"queue\"} 2";
    assert!(text.contains(line), "{text}");
}
