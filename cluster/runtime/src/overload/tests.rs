use super::*;

fn overload() -> Overload {
    Overload::new(
        Settings::of([("system.maxInFlightRequests", 8)]),
        &Metrics::default(),
    )
}

/// Holds the one thread of a test's runtime up, again and again, as too many calls would.
async fn stall(overload: &Overload, windows: u32) {
    for _ in 0..windows {
        overload.commit_begins(Duration::from_millis(2_800));
        tokio::time::sleep(WINDOW + LOOK_EVERY).await;
        overload.commit_ended();
    }
}

#[test]
fn places_in_flight_end_at_the_limit_and_come_back() {
    let overload = overload();
    let take = |class| overload.admit(class, None);
    let starts: Vec<_> = (0..4).map(|_| take(Class::Start).unwrap()).collect();
    assert_eq!(take(Class::Start).unwrap_err(), Refused::InFlight);
    let reads: Vec<_> = (0..2).map(|_| take(Class::Read).unwrap()).collect();
    assert_eq!(take(Class::Read).unwrap_err(), Refused::InFlight);
    let _event = take(Class::Event).unwrap();
    assert_eq!(take(Class::Event).unwrap_err(), Refused::InFlight);
    let _progress = take(Class::Progress).unwrap();
    assert_eq!(take(Class::Progress).unwrap_err(), Refused::InFlight);
    drop((starts, reads));
    take(Class::Start).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_standing_delay_refuses_new_work_and_lets_completions_in() {
    let overload = overload();
    let tasks = Tasks::new("test");
    overload.start(&tasks);
    let admitted = |class| {
        (0..100)
            .filter(|_| overload.admit(class, None).is_ok())
            .count()
    };
    assert_eq!(admitted(Class::Start), 100);
    stall(&overload, 2).await;
    assert_eq!(admitted(Class::Start), 100, "a stall is no overload");
    stall(&overload, 10).await;
    assert!(admitted(Class::Start) < 50);
    assert_eq!(admitted(Class::Progress), 100);
    // It is over: all come in again.
    tokio::time::sleep(40 * WINDOW).await;
    assert_eq!(admitted(Class::Start), 100);
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_caller_will_have_left_is_refused_at_once() {
    let overload = overload();
    overload.commit_begins(Duration::ZERO);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let admit = |class, left| {
        overload
            .admit(class, Some(Duration::from_secs(left)))
            .map(drop)
    };
    assert_eq!(admit(Class::Event, 2), Err(Refused::Deadline));
    assert_eq!(admit(Class::Event, 4), Ok(()));
    // A worker's completion counts even when its answer is lost.
    assert_eq!(admit(Class::Progress, 2), Ok(()));
    assert_eq!(admit(Class::Progress, 0), Err(Refused::Deadline));
    overload.commit_ended();
    assert_eq!(admit(Class::Start, 2), Ok(()));
}

#[test]
fn new_work_is_refused_for_a_queue_that_is_behind_while_the_process_is_overloaded() {
    let overload = overload();
    let queue = overload.queue("orders", "q");
    let sticky = overload.queue("orders", "q");
    let admit = |name: &str| overload.admit_to_queue("orders", name);
    queue.tell(10_000, 2_000.0);
    assert_eq!(admit("q"), Ok(()), "there is time to spare");
    overload.0.is_busy.store(true, Ordering::Relaxed);
    assert_eq!(admit("q"), Err(Refused::Behind));
    assert_eq!(admit("another"), Ok(()));
    queue.tell(100, 2_000.0);
    assert_eq!(admit("q"), Ok(()), "a moment's worth");
    queue.tell(101, 2_000.0);
    assert_eq!(admit("q"), Err(Refused::Behind));
    queue.tell(64, 0.0);
    assert_eq!(admit("q"), Ok(()));
    sticky.tell(65, 0.0);
    assert_eq!(admit("q"), Err(Refused::Behind));
    overload.0.is_busy.store(false, Ordering::Relaxed);
    overload.0.shares.shrink(Class::Start);
    assert_eq!(admit("q"), Err(Refused::Behind));
    drop(sticky);
    drop(queue);
    assert_eq!(admit("q"), Ok(()));
}
