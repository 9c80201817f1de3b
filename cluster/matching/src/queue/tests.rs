use cluster_runtime::ManualClock;

use super::*;

fn queue(sticky: bool) -> Arc<Queue> {
    let clock = ManualClock::new(1_000_000_000);
    let key = TaskQueueKey {
        namespace_id: "ns".into(),
        name: "q".into(),
        kind: 1,
    };
    let overload = Overload::default();
    Arc::new(Queue::new(
        key,
        sticky,
        clock,
        &overload,
        "q",
        Default::default(),
    ))
}

fn volatile() -> Waiting {
    Waiting::new(Default::default(), Origin::Volatile)
}

#[tokio::test(start_paused = true)]
async fn waiting_for_a_rate_takes_one_timer_however_many_wait() {
    let queue = queue(false);
    let _first = queue.poll("", "", "worker", Some(0.001));
    queue.offer_volatile(volatile());
    let timers = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    let before = timers();
    let mut parked = Vec::new();
    for _ in 0..100 {
        queue.offer_volatile(volatile());
        parked.push(queue.poll("", "", "worker", None));
    }
    assert!(timers() <= before + 1, "{} timers", timers() - before);
}

#[test]
fn a_sticky_queue_takes_no_more_than_its_limit() {
    let queue = queue(true);
    for _ in 0..VOLATILE_LIMIT {
        assert!(!queue.is_full());
        queue.offer_volatile(volatile());
    }
    assert!(queue.is_full());
}
