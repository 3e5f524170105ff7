# syntax=docker/dockerfile:1
# One image serves Dataflow's workers, with or without a GPU, and launches the Flex Template.
# `make image IMAGE=…` builds it. docs/container.md explains its contents.

ARG PYTHON=3.11
# The same version as in setup.py: launcher and workers must agree.
ARG BEAM=2.77.0
ARG LAUNCHER=20230622_RC00

FROM apache/beam_python${PYTHON}_sdk:${BEAM} AS beam
FROM gcr.io/dataflow-templates-base/python311-template-launcher-base:${LAUNCHER} AS launcher

# Not a CUDA image: TensorFlow finds CUDA in the packages of its extra `and-cuda`, and would not use the image's.
FROM python:${PYTHON}-slim-bookworm

COPY --from=beam /opt/apache/beam/boot /opt/apache/beam/LICENSE /opt/apache/beam/NOTICE /opt/apache/beam/
COPY --from=launcher /opt/google/dataflow/python_template_launcher /opt/google/dataflow/python_template_launcher

# Mounts are in no layer. So the lock, the sources, and leftovers of pip and builds in /tmp take no space in the image.
RUN --mount=type=bind,source=deploy/requirements.lock,target=/requirements.lock \
    --mount=type=tmpfs,target=/tmp \
    pip install --no-cache-dir --require-hashes --requirement /requirements.lock

RUN --mount=type=bind,target=/source,rw \
    --mount=type=tmpfs,target=/tmp \
    pip install --no-cache-dir --no-deps /source && pip check

# A model that workers need not download: anything that `python -m pipeline stage-model` takes, also a directory below
# models/. BAKED_MODEL allows --model=/opt/model on Dataflow. Otherwise only gs:// is the same place for all workers.
ARG MODEL=""
ENV BAKED_MODEL=/opt/model
WORKDIR /template
RUN --mount=type=bind,target=/template \
    --mount=type=tmpfs,target=/tmp \
    if [ -n "${MODEL}" ]; then \
      PYTHONDONTWRITEBYTECODE=1 TFHUB_CACHE_DIR=/tmp/hub KAGGLEHUB_CACHE=/tmp/kaggle \
      python -m pipeline stage-model "${MODEL}" "${BAKED_MODEL}"; \
    fi

COPY run_pipeline.py ./

# The worker's machine mounts its driver there. NVIDIA's own images have the same two lines.
ENV LD_LIBRARY_PATH=/usr/local/nvidia/lib:/usr/local/nvidia/lib64 \
    PATH=/usr/local/nvidia/bin:${PATH} \
    # Without this, TensorFlow takes all of a GPU's memory at once.
    TF_FORCE_GPU_ALLOW_GROWTH=true \
    # All packages are installed. A virtual environment for each start of a worker would only take time.
    RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT=1 \
    PYTHONUNBUFFERED=1 \
    # The launcher reads only this. It installs nothing, so there is no requirements file to name.
    FLEX_TEMPLATE_PYTHON_PY_FILE=/template/run_pipeline.py

# No USER: Dataflow mounts directories of root below /var/opt, and the launcher writes its log below /var/log.
# https://github.com/pangeo-data/pangeo-docker-images/pull/360
# https://github.com/GoogleCloudPlatform/python-docs-samples/issues/13213

ENTRYPOINT ["/opt/apache/beam/boot"]
