"""A runner: client by client, from Python."""

from __future__ import annotations

from fedmpi.runtime.collective.failures import ClientError
from fedmpi.runtime.runners.one_by_one import OneByOne
from fedmpi.runtime.runners.work import Work


class Each:
    """Client by client: whatever has no compiled form, and a few clients for which compiling would take too long."""

    def run(self, work: Work) -> bool:
        """Run all clients."""
        clients = OneByOne(work)
        for position in range(len(work.call.mine)):
            try:
                computed = clients.compute(position)
            except ClientError as error:
                if not work.stage.drops:
                    raise
                work.dropped[position] = error.reason
                continue
            clients.commit(position, computed)
        clients.end()
        return True
