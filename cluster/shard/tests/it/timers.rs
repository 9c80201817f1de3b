//! Timer rows: none is lost when the store is slow or clocks disagree.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use cluster_runtime::Tasks;
use cluster_shard::ShardsOptions;
use namespaces::Registry;
use proto_ids::{ShardId, Timestamp};
use schema_store::memory::MemoryStore;

use crate::world::{HostClock, World, alone, at_once, namespace, quick, until};

const SHARD: ShardId = ShardId::new(1);

fn options() -> ShardsOptions {
    ShardsOptions {
        shard_count: 1,
        near_timer: Duration::from_millis(10),
        ..quick()
    }
}

fn on_a_host(clock: Arc<HostClock>) -> World {
    let registry = Registry::fixed(vec![namespace()]);
    let store = MemoryStore::new().store();
    World::member(
        alone(),
        Tasks::new("test"),
        store,
        options(),
        registry,
        false,
        clock,
    )
}

fn first_row(world: &World) -> Option<Timestamp> {
    let rows = world
        .base
        .execution
        .timer_read(SHARD, Default::default(), Timestamp::MAX, 1);
    at_once(rows).unwrap().first().map(|row| row.fire_at)
}

/// The rows of the next window cannot be read for a while. What fires and ends meanwhile must not trim the
/// rows that nobody has read yet.
#[tokio::test]
async fn timers_whose_rows_are_read_late_are_kept() {
    let options = ShardsOptions {
        timer_window: Duration::from_secs(2),
        ..options()
    };
    let world = World::with(options, namespace(), false);
    world.start("far").await.unwrap();
    world.start("near").await.unwrap();
    world.start_timer("far", Duration::from_secs(3)).await;
    world.faults.no_timer_reads.store(true, Ordering::SeqCst);
    // Due within the window that could not be read, after the one of which only the row knows.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    world.start_timer("near", Duration::from_millis(900)).await;
    until("the timer in memory fires", || world.fired("near")).await;
    // Positions are written meanwhile.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!world.fired("far"), "it was not read");
    let world = world.crash().await;
    world.assert_nothing_is_forgotten(SHARD).await;
    until("the next owner finds it", || world.fired("far")).await;
}

/// How far the timers of one host's clock have fired says nothing about the rows that another host writes.
#[tokio::test]
async fn timers_survive_an_owner_whose_clock_was_ahead() {
    let ahead = on_a_host(HostClock::ahead(Duration::from_secs(20)));
    ahead.start("a").await.unwrap();
    ahead.start_timer("a", Duration::from_millis(100)).await;
    let row = first_row(&ahead);
    assert!(row.is_some());
    until("it fires and is trimmed", || first_row(&ahead) != row).await;
    let right = ahead.crash_to(Arc::default()).await;
    right.start("b").await.unwrap();
    right.start_timer("b", Duration::from_secs(4)).await;
    let next = right.crash_to(Arc::default()).await;
    until("it fires", || next.fired("b")).await;
}

/// The same when the clock of one owner is set back.
#[tokio::test]
async fn timers_survive_a_clock_that_is_set_back() {
    let world = on_a_host(HostClock::ahead(Duration::from_secs(20)));
    world.start("a").await.unwrap();
    world.start("b").await.unwrap();
    world.start_timer("a", Duration::from_millis(100)).await;
    let row = first_row(&world);
    until("it fires and is trimmed", || first_row(&world) != row).await;
    world.clock.ahead_nanos.store(0, Ordering::SeqCst);
    world.start_timer("b", Duration::from_secs(4)).await;
    let next = world.crash_to(Arc::default()).await;
    until("it fires", || next.fired("b")).await;
}

/// A timer that fired and ended leaves no row behind, whatever the clocks say.
#[tokio::test]
async fn rows_of_ended_timers_go() {
    let world = on_a_host(Arc::default());
    world.start("a").await.unwrap();
    world.start("b").await.unwrap();
    world.start_timer("a", Duration::from_millis(100)).await;
    world.start_timer("b", Duration::from_millis(200)).await;
    let rows = world.timer_rows(SHARD);
    until("both are gone", || world.timer_rows(SHARD) + 2 == rows).await;
    assert!(world.fired("a") && world.fired("b"));
    world.assert_nothing_is_forgotten(SHARD).await;
}
