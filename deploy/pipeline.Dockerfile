# What runs the flows in containers (work pools of type docker and kubernetes). In the root of the project:
#   docker build -f deploy/pipeline.Dockerfile -t hinet-pipeline .
# It has Python, git and the tested packages; the project itself, with its data, is a volume at /srv/hinet.
FROM python:3.11-slim
RUN apt-get update \
    && apt-get install -q -y --no-install-recommends git \
    && rm -rf /var/lib/apt/lists/* \
    && git config --system --add safe.directory /srv/hinet
# cpu: PyPI's torch brings CUDA, which is several GB; cu130 and the like are for GPUs
ARG UV_TORCH_BACKEND=cpu
COPY pyproject.toml constraints.txt /opt/hinet/
RUN pip install --no-cache-dir uv \
    && UV_COMPILE_BYTECODE=1 uv pip install --system --no-cache --quiet --extra s3 \
       --constraint /opt/hinet/constraints.txt -r /opt/hinet/pyproject.toml
ENV HOME=/tmp \
    USER=hinet \
    PREFECT_HOME=/tmp/prefect \
    PYTHONPATH=/srv/hinet \
    PYTHONUNBUFFERED=1 \
    DO_NOT_TRACK=1 \
    DVC_NO_ANALYTICS=1 \
    DVC_SITE_CACHE_DIR=/tmp/dvc \
    BENTOML_DO_NOT_TRACK=True
WORKDIR /srv/hinet
USER 1000:1000
