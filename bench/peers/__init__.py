"""The same job through other tools, each in a virtual environment of its own.

A module per tool; its function takes the server's address, the file of documents, the number of requests in flight and
an empty folder for what the tool writes, does the job as the tool's documentation says, and returns how many requests
were answered. The modules import their tool, so they can be imported in that tool's environment only.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Peer:
    """Where a tool's job is: a module here, which also names the requirements, and a function in it."""

    module: str
    function: str = "run"
    slow: bool = False


PEERS = {
    "datatrove": Peer("datatrove"),
    "datatrove-checkpoints": Peer("datatrove", "run_with_checkpoints", slow=True),
    "curator": Peer("curator", slow=True),
    "distilabel": Peer("distilabel", slow=True),
    "ray-data": Peer("ray_data", slow=True),
}
