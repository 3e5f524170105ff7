"""The Flex Template: a parameter for each flag of the command → what Dataflow checks a launch against.

python -m deploy.flex_template                 the metadata, which is kept as deploy/flex_template.json
python -m deploy.flex_template --image IMAGE   the whole specification, which a bucket holds for launches
"""

import argparse
import json
import sys
from typing import Any

from pipeline import options
from transforms import table_name

NAME = "Image embeddings"
DESCRIPTION = (
    "Turns the images of a bucket into vectors, as TFRecords and BigQuery rows; what is known already is neither read "
    "nor embedded again. At least one of output and output_table is needed."
)
BUCKET_PATH = r"gs://[^/]+/.+"
# Where a job on Dataflow takes less than the command does, or argparse cannot tell.
REGEXES = {
    "input": r"gs://[^/]+(/.*)?",
    "output": BUCKET_PATH,
    "output_table": table_name.PATTERN,
    "run_id": r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}",
    "batch_size": r"[1-9][0-9]*",
    "max_pixels": r"[1-9][0-9]*",
    "top_classes": r"[1-9][0-9]*",
    "read_concurrency": r"[1-9][0-9]*",
    "image_size": r"[0-9]{1,5}x[0-9]{1,5}",
    "max_failure_rate": r"[01]?\.?[0-9]*([eE]-?[0-9]+)?",
    "billing_project": r"[a-z][a-z0-9.:-]+",
}
# What a person asks at a terminal before there is a job.
LEFT_OUT = ("explain", "dry_run", "images", "image_bytes", "images_per_second", "sample", "prices")
# Of the choices of a flag, those that mean something on Dataflow.
CHOICES = {"preset": ("dataflow", "dataflow-gpu")}
# Beam's, beside those that a launch's `environment` has fields for.
BEAM = {
    "sdk_container_image": "The image that workers run; by default the template's own, which has all that they need.",
    "dataflow_service_options": "A service option of Dataflow, as in automatically_use_created_reservation.",
    "number_of_worker_harness_threads": "Threads of a worker process, which share one model (default: Dataflow's).",
}


def flags() -> dict[str, argparse.Action]:
    """Returns the command's flags that are parameters, by name."""
    named = {flag.option_strings[0].removeprefix("--"): flag for flag in options.flags_described()}
    return {name: flag for name, flag in named.items() if name not in LEFT_OUT}


def metadata() -> dict[str, Any]:
    """Returns Dataflow's TemplateMetadata as JSON has it."""
    own = [_own(name, flag) for name, flag in flags().items()]
    beam = [_parameter(name, meaning, optional=True) for name, meaning in BEAM.items()]
    return {"name": NAME, "description": DESCRIPTION, "parameters": [*own, *beam]}


def specification(image: str) -> dict[str, Any]:
    """Returns Dataflow's ContainerSpec as JSON has it: one image launches the job and works on it."""
    return {
        "image": image,
        "sdkInfo": {"language": "PYTHON"},
        "metadata": metadata(),
        "defaultEnvironment": {"sdkContainerImage": image},
    }


def _own(name: str, flag: argparse.Action) -> dict[str, Any]:
    choices = CHOICES.get(name) or flag.choices
    meaning = " ".join((flag.help or "").split()) % {"default": flag.default}
    if name == "input":
        # A parameter is given once, and no character is left to separate patterns with: any may be in a name.
        meaning = (
            "Images: a gs:// pattern, in which ** crosses directories, or a gs:// directory with a / at its end. One "
            "pattern only; for several, give the gs:// path of a list of URIs, and input_format list."
        )
    made = _parameter(name, meaning, optional=name != "input")
    if choices:
        made |= {"paramType": "ENUM", "enumOptions": [{"value": choice, "label": choice} for choice in choices]}
        made["regexes"] = [_whole("|".join(map(str, choices)))]
    elif flag.nargs == "?":
        made |= {"paramType": "BOOLEAN", "regexes": [_whole("true|false")]}
    elif name in REGEXES:
        made["regexes"] = [_whole(REGEXES[name])]
    if flag.default not in (None, False) and (not choices or flag.default in choices):
        made["defaultValue"] = str(flag.default)
    return made


def _whole(regex: str) -> str:
    return f"^({regex})$"


def _parameter(name: str, meaning: str, *, optional: bool) -> dict[str, Any]:
    label = name.replace("_", " ").capitalize().replace("Gpu", "GPU").replace("gpu", "GPU")
    return {"name": name, "label": label, "helpText": meaning, "isOptional": optional, "paramType": "TEXT"}


def main() -> None:
    """Prints the metadata, or the specification with an image."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", help="where the image lies, as in europe-west1-docker.pkg.dev/project/repo/name:tag")
    image = parser.parse_args().image
    json.dump(specification(image) if image else metadata(), sys.stdout, indent=2, ensure_ascii=False)
    print()


if __name__ == "__main__":
    main()
