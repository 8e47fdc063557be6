"""A teacher that can be learned from: notes about invented buildings, five pairs for each, rewrites in a fixed layout.

    python tests/teacher.py notes FILE.jsonl [COUNT]     writes notes
    python tests/teacher.py serve PORT                   answers as an OpenAI-compatible server on loopback

Its rewrites keep the facts of a note and follow the genre's layout, so that a student can learn the form and a reader
can check it. As a judge it looks the facts up: 1, and 1 more for each of four facts of the document in the text.
"""

import asyncio
import json
import sys
import threading
from dataclasses import dataclass
from random import Random
from typing import Any

import regex
from aiohttp import web

KINDS = ("bridge", "mill", "lighthouse", "library", "chapel", "market hall", "observatory", "harbour", "granary")
PLACES = ("Orlen", "Tessby", "Marrow Hill", "Quillan", "Ostra", "Venn", "Lower Hask", "Pellmouth", "Dray", "Sunder")
BUILDERS = ("Ida Marsh", "Tomas Vell", "Ruth Okafor", "Jon Brandt", "Lena Sorby", "Amos Pike", "Clara Dunn")
MATERIALS = ("granite", "oak", "red brick", "limestone", "iron", "slate", "clay", "larch")
USES = ("traders", "fishermen", "pupils", "millers", "pilgrims", "sailors", "farmers", "astronomers")
GENRES = {
    "fact sheet": "A fact sheet of four short lines, one fact in each, plain and dry.",
    "radio talk": "A radio talk of a few spoken sentences, warm in tone, with a greeting first.",
    "letter": "A letter to a friend, personal and brief, with a greeting and a closing.",
    "riddle": "A riddle that gives the facts one by one and names the thing at the end.",
    "news item": "A news item with a headline and one paragraph, sober and exact.",
}
READERS = {
    "fact sheet": "Clerks in a hurry who want figures and nothing else.",
    "radio talk": "Retired listeners who enjoy a voice in the evening.",
    "letter": "An old friend who has no interest in buildings.",
    "riddle": "Children of ten who like to guess.",
    "news item": "Readers of a local paper who know the place.",
}
_NOTE = regex.compile(
    r"The (?P<kind>[\w ]+) of (?P<place>[\w ]+) was built in (?P<year>\d+) by (?P<builder>[\w ]+)\. "
    r"Its walls are of (?P<material>[\w ]+)\. It stands (?P<height>\d+) metres high and serves (?P<use>\w+)\."
)


@dataclass(frozen=True, slots=True)
class Note:
    """The facts of a building."""

    kind: str
    place: str
    year: str
    builder: str
    material: str
    height: str
    use: str

    @property
    def text(self) -> str:
        return (
            f"The {self.kind} of {self.place} was built in {self.year} by {self.builder}. "
            f"Its walls are of {self.material}. It stands {self.height} metres high and serves {self.use}."
        )

    def rewritten(self, genre: str) -> str:
        """The note in the layout of a genre."""
        name = f"the {self.kind} of {self.place}"
        title = f"{name[0].upper()}{name[1:]}"
        layouts = {
            "fact sheet": f"Building: {name}\nBuilt: {self.year}, by {self.builder}\n"
            f"Walls: {self.material}\nHeight: {self.height} metres, for {self.use}",
            "radio talk": f"Good evening, dear listeners. Tonight we visit {name}. {self.builder} built it in "
            f"{self.year}, with walls of {self.material}, and {self.use} still climb its {self.height} metres.",
            "letter": f"Dear friend,\nyou would yawn at {name}, yet {self.builder} built it in {self.year} of "
            f"{self.material}, {self.height} metres of it, and {self.use} love it.\nYours as ever",
            "riddle": f"My walls are of {self.material}. {self.builder} raised me in {self.year}. I am {self.height} "
            f"metres tall and {self.use} need me. What am I? {title}.",
            "news item": f"{self.place} looks back on {self.year}\n{title}, built by {self.builder} of "
            f"{self.material}, has served {self.use} since {self.year}; it is {self.height} metres high.",
        }
        return layouts[genre]


def notes(count: int, seed: int = 0) -> list[Note]:
    """So many different notes."""
    drawn, found = Random(seed), {}
    while len(found) < count:
        year, height = str(drawn.randrange(1500, 1950)), str(drawn.randrange(5, 95))
        kind, place, builder = drawn.choice(KINDS), drawn.choice(PLACES), drawn.choice(BUILDERS)
        note = Note(kind, place, year, builder, drawn.choice(MATERIALS), height, drawn.choice(USES))
        found.setdefault(note.text, note)
    return [*found.values()]


def note_in(text: str) -> Note:
    """The note that a text holds."""
    found = _NOTE.search(text)
    assert found, text[:200]
    return Note(**found.groupdict())


def answer(prompt: str) -> str:
    """What the teacher says to a prompt of mga: pairs, a rewrite, or a verdict."""
    note = note_in(prompt.partition("<rewrite>")[0])
    if "<rewrite>" in prompt:
        rewrite = prompt.partition("<rewrite>")[2].partition("</rewrite>")[0]
        facts = (note.year, note.builder, note.material, note.height)
        held = sum(fact in rewrite for fact in facts)
        return json.dumps({"analysis": f"{held} of {len(facts)} facts are in the text.", "score": 1 + held})
    if "kind_of_text" in prompt:
        pairs = [{"kind_of_text": GENRES[genre], "readers": READERS[genre]} for genre in GENRES]
        return json.dumps({"texts": pairs}, separators=(",", ":"))
    genre = next(name for name, said in GENRES.items() if f"to write {said.rstrip(' .')}" in prompt)
    return note.rewritten(genre)


async def chat(request: web.Request) -> web.Response:
    body: dict[str, Any] = await request.json()
    prompt = body["messages"][-1]["content"]
    try:
        text = answer(prompt)
    except AssertionError:
        text = "OK"
    counts = {"prompt_tokens": len(prompt) // 4, "completion_tokens": len(text) // 4 + 1}
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return web.json_response({"id": "1", "object": "chat.completion", "choices": [choice], "usage": counts})


async def models(request: web.Request) -> web.Response:
    return web.json_response({"object": "list", "data": [{"id": "teacher", "object": "model", "max_model_len": 8192}]})


def application() -> web.Application:
    """The server."""
    made = web.Application(client_max_size=1 << 26)
    made.router.add_post("/v1/chat/completions", chat)
    made.router.add_get("/v1/models", models)
    return made


class Serving:
    """`with Serving() as address:` answers at a loopback address, from a thread of its own, until the block ends."""

    def __enter__(self) -> str:
        self._loop, ready = asyncio.new_event_loop(), threading.Event()

        async def serve() -> None:
            runner = web.AppRunner(application())
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self._port = runner.addresses[0][1]
            ready.set()

        def run() -> None:
            self._loop.run_until_complete(serve())
            self._loop.run_forever()

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()
        if not ready.wait(10):
            raise RuntimeError("the teacher does not answer")
        return f"http://127.0.0.1:{self._port}/v1#teacher"

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)


def main() -> None:
    what, where = sys.argv[1:3]
    if what == "serve":
        web.run_app(application(), host="127.0.0.1", port=int(where), print=None)
        return
    with open(where, "w", encoding="utf-8") as file:  # noqa: PTH123
        for i, note in enumerate(notes(int(sys.argv[3]) if len(sys.argv) > 3 else 100)):
            file.write(json.dumps({"id": f"note-{i}", "text": note.text}) + "\n")


if __name__ == "__main__":
    main()
