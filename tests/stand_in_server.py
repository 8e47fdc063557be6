"""A server process that starts, serves and dies as vLLM and SGLang do, with the flags that mga gives them.

    python stand_in_server.py serve MODEL --port 8000 …                      (as `vllm serve`)
    python stand_in_server.py serve --model-path MODEL --port 8000 …         (as `sglang serve`)

A flag that the real programs do not have ends it with code 2. The environment says how it behaves: STAND_IN_LOADS
(seconds until it serves), STAND_IN_BROKEN (a file: while it exists, it ends with code 3 while it loads),
STAND_IN_STUBBORN (ignores SIGTERM). It prints its process number, and starts a child, as real servers do.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from servers import ChatServer


def flags() -> argparse.ArgumentParser:
    """The flags of the real programs that mga uses, and no others."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("command", choices=["serve"])
    parser.add_argument("model", nargs="?")
    parser.add_argument("--model-path")
    parser.add_argument("--served-model-name", required=True)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    for name in ("tensor-parallel-size", "tp-size", "max-model-len", "context-length"):
        parser.add_argument(f"--{name}", type=int)
    for name in ("gpu-memory-utilization", "mem-fraction-static"):
        parser.add_argument(f"--{name}", type=float)
    for name in ("api-key", "quantization", "speculative-config", "speculative-algorithm"):
        parser.add_argument(f"--{name}")
    for name in ("enable-prefix-caching", "enable-prompt-tokens-details", "enable-cache-report", "enforce-eager"):
        parser.add_argument(f"--{name}", action="store_true")
    return parser


def main() -> None:
    given = flags().parse_args()
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    print(f"process {os.getpid()} child {child.pid} gpus {os.environ.get('CUDA_VISIBLE_DEVICES', 'none')}", flush=True)
    signal.signal(signal.SIGTERM, signal.SIG_IGN if "STAND_IN_STUBBORN" in os.environ else lambda *_: sys.exit(0))
    print("Loading weights …", flush=True)
    time.sleep(float(os.environ.get("STAND_IN_LOADS", "0.3")))
    if Path(os.environ.get("STAND_IN_BROKEN", "/nowhere")).exists():
        print("CUDA error: out of memory", flush=True)
        child.kill()
        sys.exit(3)
    with ChatServer(model=given.served_model_name, port=given.port):
        print("Application startup complete.", flush=True)
        time.sleep(600)


if __name__ == "__main__":
    main()
