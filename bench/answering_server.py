"""A server for benchmarks: answers pairs, rewrites and verdicts at once or after a while, on as little CPU as it can.

    python bench/answering_server.py SECONDS

Listens on a free loopback port, prints it, and serves until its standard input closes. It speaks just enough HTTP/1.1
and OpenAI chat completions for well-behaved clients.
"""

import asyncio
import itertools
import sys
from collections.abc import Iterator
from random import Random

import orjson

WORDS = [f"{a}{b}{c}" for a in ("ma", "ter", "lo", "sun") for b in ("rin", "ve", "kol", "das") for c in ("ta", "mel")]
WORDS += [f"{a}{b}" for a in ("bri", "an", "gol", "he") for b in ("den", "sor", "vak", "lim", "to")]
REWRITE_CHARACTERS = 1500


def prose(seed: int, characters: int) -> str:
    """Sentences over a small vocabulary, so that any two such texts share their keywords and hardly an 8-gram."""
    rng = Random(seed)
    text = ""
    while len(text) < characters:
        text += " ".join(rng.choice(WORDS) for _ in range(rng.randrange(8, 16))).capitalize() + ". "
    return text[:characters].rpartition(".")[0] + "."


def _answer(content: str) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
    tokens = len(content) // 4
    usage = {"prompt_tokens": 900, "completion_tokens": tokens, "total_tokens": 900 + tokens}
    body = orjson.dumps({"object": "chat.completion", "model": "bench", "choices": [choice], "usage": usage})
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


def _pairs() -> str:
    pairs = {}
    for i in range(1, 6):
        rng = Random(i)
        for kind in ("audience", "genre"):
            pairs[f"{kind}_{i}"] = " ".join(rng.sample(WORDS, 12)) + f" number {i}."
    return orjson.dumps(pairs).decode()


PAIRS = _answer(_pairs())
VERDICT = _answer(orjson.dumps({"analysis": "The points of the document are kept.", "score": 4}).decode())
REWRITES = [_answer(prose(1_000_000_000 + i, REWRITE_CHARACTERS)) for i in range(64)]
_model_list = orjson.dumps({"object": "list", "data": [{"id": "bench"}]})
MODELS = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
    len(_model_list),
    _model_list,
)
NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


class Connection(asyncio.Protocol):
    """One connection, one request at a time; it stays open unless a request asks to close it."""

    def __init__(self, delay_s: float, rewrites: Iterator[bytes]) -> None:
        self._delay_s = delay_s
        self._rewrites = rewrites
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self._buffer) < end + 4 + length:
                return
            body, self._buffer = self._buffer[end + 4 : end + 4 + length], self._buffer[end + 4 + length :]
            answer = self._choose(head, body)
            send = self._send_and_close if b"connection: close" in head else self._transport.write
            if self._delay_s and body:
                asyncio.get_running_loop().call_later(self._delay_s, send, answer)
            else:
                send(answer)

    def _send_and_close(self, answer: bytes) -> None:
        self._transport.write(answer)
        self._transport.close()

    def _choose(self, head: bytes, body: bytes) -> bytes:
        if not body:
            return MODELS if b"/models" in head.split(b"\r\n", 1)[0] else NOT_FOUND
        if b"/chat/completions" not in head.split(b"\r\n", 1)[0]:
            return NOT_FOUND
        if b"<rewrite>" in body:
            return VERDICT
        if b"genre_1" in body:
            return PAIRS
        return next(self._rewrites)


async def serve(delay_s: float) -> None:
    """Serve until standard input closes."""
    loop = asyncio.get_running_loop()
    # In turn over all connections: two equal rewrites of a document would ask for the same verdict twice.
    rewrites = itertools.cycle(REWRITES)
    server = await loop.create_server(lambda: Connection(delay_s, rewrites), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(serve(float(sys.argv[1])))
