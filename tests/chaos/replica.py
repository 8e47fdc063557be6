"""A server that answers by script, in a process that can be killed: python replica.py PORT FLAWS DELAY_S."""

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from servers import ChatServer

from mga.engines.engine import Reply


class Slow(ChatServer):
    """Answers after a while, as a model does."""

    delay_s = 0.0

    async def _reply(self, body: Mapping[str, Any]) -> Reply:
        await asyncio.sleep(self.delay_s)
        return await super()._reply(body)


if __name__ == "__main__":
    server = Slow(flaws=float(sys.argv[2]), port=int(sys.argv[1]))
    server.delay_s = float(sys.argv[3])
    asyncio.run(server._serve())
