"""Images and containers by whichever of docker, podman and buildah is installed."""

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

BUILDERS = ("docker", "podman", "buildah")
ANYBODY = "54321:54321"  # uid and gid without an entry in the image's /etc/passwd


@dataclass(frozen=True)
class Builder:
    """One of BUILDERS. buildah runs a container on the host's network, by chroot, with the image's own modes."""

    name: str

    def run(self, *arguments: str | Path, seconds: float = 3000) -> str:
        """What the command prints; raises CalledProcessError."""
        command = [self.name, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=True)
        return done.stdout.strip()

    def has(self, image: str) -> bool:
        """Whether the image is here, or could be pulled."""
        for arguments in (("inspect", "--type", "image", image), ("pull", image)):
            with contextlib.suppress(subprocess.SubprocessError, OSError):
                self.run(*arguments, seconds=300)
                return True
        return False

    @contextlib.contextmanager
    def container(self, image: str, *command: str, port: int) -> Iterator["subprocess.Popen[str]"]:
        """A container that runs `command` as ANYBODY with read-only files but for /tmp; port 3000 is `port` here."""
        name = f"hinet-test-{port}"
        inside = ("/home/bentoml/bento/env/docker/entrypoint.sh", *command)
        if self.name == "buildah":
            self.run("from", "--pull-never", "--name", name, image)
            options = ["--isolation", "chroot", "--user", ANYBODY, "--env", f"BENTOML_PORT={port}"]
            started = ["buildah", "run", *options, name, "--", "env", "-u", "HOME", *inside]
        else:
            rights = ["--read-only", "--tmpfs", "/tmp", "--user", ANYBODY, "--cap-drop", "ALL"]
            started = [self.name, "run", "--name", name, *rights, "-p", f"127.0.0.1:{port}:3000", image, *command]
        force = [] if self.name == "buildah" else ["--force"]
        pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        with subprocess.Popen(started, **pipes) as process:
            try:
                yield process
            finally:
                _terminate(process)
                process.communicate(timeout=120)
                self.run("rm", *force, name)


def _terminate(process: "subprocess.Popen[str]") -> None:
    """Ask the process and all that it has started to end: buildah hands no signal on."""
    with contextlib.suppress(psutil.NoSuchProcess):
        client = psutil.Process(process.pid)
        for one in (*client.children(recursive=True), client):
            with contextlib.suppress(psutil.NoSuchProcess):
                one.terminate()


def builder_with(image: str) -> Builder | None:
    """The first builder that has `image`, or can pull it."""
    installed = (Builder(name) for name in BUILDERS if shutil.which(name))
    return next((builder for builder in installed if builder.has(image)), None)
