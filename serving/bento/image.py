"""The container image of the bento: what BentoML's Dockerfile is made from."""

import sys

from bentoml.images import Image

HOME = "/home/bentoml"  # of BentoML's Dockerfile, which puts the bento into its folder `bento`
CONSTRAINTS = "env/python/constraints.txt"  # in the bento: the tested version of every package, also of indirect ones
HOME_FOLDERS = ("bentos", "models", "envs", "tmp")  # which BentoML makes where they are missing, or fails
ENVIRONMENT = {
    "UV_TORCH_BACKEND": "cpu",  # PyPI's torch brings CUDA: several GB that a service on CPUs never uses
    "UV_CONSTRAINT": f"{HOME}/bento/{CONSTRAINTS}",
    "BENTOML_HOST": "0.0.0.0",  # of the container; which ports the host opens is said where it is started
    "BENTOML_DO_NOT_TRACK": "True",
}  # each is an ARG, too: `docker build --build-arg UV_TORCH_BACKEND=...`


def container_image() -> Image:
    """Debian with this Python, without BentoML's compiler and git: every package has a wheel.

    It runs as any user, with read-only files but for /tmp: its folders are there, and anybody can read them.
    """
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    image = Image(base_image=f"python:{python}-slim", python_version=python, distro="")  # a distribution adds them
    folders = " ".join(f"{HOME}/{name}" for name in HOME_FOLDERS)
    return image.run(f"mkdir -p {folders} && chmod 755 {HOME}")
