"""The Flex Template: its parameters, one for each flag of the command. Dataflow checks a launch against them.

python -m deploy.flex_template                 prints the metadata, as in deploy/flex_template.json
python -m deploy.flex_template --image IMAGE   prints the whole specification, to store in a bucket for launches
"""

import argparse
import json
import sys
from typing import Any

from pipeline.flags.parser import flags_described
from transforms.elements import table_name
from transforms.elements.formats import OUTPUT_FORMATS

NAME = "Image embeddings"
DESCRIPTION = (
    "Turns the images of a bucket into vectors, as TFRecords, Parquet files and BigQuery rows. Images that are known "
    "already are neither read nor embedded again. At least one of output and output_table is needed."
)
BUCKET_PATH = r"gs://[^/]+/.+"
# For flags of which Dataflow takes fewer values than the command, or whose values argparse does not describe.
REGEXES = {
    "input": r"gs://[^/]+(/.*)?",
    "output": BUCKET_PATH,
    "output_format": "|".join((*OUTPUT_FORMATS, ",".join(OUTPUT_FORMATS))),
    "output_table": table_name.PATTERN,
    "run_id": r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}",
    "batch_size": r"[1-9][0-9]*",
    "max_pixels": r"[1-9][0-9]*",
    "top_classes": r"[1-9][0-9]*",
    "read_concurrency": r"[1-9][0-9]*",
    "decode_processes": r"[0-9]+|cores",
    "image_size": r"[0-9]{1,5}x[0-9]{1,5}",
    "max_failure_rate": r"[01]?\.?[0-9]*([eE]-?[0-9]+)?",
    "billing_project": r"[a-z][a-z0-9.:-]+",
}
# Flags that answer a question at a terminal and start no job.
LEFT_OUT = ("explain", "dry_run", "images", "image_bytes", "images_per_second", "sample", "prices", "bucket_location")
# The choices of a flag that have a meaning on Dataflow.
CHOICES = {"preset": ("dataflow", "dataflow-gpu")}
# Flags of Beam that are parameters, in addition to the fields of a launch's `environment`.
BEAM = {
    "sdk_container_image": "Image that workers run (default: the template's own, which has everything that they need).",
    "dataflow_service_options": "Service option of Dataflow, as in automatically_use_created_reservation.",
    "number_of_worker_harness_threads": "Threads per worker process; they share one model (default: Dataflow's).",
}


def flags() -> dict[str, argparse.Action]:
    """Returns the flags of the command that are parameters, by name."""
    by_name = {flag.option_strings[0].removeprefix("--"): flag for flag in flags_described()}
    return {name: flag for name, flag in by_name.items() if name not in LEFT_OUT}


def metadata() -> dict[str, Any]:
    """Returns Dataflow's TemplateMetadata, ready for JSON."""
    own = [_own(name, flag) for name, flag in flags().items()]
    beam = [_parameter(name, meaning, optional=True) for name, meaning in BEAM.items()]
    return {"name": NAME, "description": DESCRIPTION, "parameters": [*own, *beam]}


def specification(image: str) -> dict[str, Any]:
    """Returns Dataflow's ContainerSpec, ready for JSON. The same image launches the job and runs its workers."""
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
        # A parameter has one value, and every character that could separate patterns may be part of a name.
        meaning = (
            "Images: a gs:// pattern (** crosses directories), or a gs:// directory. For more than one "
            "pattern, give the gs:// path of a list of URIs, and input_format list."
        )
    parameter = _parameter(name, meaning, optional=name != "input")
    if choices:
        parameter |= {"paramType": "ENUM", "enumOptions": [{"value": choice, "label": choice} for choice in choices]}
        parameter["regexes"] = [_whole("|".join(map(str, choices)))]
    elif flag.nargs == "?":
        parameter |= {"paramType": "BOOLEAN", "regexes": [_whole("true|false")]}
    elif name in REGEXES:
        parameter["regexes"] = [_whole(REGEXES[name])]
    if flag.default not in (None, False) and (not choices or flag.default in choices):
        parameter["defaultValue"] = str(flag.default)
    return parameter


def _whole(regex: str) -> str:
    return f"^({regex})$"


def _parameter(name: str, meaning: str, *, optional: bool) -> dict[str, Any]:
    label = name.replace("_", " ").capitalize().replace("Gpu", "GPU").replace("gpu", "GPU")
    return {"name": name, "label": label, "helpText": meaning, "isOptional": optional, "paramType": "TEXT"}


def main() -> None:
    """Prints the metadata, or with --image the whole specification."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", help="address of the image, as in europe-west1-docker.pkg.dev/project/repo/name:tag")
    image = parser.parse_args().image
    json.dump(specification(image) if image else metadata(), sys.stdout, indent=2, ensure_ascii=False)
    print()


if __name__ == "__main__":
    main()
