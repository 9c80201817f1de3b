"""Workflows and activities of the smoke suite."""

import asyncio
from dataclasses import dataclass
from datetime import timedelta

from temporalio import activity, workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, CancelledError, ChildWorkflowError

QUICK = timedelta(seconds=20)


@activity.defn
async def greet(name: str) -> str:
    return f"Hello, {name}"


@activity.defn
async def fails_twice() -> int:
    attempt = activity.info().attempt
    if attempt < 3:
        raise ApplicationError(f"attempt {attempt}")
    return attempt


@activity.defn
async def fails_for_good() -> None:
    raise ApplicationError("no way", type="Hopeless", non_retryable=True)


@activity.defn
async def sleeps(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "slept"


@activity.defn
async def resumes_from_heartbeat() -> str:
    details = activity.info().heartbeat_details
    if not details:
        activity.heartbeat("half")
        # Silent beyond the heartbeat timeout.
        await asyncio.sleep(30)
    return f"resumed from {details[0]}"


@activity.defn
async def heartbeats_until_cancelled() -> str:
    try:
        while True:
            activity.heartbeat()
            await asyncio.sleep(0.1)
    except asyncio.CancelledError:
        return "cancelled politely"


@activity.defn
async def completed_elsewhere() -> str:
    activity.raise_complete_async()


@workflow.defn
class Hello:
    @workflow.run
    async def run(self, name: str) -> str:
        return await workflow.execute_activity(greet, name, start_to_close_timeout=QUICK)


@workflow.defn
class Retries:
    @workflow.run
    async def run(self) -> int:
        return await workflow.execute_activity(
            fails_twice,
            start_to_close_timeout=QUICK,
            retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=50), backoff_coefficient=1.0),
        )


@workflow.defn
class ActivityOutcomes:
    """Runs an activity as told and returns how it ended."""

    @workflow.run
    async def run(self, what: str) -> str:
        once = RetryPolicy(maximum_attempts=1)
        try:
            if what == "non-retryable":
                await workflow.execute_activity(fails_for_good, start_to_close_timeout=QUICK)
            elif what == "start-to-close":
                await workflow.execute_activity(
                    sleeps, 30.0, start_to_close_timeout=timedelta(milliseconds=300), retry_policy=once
                )
            elif what == "schedule-to-start":
                await workflow.execute_activity(
                    greet,
                    "nobody",
                    task_queue="nobody-polls-here",
                    schedule_to_start_timeout=timedelta(milliseconds=300),
                    start_to_close_timeout=QUICK,
                )
            elif what == "schedule-to-close":
                await workflow.execute_activity(
                    sleeps, 30.0, schedule_to_close_timeout=timedelta(milliseconds=500), retry_policy=once
                )
            elif what == "heartbeat":
                return await workflow.execute_activity(
                    resumes_from_heartbeat,
                    start_to_close_timeout=QUICK,
                    heartbeat_timeout=timedelta(milliseconds=500),
                    retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=50)),
                )
            elif what == "cancel":
                handle = workflow.start_activity(
                    heartbeats_until_cancelled,
                    start_to_close_timeout=QUICK,
                    heartbeat_timeout=timedelta(seconds=2),
                    cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
                )
                await workflow.sleep(0.3)
                handle.cancel()
                return await handle
        except ActivityError as error:
            cause = error.cause
            return type(cause).__name__ + ":" + str(getattr(cause, "type", "")).split(".")[-1]
        return "no failure"


@workflow.defn
class CompletedElsewhere:
    @workflow.run
    async def run(self) -> str:
        return await workflow.execute_activity(
            completed_elsewhere, activity_id="by-hand", start_to_close_timeout=QUICK
        )


@workflow.defn
class Basket:
    """Signals change it, queries read it, it ends when told."""

    def __init__(self) -> None:
        self.items: list[str] = []
        self.done = False

    @workflow.run
    async def run(self) -> list[str]:
        await workflow.wait_condition(lambda: self.done)
        return self.items

    @workflow.signal
    def add(self, item: str) -> None:
        self.items.append(item)

    @workflow.signal
    def finish(self) -> None:
        self.done = True

    @workflow.query
    def content(self) -> list[str]:
        return self.items

    @workflow.query
    def broken(self) -> str:
        raise ApplicationError("query refused")


@workflow.defn
class Sleeper:
    @workflow.run
    async def run(self, seconds: float) -> str:
        await workflow.sleep(seconds)
        return "awake"


@workflow.defn
class Timers:
    @workflow.run
    async def run(self, n: int) -> int:
        cancelled = asyncio.create_task(workflow.sleep(60))
        await asyncio.gather(*(workflow.sleep(0.05 * i) for i in range(1, n + 1)))
        cancelled.cancel()
        return n


@workflow.defn
class Parent:
    @workflow.run
    async def run(self, how: str) -> str:
        if how == "result":
            return await workflow.execute_child_workflow(Hello.run, "child", id=f"{workflow.info().workflow_id}-child")
        if how == "fails":
            try:
                await workflow.execute_child_workflow(Fails.run, id=f"{workflow.info().workflow_id}-child")
            except ChildWorkflowError as error:
                return str(error.cause)
        if how == "signal":
            child = await workflow.start_child_workflow(Basket.run, id=f"{workflow.info().workflow_id}-child")
            await child.signal(Basket.add, "from parent")
            await child.signal(Basket.finish)
            return ",".join(await child)
        policy = {
            "terminate": workflow.ParentClosePolicy.TERMINATE,
            "abandon": workflow.ParentClosePolicy.ABANDON,
            "cancel": workflow.ParentClosePolicy.REQUEST_CANCEL,
        }[how]
        await workflow.start_child_workflow(
            Sleeper.run, 60.0, id=f"{workflow.info().workflow_id}-child", parent_close_policy=policy
        )
        return "left it"


@workflow.defn
class Fails:
    @workflow.run
    async def run(self) -> None:
        raise ApplicationError("child failed", type="Planned")


@workflow.defn
class FailsTwice:
    @workflow.run
    async def run(self) -> int:
        attempt = workflow.info().attempt
        if attempt < 3:
            raise ApplicationError(f"run {attempt}")
        return attempt


@workflow.defn
class External:
    @workflow.run
    async def run(self, target: str, how: str) -> str:
        handle = workflow.get_external_workflow_handle(target)
        if how == "signal":
            await handle.signal(Basket.add, "from outside")
            await handle.signal(Basket.finish)
        else:
            await handle.cancel()
        return "done"


@workflow.defn
class Countdown:
    @workflow.run
    async def run(self, n: int) -> str:
        if n > 0:
            workflow.continue_as_new(n - 1)
        return workflow.info().continued_run_id or ""


@workflow.defn
class LocalAndPatched:
    @workflow.run
    async def run(self) -> str:
        patched = workflow.patched("my-change")
        local = await workflow.execute_local_activity(greet, "local", start_to_close_timeout=QUICK)
        return f"{local} {patched}"


@workflow.defn
class CleansUp:
    @workflow.run
    async def run(self) -> str:
        try:
            await workflow.sleep(60)
        except CancelledError:
            raise
        except asyncio.CancelledError:
            await workflow.execute_activity(greet, "cleanup", start_to_close_timeout=QUICK)
            raise
        return "not cancelled"


@workflow.defn
class Upserts:
    @workflow.run
    async def run(self) -> str:
        workflow.upsert_memo({"stage": "two"})
        return workflow.memo_value("stage", type_hint=str)


@workflow.defn
class Tick:
    @workflow.run
    async def run(self) -> int:
        return (workflow.get_last_completion_result(int) or 0) + 1


@workflow.defn
class Relay:
    """Steps of an activity and a timer until told to stop; outlives a failover."""

    def __init__(self) -> None:
        self.steps = 0
        self.stop = False

    @workflow.run
    async def run(self) -> int:
        while not self.stop:
            await workflow.execute_activity(greet, "step", start_to_close_timeout=QUICK)
            self.steps += 1
            await workflow.sleep(0.1)
        return self.steps

    @workflow.signal
    def finish(self) -> None:
        self.stop = True

    @workflow.query
    def progress(self) -> int:
        return self.steps


ALL_WORKFLOWS = [
    Hello, Retries, ActivityOutcomes, CompletedElsewhere, Basket, Sleeper, Timers, Parent, Fails, FailsTwice,
    External, Countdown, LocalAndPatched, CleansUp, Upserts, Tick, Relay,
]
ALL_ACTIVITIES = [
    greet, fails_twice, fails_for_good, sleeps, resumes_from_heartbeat, heartbeats_until_cancelled, completed_elsewhere,
]
