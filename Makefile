# make demo: makes an environment, installs the package, and embeds the sample images into ./output.
# make check: runs lint, types and the fast tests, in under a minute. It leaves out the tests marked slow: those that
#   start servers, clusters or the command, large models, Beam's longer pipelines, and the environments of tests/deploy.
# make test: makes an environment with the requirements of the tests, runs all tests, and lists the slowest.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo flink-demo check test lint format bench bench-buckets bench-gpu memory clean

demo: $(VENV)/demo
	$(BIN)/python run_pipeline.py
	@echo "Look at it: $$(ls -t output/runs/*.html | head -n 1)"

check: lint
	$(BIN)/python -m pytest -m 'not slow' --numprocesses=auto --maxprocesses=4 --dist=worksteal

test: $(VENV)/test
	$(BIN)/python -m pytest --numprocesses=2 --dist=worksteal --durations=20

lint: $(VENV)/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Generates the flag table from the parser, then checks links and code blocks.
.PHONY: docs
docs: $(VENV)/test
	$(BIN)/python -m docs.flags_table > $(VENV)/flags.md && cp $(VENV)/flags.md docs/flags.md
	$(BIN)/python -m pytest tests/docs

# Fuzzes all that reads bytes that strangers write. Another FUZZ_SEED tries other inputs.
.PHONY: fuzz
FUZZ_SECONDS ?= 600
FUZZ_SEED ?= 0
fuzz: $(VENV)/test
	PYTHONHASHSEED=0 $(BIN)/python -m tests.fuzz --seconds=$(FUZZ_SECONDS) --seed=$(FUZZ_SEED) $(FUZZ)

# Makes each fault that we know how to make, and prints what happened: the table of docs/reliability.md. Some 40
# minutes on two cores, with TORTURE=--quick some minutes.
.PHONY: torture
torture: $(VENV)/test
	$(BIN)/python -m tests.torture $(TORTURE)

# Known vulnerabilities of the image's locked versions. Without a network it says so in one line, and succeeds: pip-audit
# writes its table only if it was answered.
.PHONY: audit
audit: $(VENV)/test
	@rm -f $(VENV)/audit.txt; \
	if $(BIN)/uv tool run --quiet pip-audit --progress-spinner=off --disable-pip --require-hashes \
	    --requirement=deploy/requirements.lock --output=$(VENV)/audit.txt 2> $(VENV)/audit.log; \
	then echo "audit: no known vulnerabilities"; \
	elif [ -s $(VENV)/audit.txt ]; then cat $(VENV)/audit.txt; exit 1; \
	else echo "audit: not done, the database of vulnerabilities cannot be reached: see $(VENV)/audit.log"; fi

format: $(VENV)/test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/demo
	$(BIN)/python -m benchmarks.suite $(BENCH)

# Reads from servers of Cloud Storage and S3 on this machine, beside local files: benchmarks/README.md.
bench-buckets: $(VENV)/test
	$(BIN)/python -m benchmarks.buckets $(BENCH)

# Measures a GPU in under ten minutes, where TensorFlow sees one: benchmarks/README.md. Without one it says what it needs.
bench-gpu: $(VENV)/demo
	$(BIN)/python -m benchmarks.gpu $(BENCH)

memory: $(VENV)/demo
	$(BIN)/python -m benchmarks.memory

# Embeds the sample images on a Flink cluster that is started on this machine and stopped at the end: docs/flink.md.
flink-demo: $(VENV)/demo
	$(BIN)/python -m deploy.flink --reprocess

clean:
	rm -rf $(VENV) build dist output *.egg-info

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

# Editable, so that the code in this directory runs.
$(VENV)/demo: $(VENV)/bin/python setup.py pyproject.toml
	$(BIN)/python -m pip install -qq --editable .
	@touch $@

$(VENV)/test: $(VENV)/demo
	$(BIN)/python -m pip install -qq --editable '.[test]'
	@touch $@

# The image and the Flex Template: docs/container.md. Each prints the command that it runs.
.PHONY: image push template launch lock

JOB ?= embed-images-$(shell date -u +%Y%m%d-%H%M%S)

# $(call need,NAME,EXAMPLE) is empty if the variable has a value. Otherwise make ends with an error that names it.
need = $(if $($(1)),,$(error $(1) is not set: expected its value, as in `make $@ $(1)=$(2)`))
NEEDS_IMAGE = $(call need,IMAGE,europe-west1-docker.pkg.dev/PROJECT/REPOSITORY/embed-images:1)
NEEDS_TEMPLATE = $(call need,TEMPLATE,gs://BUCKET/templates/embed-images.json)
NEEDS_PLACE = $(call need,PROJECT,my-project)$(call need,REGION,europe-west1)$(call need,TEMP_LOCATION,gs://BUCKET/tmp)
NEEDS_INPUT = $(call need,INPUT,'gs://BUCKET/photos/**')
NEEDS_OUTPUT = $(if $(OUTPUT)$(OUTPUT_TABLE),,$(call \
  need,OUTPUT,gs://BUCKET/vectors` or `OUTPUT_TABLE=PROJECT:DATASET.TABLE))

# $(call option,PREFIX,NAME) is the prefix and the variable's value, or empty if the variable has none.
option = $(if $($(2)),$(1)$($(2)))
WORKERS = $(call option,--service-account-email=,SERVICE_ACCOUNT) $(call option,--max-workers=,MAX_WORKERS) \
  $(call option,--worker-machine-type=,MACHINE_TYPE)
# ^|^ makes | the separator of parameters, because patterns and tags may contain commas.
PARAMETER_LIST = ^|^input=$(INPUT)$(call option,|output=,OUTPUT)$(call option,|output_table=,OUTPUT_TABLE)$(call \
  option,|,PARAMETERS)

image:
	$(NEEDS_IMAGE)docker build $(call option,--build-arg MODEL=,MODEL) --tag $(IMAGE) .

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

# Keeps the pinned versions that setup.py allows. Remove the file first to update all versions.
lock: $(VENV)/test
	$(BIN)/uv pip compile --quiet setup.py deploy/requirements.in --extra heic --extra s3 --extra azure \
	  --python-version 3.11 --python-platform x86_64-manylinux_2_28 --generate-hashes --no-annotate --no-header \
	  --output-file deploy/requirements.lock
	$(BIN)/python -m deploy.flex_template > deploy/flex_template.json
