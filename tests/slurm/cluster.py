"""A real Slurm of one node and two slots in a folder: munged, slurmctld and slurmd, without systemd, cgroups or
database.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import time
from pathlib import Path

_CONF = """
ClusterName=bench
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
JobRequeue=1
KillWait=2
ReturnToService=2
SchedulerParameters=sched_interval=1,sched_min_interval=0,bf_interval=1,batch_sched_delay=0
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "scancel")


class Cluster:
    """`with Cluster(folder) as cluster:` runs the daemons; commands find them through the environment `cluster.env`."""

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        path = os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"])
        self.env = {**os.environ, "PATH": path, "SLURM_CONF": str(self.folder / "slurm.conf")}
        absent = [name for name in PROGRAMS if shutil.which(name, path=path) is None]
        if absent:
            raise SystemExit(f"no Slurm here ({', '.join(absent)} missing); install it: apt-get install slurm-wlm")
        self._daemons: list[subprocess.Popen] = []

    def __enter__(self) -> Cluster:
        import getpass

        for name in ("state", "spool"):
            (self.folder / name).mkdir(parents=True)
        host = socket.gethostname().partition(".")[0]
        facts = {"host": host, "user": getpass.getuser(), "folder": self.folder, "ports": _free_ports(2)}
        (self.folder / "slurm.conf").write_text(_CONF.format(**facts))
        key = self.folder / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o600)
        try:
            self._start(
                "munged",
                "--foreground",
                "--force",
                *(
                    f"--{name}={self.folder}/munge.{end}"
                    for name, end in (
                        ("key-file", "key"),
                        ("socket", "socket"),
                        ("pid-file", "pid"),
                        ("log-file", "log"),
                        ("seed-file", "seed"),
                    )
                ),
            )
            self._await(lambda: (self.folder / "munge.socket").exists(), "munged")
            self._start("slurmctld", "-D", "-c")
            self._await(lambda: self.ask("scontrol", "ping").returncode == 0, "slurmctld")
            self._start("slurmd", "-D", "-N", host)
            self._await(lambda: "idle" in self.ask("sinfo", "-h", "-o", "%t").stdout, "slurmd")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_) -> None:
        if len(self._daemons) > 1:
            self.ask("scancel", "--me")
            time.sleep(1)
        for daemon in reversed(self._daemons):
            daemon.terminate()
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()

    def ask(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run one of Slurm's commands."""
        return subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=60, check=False)

    def jobs(self) -> dict[str, tuple[str, str]]:
        """The jobs in the queue: id -> (name, state)."""
        lines = self.ask("squeue", "-h", "-r", "-o", "%i %j %T").stdout.splitlines()
        return {line.split()[0]: (line.split()[1], line.split()[2]) for line in lines}

    def _start(self, *command: str) -> None:
        log = (self.folder / f"{command[0]}.out").open("w")
        self._daemons.append(subprocess.Popen(command, env=self.env, stdout=log, stderr=log))

    def _await(self, ready, name: str, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not ready():
            if time.monotonic() > deadline or self._daemons[-1].poll() is not None:
                logs = "\n".join(
                    path.read_text(errors="replace")[-2000:] for path in self.folder.glob(f"{name}.*") if path.is_file()
                )
                raise SystemExit(f"{name} does not answer:\n{logs}")
            time.sleep(0.2)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for own in sockets:
        own.bind(("127.0.0.1", 0))
    ports = [own.getsockname()[1] for own in sockets]
    for own in sockets:
        own.close()
    return ports
