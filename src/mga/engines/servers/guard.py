"""Run a command, and end it with all that it has started when the process that asked for it is gone.

    python guard.py COMMAND...        standard input: a pipe whose other end that process holds open

The guard leads a process group of its own, which the command and its children share. A parent that is killed cannot
clean up; but its end of the pipe closes. Only the standard library is used, since a server waits for this to start.
"""

import os
import signal
import subprocess
import sys
import threading

END_WITHIN_S = 20.0


def main(command: list[str]) -> int:
    """The command's exit code, 128 and the signal's number for one that was killed."""
    signal.signal(signal.SIGTERM, lambda *_: None)  # a request to end the group is for the command to answer
    try:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL)  # noqa: S603
    except OSError as error:
        print(f"Cannot start {command[0]}: {error.strerror}", flush=True)
        return 127
    threading.Thread(target=_end_without_parent, args=(child,), daemon=True).start()
    code = child.wait()
    return code if code >= 0 else 128 - code


def _end_without_parent(child: subprocess.Popen[bytes]) -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    for number in (signal.SIGTERM, signal.SIGTERM):
        os.killpg(0, number)
        try:
            child.wait(END_WITHIN_S / 2)
            break
        except subprocess.TimeoutExpired:
            continue
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
