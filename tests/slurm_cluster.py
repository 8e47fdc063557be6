"""A real Slurm cluster of one host, this one: slurmctld, slurmd and munge in a folder of their own, on loopback."""

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "squeue")
START_S = 30.0

CONFIG = """
ClusterName=mga
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,bf_interval=1
MpiDefault=none
ReturnToService=2
JobRequeue=1
KillWait=5
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=work Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


class CannotStartError(Exception):
    """Slurm cannot start here; the message says why."""


def _free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return int(opened.getsockname()[1])


class Slurm:
    """Entered, it is up. `environment` is what its commands need."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {"SLURM_CONF": str(folder / "slurm.conf")}
        self._daemons: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> "Slurm":
        if missing := [name for name in NEEDED if shutil.which(name) is None]:
            raise CannotStartError(f"not installed: {', '.join(missing)} (apt-get install slurm-wlm munge)")
        if os.geteuid() != 0:
            raise CannotStartError("slurmd needs root")
        self.folder.chmod(0o755)
        (self.folder / "munge.key").write_bytes(os.urandom(1024))
        (self.folder / "munge.key").chmod(0o600)
        for name in ("state", "spool"):
            (self.folder / name).mkdir()
        given: dict[str, Any] = {"folder": self.folder, "host": socket.gethostname().partition(".")[0]}
        config = CONFIG.format(**given, controller=_free_port(), node=_free_port())
        (self.folder / "slurm.conf").write_text(config)
        munge = [f"--{name}={self.folder}/munge.{end}" for name, end in _MUNGE.items()]
        try:
            self._start("munged", "--foreground", "--force", *munge)
            self._until(lambda: (self.folder / "munge.socket").exists(), "munged")
            self._start("slurmctld", "-D", "-i")
            self._start("slurmd", "-D")
            self._until(lambda: "idle" in self.ask("sinfo", "--noheader", "-o", "%T"), "the node")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for daemon in reversed(self._daemons):
            daemon.terminate()
        for daemon in reversed(self._daemons):
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()

    def ask(self, *command: str, stdin: str = "") -> str:
        """What a command of Slurm says, on both streams."""
        environment = os.environ | self.environment
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, env=environment, timeout=30)
        return done.stdout + done.stderr

    def tasks(self) -> dict[str, str]:
        """State by `JOB_TASK` of all that is queued or runs."""
        lines = self.ask("squeue", "--noheader", "--array", "-o", "%i %T").splitlines()
        return dict(line.split() for line in lines if line.strip())

    def _start(self, *command: str) -> None:
        log = (self.folder / f"{command[0]}.out").open("wb")
        environment = os.environ | self.environment
        self._daemons.append(subprocess.Popen(command, stdout=log, stderr=log, env=environment))

    def _until(self, reached: Any, what: str) -> None:
        deadline = time.monotonic() + START_S
        while not reached():
            if time.monotonic() > deadline or any(daemon.poll() is not None for daemon in self._daemons):
                said = "".join(path.read_text(errors="replace")[-400:] for path in sorted(self.folder.glob("*.out")))
                raise CannotStartError(f"{what} did not come up: {said}")
            time.sleep(0.2)


_MUNGE = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
