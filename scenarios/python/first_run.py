"""What a first user does with `meridian up`: reads its table from the file that is named, asks each cluster's health,
and starts a workflow that every cluster then knows."""

import asyncio
import re
import sys
import time
import uuid

from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode


async def known(client: Client, workflow_id: str) -> None:
    """Waits until the cluster knows the workflow."""
    end = time.monotonic() + 30
    while True:
        try:
            await client.get_workflow_handle(workflow_id).describe()
            return
        except RPCError as error:
            if error.status != RPCStatusCode.NOT_FOUND or time.monotonic() > end:
                raise
        await asyncio.sleep(0.1)


async def main() -> None:
    with open(sys.argv[1], encoding="utf-8") as printed:
        rows = re.findall(r"^(\w+) +([\w.:]+:\d+) +(active|standby) +serving", printed.read(), re.M)
    assert [role for _, _, role in rows] == ["active", "standby"], f"the table is not as expected: {rows}"
    clients = {name: await Client.connect(address) for name, address, _ in rows}
    for name, client in clients.items():
        assert await client.service_client.check_health(), f"{name} does not say that it serves"
    workflow_id = f"first-{uuid.uuid4().hex[:8]}"
    first = next(iter(clients.values()))
    handle = await first.start_workflow("Nobody", id=workflow_id, task_queue="nobody")
    for name, client in clients.items():
        await known(client, workflow_id)
        print(f"{name} serves and knows {workflow_id}")
    await handle.terminate()


if __name__ == "__main__":
    asyncio.run(main())
