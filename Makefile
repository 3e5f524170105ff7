# make demo: an environment, the package in it, and vectors of the sample images in ./output.
# make check: lint, types and the fast tests, in under a minute. It leaves out the tests marked slow: those that start
#   servers, clusters or the command, large models, Beam's longer pipelines, and the environments of tests/deploy.
# make test: an environment with what the tests need, and all tests; at the end it lists the slowest.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo flink-demo check test lint format bench memory clean

demo: $(VENV)/demo
	$(BIN)/python run_pipeline.py

check: lint
	$(BIN)/python -m pytest -m 'not slow' --numprocesses=auto --maxprocesses=4 --dist=worksteal

test: $(VENV)/test
	$(BIN)/python -m pytest --numprocesses=2 --dist=worksteal --durations=20

lint: $(VENV)/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The flag table from the parser, then links and code blocks.
.PHONY: docs
docs: $(VENV)/test
	$(BIN)/python -m docs.flags_table > $(VENV)/flags.md && cp $(VENV)/flags.md docs/flags.md
	$(BIN)/python -m pytest tests/docs

format: $(VENV)/test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/demo
	$(BIN)/python -m benchmarks.suite $(BENCH)

memory: $(VENV)/demo
	$(BIN)/python -m benchmarks.memory

# The sample images on a Flink cluster of this machine, which is stopped at the end: docs/flink.md.
flink-demo: $(VENV)/demo
	$(BIN)/python -m deploy.flink --reprocess

clean:
	rm -rf $(VENV) build dist output *.egg-info

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

# Editable: what runs is what lies here.
$(VENV)/demo: $(VENV)/bin/python setup.py pyproject.toml
	$(BIN)/python -m pip install -qq --editable .
	@touch $@

$(VENV)/test: $(VENV)/demo
	$(BIN)/python -m pip install -qq --editable '.[test]'
	@touch $@

# The image and the Flex Template: docs/container.md. Each prints the command that it runs.
.PHONY: image push template launch lock

JOB ?= embed-images-$(shell date -u +%Y%m%d-%H%M%S)

# $(call need,NAME,EXAMPLE) is nothing where the variable has a value; else make ends, and says what to give.
need = $(if $($(1)),,$(error $(1) is not set: expected its value, as in `make $@ $(1)=$(2)`))
NEEDS_IMAGE = $(call need,IMAGE,europe-west1-docker.pkg.dev/PROJECT/REPOSITORY/embed-images:1)
NEEDS_TEMPLATE = $(call need,TEMPLATE,gs://BUCKET/templates/embed-images.json)
NEEDS_PLACE = $(call need,PROJECT,my-project)$(call need,REGION,europe-west1)$(call need,TEMP_LOCATION,gs://BUCKET/tmp)
NEEDS_INPUT = $(call need,INPUT,'gs://BUCKET/photos/**')
NEEDS_OUTPUT = $(if $(OUTPUT)$(OUTPUT_TABLE),,$(call \
  need,OUTPUT,gs://BUCKET/vectors` or `OUTPUT_TABLE=PROJECT:DATASET.TABLE))

given = $(if $($(2)),$(1)$($(2)))
WORKERS = $(call given,--service-account-email=,SERVICE_ACCOUNT) $(call given,--max-workers=,MAX_WORKERS) \
  $(call given,--worker-machine-type=,MACHINE_TYPE)
# Between ^ and ^ stands what separates parameters; a comma may be in a pattern or a table of tags.
PARAMETER_LIST = ^|^input=$(INPUT)$(call given,|output=,OUTPUT)$(call given,|output_table=,OUTPUT_TABLE)$(call \
  given,|,PARAMETERS)

image:
	$(NEEDS_IMAGE)docker build $(call given,--build-arg MODEL=,MODEL) --tag $(IMAGE) .

push:
	$(NEEDS_IMAGE)docker push $(IMAGE)

template: $(VENV)/demo
	$(NEEDS_IMAGE)$(NEEDS_TEMPLATE)$(BIN)/python -m deploy.flex_template --image $(IMAGE) > $(VENV)/template.json
	gcloud storage cp $(VENV)/template.json $(TEMPLATE)

launch:
	$(NEEDS_TEMPLATE)$(NEEDS_PLACE)$(NEEDS_INPUT)$(NEEDS_OUTPUT)gcloud dataflow flex-template run $(JOB) \
	  --template-file-gcs-location=$(TEMPLATE) --project=$(PROJECT) --region=$(REGION) \
	  --temp-location=$(TEMP_LOCATION) --staging-location=$(TEMP_LOCATION) $(strip $(WORKERS)) \
	  --parameters='$(PARAMETER_LIST)'

# What is pinned stays so where setup.py allows it; remove the file first to have all anew.
lock: $(VENV)/test
	$(BIN)/uv pip compile --quiet setup.py deploy/requirements.in --extra heic --python-version 3.11 \
	  --python-platform x86_64-manylinux_2_28 --generate-hashes --no-annotate --no-header \
	  --output-file deploy/requirements.lock
	$(BIN)/python -m deploy.flex_template > deploy/flex_template.json
