"""Spark's own standalone cluster on this machine: a master and two workers, each with an executor of its own."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from common.paths import ROOT

WAIT = 120  # seconds


class Cluster:
    """A running cluster: its address, and its executors."""

    def __init__(self, master: str, workers: list[subprocess.Popen[bytes]]) -> None:
        self.master, self._workers = master, workers

    @property
    def engine(self) -> dict[str, Any]:
        """The section `engine` of params.yaml for this cluster."""
        local = {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1"}
        size = {"spark.executor.memory": "1g", "spark.driver.memory": "1g", "spark.sql.shuffle.partitions": 4}
        return {"name": "spark", "master": self.master, "conf": local | size}

    def executors(self) -> list[psutil.Process]:
        """The executors of all workers."""
        children = [one for worker in self._workers for one in psutil.Process(worker.pid).children(recursive=True)]
        return [one for one in children if any("CoarseGrainedExecutorBackend" in part for part in _command(one))]

    def kill_executor(self) -> int:
        """End an executor as a lost machine does; returns its process id."""
        executor = self.executors()[0]
        executor.send_signal(signal.SIGKILL)
        return executor.pid


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """A master and two workers of one core each; their logs and files lie in `folder`."""
    import pyspark

    home = Path(pyspark.__file__).parent
    environment = os.environ | {
        "SPARK_HOME": str(home),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_NO_DAEMONIZE": "1",
        "SPARK_DAEMON_MEMORY": "256m",
        "PYSPARK_PYTHON": sys.executable,
        "PYTHONPATH": str(ROOT),
    }
    port = _free_port()

    def start(kind: str, *arguments: str) -> subprocess.Popen[bytes]:
        command = [str(home / "bin" / "spark-class"), f"org.apache.spark.deploy.{kind}", "--host", "127.0.0.1"]
        with (folder / f"{kind}-{len(started)}.log").open("wb") as log:
            return subprocess.Popen([*command, *arguments], env=environment, stdout=log, stderr=log)

    started: list[subprocess.Popen[bytes]] = []
    master = f"spark://127.0.0.1:{port}"
    try:
        started.append(start("master.Master", "--port", str(port), "--webui-port", "0"))
        for number in range(2):
            work = folder / f"work-{number}"
            size = ("--cores", "1", "--memory", "1g", "--webui-port", "0", "--work-dir", str(work))
            started.append(start("worker.Worker", *size, master))
        log = folder / "master.Master-0.log"
        wait(lambda: log.read_text().count("Registering worker") == 2, "both workers are registered")
        yield Cluster(master, started[1:])
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            process.wait(timeout=30)


def wait(condition: Callable[[], bool], what: str) -> None:
    """Wait until a condition holds; raises TimeoutError with `what` was expected."""
    end = time.monotonic() + WAIT
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {WAIT} s: {what}")
        time.sleep(0.1)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port
