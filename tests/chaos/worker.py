"""`mga` in a process whose workers are taken for dead soon (LEASE_S), and whose clocks may be wrong (SKEW_S)."""

import functools
import os
import time

from mga.cli.main import main
from mga.runs import claims, worker

LEASE_S = float(os.environ["LEASE_S"])
SKEW_S = float(os.environ.get("SKEW_S", "0"))

claims.BEAT_EVERY_S = LEASE_S / 6
worker.Claims = functools.partial(claims.Claims, lease_s=LEASE_S)  # type: ignore[assignment,misc]
if SKEW_S:
    real = time.time
    time.time = lambda: real() + SKEW_S

if __name__ == "__main__":
    main()
