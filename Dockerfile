# syntax=docker/dockerfile:1
# One image for both: what Dataflow's workers run, with or without a GPU, and what launches the Flex Template.
# `make image IMAGE=…` builds it; docs/container.md says what is in it and why.

ARG PYTHON=3.11
# Beam's version stands in setup.py too: launcher and workers must have the same.
ARG BEAM=2.77.0
ARG LAUNCHER=20230622_RC00

FROM apache/beam_python${PYTHON}_sdk:${BEAM} AS beam
FROM gcr.io/dataflow-templates-base/python311-template-launcher-base:${LAUNCHER} AS launcher

# No CUDA image below it: TensorFlow finds CUDA in the packages of its extra `and-cuda`, and would leave that unused.
FROM python:${PYTHON}-slim-bookworm

COPY --from=beam /opt/apache/beam/boot /opt/apache/beam/LICENSE /opt/apache/beam/NOTICE /opt/apache/beam/
COPY --from=launcher /opt/google/dataflow/python_template_launcher /opt/google/dataflow/python_template_launcher

# What is only mounted is in no layer: neither the lock nor the sources, and what pip and builds leave in /tmp neither.
RUN --mount=type=bind,source=deploy/requirements.lock,target=/requirements.lock \
    --mount=type=tmpfs,target=/tmp \
    pip install --no-cache-dir --require-hashes --requirement /requirements.lock

RUN --mount=type=bind,target=/source,rw \
    --mount=type=tmpfs,target=/tmp \
    pip install --no-cache-dir --no-deps /source && pip check

# A model that workers need not fetch: whatever `python -m pipeline.stage_model` takes, a directory below models/ too.
# BAKED_MODEL is what allows --model=/opt/model on Dataflow, where else only gs:// is the same place for all.
ARG MODEL=""
ENV BAKED_MODEL=/opt/model
WORKDIR /template
RUN --mount=type=bind,target=/template \
    --mount=type=tmpfs,target=/tmp \
    if [ -n "${MODEL}" ]; then \
      PYTHONDONTWRITEBYTECODE=1 TFHUB_CACHE_DIR=/tmp/hub KAGGLEHUB_CACHE=/tmp/kaggle \
      python -m pipeline.stage_model "${MODEL}" "${BAKED_MODEL}"; \
    fi

COPY run_pipeline.py ./

# The driver is the worker machine's and appears there; images of NVIDIA have the same two lines.
ENV LD_LIBRARY_PATH=/usr/local/nvidia/lib:/usr/local/nvidia/lib64 \
    PATH=/usr/local/nvidia/bin:${PATH} \
    # Without it TensorFlow takes all of a GPU's memory at once.
    TF_FORCE_GPU_ALLOW_GROWTH=true \
    # All is installed: a virtual environment for each start of a worker would only take time.
    RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT=1 \
    PYTHONUNBUFFERED=1 \
    # All that the launcher looks at; it installs nothing either, so there is no requirements file to name.
    FLEX_TEMPLATE_PYTHON_PY_FILE=/template/run_pipeline.py

# No USER: Dataflow mounts directories of root below /var/opt, and the launcher logs below /var/log:
# https://github.com/pangeo-data/pangeo-docker-images/pull/360
# https://github.com/GoogleCloudPlatform/python-docs-samples/issues/13213

ENTRYPOINT ["/opt/apache/beam/boot"]
