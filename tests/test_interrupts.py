"""Ctrl-C and SIGTERM, whatever the program is doing: one sentence, the exit code of the signal, never lost."""

import asyncio
import signal
import subprocess
import sys

import pytest

from mga.interrupts import STOPPED
from mga.runs.executors.local import _signals

# What a signal meets. `hit` sends it to this very process, which answers before the next line.
SCENES = {
    "plain work": "hit()\nwork()",
    "a finalizer": "Finalized()\nwork()",
    "a callback": "import weakref\nthing = Finalized.__new__(set)\nweakref.finalize(thing, hit)\ndel thing\nwork()",
    "somebody's except": "try:\n    hit()\nexcept BaseException:\n    pass\nwork()",
    "a library that makes another error of it": "try:\n    hit()\nexcept BaseException:\n    raise RuntimeError('x')",
    "a library that ends the process": "try:\n    hit()\nexcept BaseException:\n    sys.exit(0)",
    "an error of ours by the same signal": (
        "try:\n    hit()\nexcept BaseException:\n    raise StopError('a child process has ended')"
    ),
    "an event loop": (
        "async def asking():\n    try:\n        hit()\n        await asyncio.sleep(60)\n"
        "    finally:\n        await asyncio.sleep(0)\n        print('closed')\n"
        "interrupts.run(asking())\nwork()"
    ),
    "an event loop that is blocked": "async def asking():\n    hit()\n    work()\ninterrupts.run(asking())",
}
PROGRAM = """
import asyncio, os, signal, sys, time
from mga import interrupts
import mga.cli.main as cli
from mga.errors import StopError

def hit():
    os.kill(os.getpid(), {number})
    for _ in range(1000):
        pass

def work():
    for _ in range(600):
        time.sleep(0.05)
    print("went on")

class Finalized:
    def __del__(self):
        hit()

@cli.app.command()
def scene():
    exec({scene!r}, globals())

sys.argv = ["mga", "scene"]
cli.main()
"""


def ended(program: str) -> tuple[int, str, str]:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("name", SCENES)
def test_ctrl_c_is_one_sentence_and_never_lost(name: str) -> None:
    scene = SCENES[name].replace("Finalized.__new__(set)", "type('Thing', (), {})()")
    assert ended(PROGRAM.format(number=int(signal.SIGINT), scene=scene)) == (
        130,
        "closed\n" if name == "an event loop" else "",
        f"mga: {STOPPED}\n",
    )


@pytest.mark.parametrize("name", ["plain work", "a finalizer", "an event loop"])
def test_sigterm_is_said_as_well(name: str) -> None:
    code, _, said = ended(PROGRAM.format(number=int(signal.SIGTERM), scene=SCENES[name]))
    assert (code, said) == (143, f"mga: {STOPPED}\n")


@pytest.mark.parametrize("front_door", ["mga", "mga.cli.main"])
@pytest.mark.parametrize("imported", ["typer", "pydantic", "mga.config", "mga.cli.top"])
def test_a_signal_while_the_commands_are_imported(front_door: str, imported: str) -> None:
    program = f"""
import os, runpy, signal, sys
class Finder:
    @staticmethod
    def find_spec(name, *_):
        if name == {imported!r}:
            try:
                os.kill(os.getpid(), signal.SIGINT)
            except KeyboardInterrupt:
                pass
sys.meta_path.insert(0, Finder)
sys.argv = ["mga", "--help"]
runpy.run_module({front_door!r}, run_name="__main__")
"""
    assert ended(program) == (130, "", f"mga: {STOPPED}\n")


def test_a_run_gives_the_signals_back() -> None:
    """`mga compare-prompts` carries several runs: between them, and after them, signals are answered as before."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    async def working() -> None:
        with _signals(asyncio.get_running_loop(), lambda: None):
            assert all(signal.getsignal(number) != handler for number, handler in before.items())

    answer = lambda number, frame: None  # noqa: E731
    try:
        for number in before:
            signal.signal(number, answer)
        before = dict.fromkeys(before, answer)
        asyncio.run(working())
        assert {number: signal.getsignal(number) for number in before} == before
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
