"""A real SLURM cluster on this machine, private to one process: `with PrivateCluster() as cluster: ...`.

munged, MariaDB, slurmdbd, slurmctld and one slurmd per node run under `supervisor.py` in PID and mount namespaces of
their own. All their files lie in one folder under /tmp, all ports are picked when the cluster starts, and nothing
under /etc changes, so that several clusters can run side by side. Clients stay outside and find their cluster
through SLURM_CONF alone. The cluster ends with its owner, also when that is killed.

Nodes claim far more CPUs, memory and GPUs than the machine has, so that requests made for production are accepted
as they are; the GPUs are copies of /dev/null, and nothing confines a job to what it asked for.
"""

from __future__ import annotations

import os
import random
import re
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from tests.slurm.supervisor import accepts

SUPERVISOR = Path(__file__).with_name("supervisor.py")
PROGRAMS = ("slurmctld", "slurmd", "slurmdbd", "mariadbd", "mariadb-install-db", "munged", "sbatch", "unshare")
OUTER_JOB = ("SLURM_", "SBATCH_", "SRUN_", "SALLOC_", "SACCT_", "SQUEUE_", "SINFO_", "SUBMITIT_")
SACCT_FIELDS = ("JobID", "State", "ExitCode", "Submit", "Start", "End")

SLURM_CONF = """\
ClusterName=kdtest
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={ctld_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
# A requeued job may not start before its old credential has expired; lower values than 5 s are ignored.
AuthInfo=socket={root}/run/munge.sock,cred_expire={requeue_delay_s}
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool/%n
SlurmctldPidFile={root}/run/slurmctld.pid
SlurmdPidFile={root}/run/slurmd.%n.pid
SlurmctldLogFile={root}/log/slurmctld.log
SlurmdLogFile={root}/log/slurmd.%n.log
SlurmctldDebug=verbose
SlurmdDebug=verbose
MailProg=/bin/true
MpiDefault=none
SwitchType=switch/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=localhost
AccountingStoragePort={dbd_port}
AccountingStoragePass={root}/run/munge.sock
AccountingStorageTRES=gres/gpu
# The nodes are taken at their word, although the machine is smaller.
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=100
GresTypes=gpu
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
# A request that can never be met fails at once instead of waiting for ever.
EnforcePartLimits=ALL
PriorityType=priority/multifactor
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
# The job's own warning signal (--signal) also announces a preemption.
SlurmctldParameters=preempt_send_user_signal
JobRequeue=1
KillWait=5
CompleteWait=0
InactiveLimit=0
# scontrol goes on showing ended jobs for an hour.
MinJobAge=3600
ReturnToService=2
SlurmdTimeout=10
SlurmctldTimeout=30
TCPTimeout=5
NodeName=node[1-{nodes}] NodeHostname=localhost NodeAddr=127.0.0.1 Port=[{first_port}-{last_port}] \
CPUs={cpus} RealMemory={memory_mb} Gres=gpu:{gpus} State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE \
GraceTime={grace_s} OverSubscribe=NO
PartitionName=high Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
"""

SLURMDBD_CONF = """\
AuthType=auth/munge
AuthInfo=socket={root}/run/munge.sock
DbdHost=localhost
DbdPort={dbd_port}
SlurmUser=root
PidFile={root}/run/slurmdbd.pid
LogFile={root}/log/slurmdbd.log
DebugLevel=verbose
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm_acct
"""


class ClusterError(RuntimeError):
    """The cluster did not start, a SLURM command failed, or a job did not get where it should."""


@dataclass
class PrivateCluster:
    nodes: int = 2
    cpus: int = 64
    memory_mb: int = 1_000_000
    gpus: int = 8
    grace_s: int = 20
    requeue_delay_s: int = 5
    startup_s: float = 60.0
    root: Path = field(init=False, default=Path())
    _process: subprocess.Popen[bytes] | None = field(init=False, default=None, repr=False)

    def __enter__(self) -> PrivateCluster:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    @property
    def conf(self) -> Path:
        return self.root / "etc/slurm.conf"

    @property
    def env(self) -> dict[str, str]:
        """The environment of a client of this cluster, free of any job around the tests."""
        return {**without_outer_job(os.environ), "PATH": search_path(), "SLURM_CONF": str(self.conf)}

    @property
    def node_names(self) -> list[str]:
        return [f"node{i + 1}" for i in range(self.nodes)]

    def start(self) -> None:
        """Returns once all nodes are idle, after about 3 s."""
        if lacking := missing():
            raise ClusterError(f"a private SLURM cluster needs {', '.join(lacking)}")
        # Not pytest's tmp_path: the path of a socket has at most 107 characters.
        self.root = Path(tempfile.mkdtemp(prefix="kdslurm_", dir="/tmp"))
        try:
            ctld_port, dbd_port = self._configure()
            self._launch(dbd_port)
            self._wait_until_idle(ctld_port)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Kills PID 1 of the cluster's namespace, which takes everything in it along, and removes the files."""
        process, self._process = self._process, None
        if process is not None:
            # `unshare` ends only after the kernel has emptied the namespace; killing `unshare` would not wait for that.
            if init := init_pid(process):
                with suppress(ProcessLookupError):
                    os.kill(init, signal.SIGKILL)
            else:
                process.kill()
            process.wait(timeout=30)
        if self.root != Path():
            shutil.rmtree(self.root, ignore_errors=True)

    def namespace(self) -> str:
        """The PID namespace of the cluster, as /proc/PID/ns/pid shows it."""
        init = init_pid(self._process) if self._process else None
        if init is None:
            raise ClusterError("the cluster is not running")
        return os.readlink(f"/proc/{init}/ns/pid")

    def run(self, cmd: Sequence[str | Path], timeout: float = 60.0) -> str:
        """Runs a client command and returns what it printed; a failure carries its error messages."""
        done = subprocess.run(cmd, env=self.env, capture_output=True, text=True, timeout=timeout, check=False)
        if done.returncode:
            raise ClusterError(f"{' '.join(map(str, cmd))}: status {done.returncode}: {done.stderr or done.stdout}")
        return done.stdout

    def submit(self, *sbatch_args: str | Path) -> str:
        return self.run(["sbatch", "--parsable", *sbatch_args]).strip().partition(";")[0]

    def submit_high(self, seconds: float, nodes: int = 1) -> str:
        """A sleeping job that wants whole nodes in partition `high`: it preempts what runs there in `main`.

        sacct calls the run that had to give way PREEMPTED if SLURM ended it after the grace time, but REQUEUED if it
        asked for its requeue itself when it was warned.
        """
        whole = ["--partition=high", f"--nodes={nodes}", "--exclusive", "--output=/dev/null"]
        return self.submit(*whole, f"--wrap=sleep {seconds}")

    def sacct(self, job_id: str | int, duplicates: bool = False) -> list[dict[str, str]]:
        """The job's latest record in the database, or with `duplicates` those of all its runs; no steps.

        The fields are SACCT_FIELDS and Restarts, which SLURM 22.05 does not report itself. The database runs late: a
        record comes up to 2 s after its job, and an array is one row under its bare id for up to 4 s before it has
        one for each element. Compare with `eventually`.
        """
        # Every requeue begins a new record, so a record's place among those of its JobID is its number of restarts.
        command = ["sacct", "--allocations", "--duplicates", "--noheader", "--parsable2", f"--jobs={job_id}"]
        lines = self.run([*command, f"--format={','.join(SACCT_FIELDS)}"]).splitlines()
        rows = [dict(zip(SACCT_FIELDS, line.split("|"), strict=True)) for line in lines]
        runs: dict[str, list[dict[str, str]]] = {}
        for row in sorted(rows, key=lambda row: row["Submit"]):
            earlier = runs.setdefault(row["JobID"], [])
            earlier.append({**row, "Restarts": str(len(earlier))})
        return [row for records in runs.values() for row in (records if duplicates else records[-1:])]

    def show_job(self, job_id: str | int) -> dict[str, str]:
        """The controller's view of a job (the first one listed, for an array): the present, where sacct lags a bit."""
        lines = self.run(["scontrol", "--oneliner", "show", "job", str(job_id)]).splitlines()
        # A value may hold blanks and equals signs: it ends where the next `Name=` begins.
        return dict(re.findall(r"(?:^|(?<=\s))([A-Za-z][\w/:]*)=(.*?)(?=\s+[A-Z][\w/:]*=|\s*$)", lines[0]))

    def wait_for(self, job_id: str | int, states: str | Collection[str], timeout: float = 60.0) -> dict[str, str]:
        """Waits for one of the states as scontrol names them, and returns the job's fields."""
        wanted = {states} if isinstance(states, str) else set(states)
        deadline = time.monotonic() + timeout
        while (job := self.show_job(job_id))["JobState"] not in wanted:
            if time.monotonic() > deadline:
                found = {key: job.get(key) for key in ("JobState", "Reason", "Restarts", "ExitCode")}
                raise ClusterError(f"job {job_id} is not {sorted(wanted)} after {timeout:.0f} s: {found}")
            time.sleep(0.1)
        return job

    @contextmanager
    def without(self, daemon: str) -> Iterator[None]:
        """End a daemon (`slurmctld`, `slurmd.node2`) and start it again after the block; jobs go on meanwhile."""
        down = self.root / "run" / f"{daemon}.down"
        down.touch()
        try:
            yield
        finally:
            down.unlink()

    def logs(self, lines: int = 20) -> str:
        """The ends of all log files; the supervisor's comes first, as it names the daemon that failed."""
        parts = []
        for path in sorted((self.root / "log").glob("*"), key=lambda path: (path.stem != "supervisor", path.name)):
            if tail := path.read_text(errors="replace").splitlines()[-lines:]:
                parts.append("\n".join([f"--- {path.name}", *tail]))
        return "\n".join(parts)

    def _configure(self) -> tuple[int, int]:
        """Writes all files; returns the ports of slurmctld and slurmdbd."""
        self.root.chmod(0o755)
        for name in ("etc", "state", "log", "spool", "run", "dev", "mysql"):
            (self.root / name).mkdir()
        port = free_ports(self.nodes + 2)
        etc = self.root / "etc"
        values = {"root": self.root, "ctld_port": port, "dbd_port": port + 1, "nodes": self.nodes, "cpus": self.cpus}
        values |= {"first_port": port + 2, "last_port": port + 1 + self.nodes, "memory_mb": self.memory_mb}
        values |= {"gpus": self.gpus, "grace_s": self.grace_s, "requeue_delay_s": self.requeue_delay_s}
        self.conf.write_text(SLURM_CONF.format_map(values))
        (etc / "gres.conf").write_text(f"Name=gpu File={self.root}/dev/gpu[0-{self.gpus - 1}]\n")
        hosts = [f"127.0.1.{i} {node}\n" for i, node in enumerate(self.node_names, start=1)]
        (etc / "hosts").write_text(Path("/etc/hosts").read_text() + "\n" + "".join(hosts))
        # slurmdbd and munged refuse a configuration or key that others may read.
        for name, content in (
            ("slurmdbd.conf", SLURMDBD_CONF.format_map(values).encode()),
            ("munge.key", random_key()),
        ):
            (etc / name).touch(mode=0o600)
            (etc / name).write_bytes(content)
        for i in range(self.gpus):
            # Only a character device gets into CUDA_VISIBLE_DEVICES.
            os.mknod(self.root / f"dev/gpu{i}", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        return port, port + 1

    def _launch(self, dbd_port: int) -> None:
        namespaces = ["unshare", "--pid", "--fork", "--kill-child=KILL", "--mount-proc"]
        owner = os.pidfd_open(os.getpid())
        program: list[str | Path] = [
            sys.executable,
            "-I",
            SUPERVISOR,
            self.root,
            str(owner),
            str(dbd_port),
            *self.node_names,
        ]
        try:
            with (self.root / "log/supervisor.out").open("wb") as log:
                # A session of its own: Ctrl-C in the terminal is for pytest, which then stops the cluster in order.
                self._process = subprocess.Popen(
                    [*namespaces, *program],
                    cwd=self.root,
                    env=self.env,
                    pass_fds=[owner],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
        finally:
            os.close(owner)

    def _wait_until_idle(self, ctld_port: int) -> None:
        assert self._process is not None
        deadline = time.monotonic() + self.startup_s
        while not (accepts(("127.0.0.1", ctld_port)) and self._idle_nodes() == self.nodes):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise ClusterError(f"the private SLURM cluster did not start\n{self.logs()}")
            time.sleep(0.05)

    def _idle_nodes(self) -> int:
        command = ["sinfo", "--noheader", "--partition=main", "--states=idle", "--format=%D"]
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=60, check=False)
        return int(done.stdout.strip() or 0) if done.returncode == 0 else 0


def missing() -> list[str]:
    """What this machine lacks for a private cluster: programs, and the rights to make namespaces and devices."""
    lacking = [name for name in PROGRAMS if not shutil.which(name, path=search_path())]
    return lacking if os.geteuid() == 0 else [*lacking, "root"]


def search_path() -> str:
    """PATH with the folders of the daemons, which a plain login often does not have."""
    return os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


def eventually(condition: Callable[[], bool], timeout: float = 10.0) -> bool:
    """Whether the condition comes true in time."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def without_outer_job(env: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if not name.startswith(OUTER_JOB)}


def init_pid(unshare: subprocess.Popen[bytes]) -> int | None:
    """PID 1 of the namespace as seen from outside: the only child of `unshare`."""
    with suppress(FileNotFoundError, ProcessLookupError):
        children = Path(f"/proc/{unshare.pid}/task/{unshare.pid}/children").read_text().split()
        return int(children[0]) if children else None
    return None


def random_key() -> bytes:
    return secrets.token_bytes(1024)


def free_ports(count: int) -> int:
    """The first of `count` free TCP ports in a row, below those that the kernel hands out to clients."""
    while True:
        first = random.randrange(10_000, 30_000)
        with ExitStack() as stack, suppress(OSError):
            for port in range(first, first + count):
                stack.enter_context(socket.socket()).bind(("0.0.0.0", port))
            return first
