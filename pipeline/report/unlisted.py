"""The files that a listing has left out, in words: by kind, with the flag that includes them."""

from collections.abc import Iterator, Mapping, Sequence

from pipeline.flags import command_lines
from transforms.elements.formats import SHARD_FORMATS
from transforms.storage import globs, locations
from transforms.storage.left_out import BESIDE, HIDDEN, OTHER, beside, names_extension

# Kinds of names in a line; the report has more.
_NAMED = 5


def lines(
    left_out: Mapping[str, Mapping[str, int]], inputs: Sequence[str], input_format: str = "images"
) -> Iterator[str]:
    """Yields a line for each reason for which files were left out.

    Args:
      left_out: HIDDEN, OTHER or BESIDE → kind of name → files, as a report has it.
      inputs: the patterns of the run.
      input_format: of the run. No flag takes other members of shards, which are counted with the files beside them.
    """
    if hidden := left_out.get(HIDDEN):
        yield f"{_files(hidden, 'hidden file')} ({_kinds(hidden)}); --include_hidden takes hidden files too"
    other = left_out.get(OTHER)
    if other and input_format in SHARD_FORMATS:
        yield f"{_files(other, 'other file')} beside or in shards ({_kinds(other)}), no shards or images by name"
    elif other:
        most = max(other, key=lambda name: other[name])
        pattern = next(filter(_takes_any_kind, inputs), inputs[0])
        taking = command_lines.join([f"{_below(pattern)}{most}"])
        kind = "lists" if input_format == "list" else "images"
        yield f"{_files(other, 'other file')} ({_kinds(other)}), no {kind} by name; --input {taking} takes {most}"
    if images := left_out.get(BESIDE):
        taking = next((all_of for pattern in inputs if (all_of := beside(pattern))), inputs[0])
        said = "looks like an image" if sum(images.values()) == 1 else "look like images"
        whole = command_lines.join([taking.removesuffix("/**")])
        yield f"{_files(images, 'file')} beside the matches {said}: {_kinds(images)}; --input {whole} takes all"


def _takes_any_kind(pattern: str) -> bool:
    """Returns whether a pattern may leave out other files: not one that names a kind, or a single file."""
    is_one_file = locations.is_local(pattern) and not globs.has_wildcards(pattern)
    return not names_extension(pattern) and not is_one_file


def _below(pattern: str) -> str:
    return f"{pattern.rstrip('/')}/**" if globs.is_object_or_directory(pattern) else pattern


def _files(kinds: Mapping[str, int], what: str) -> str:
    files = sum(kinds.values())
    return f"{files} {what}{'' if files == 1 else 's'}"


def _kinds(kinds: Mapping[str, int]) -> str:
    ranked = sorted(kinds.items(), key=lambda kind: -kind[1])
    named = [f"{name} {files}" for name, files in ranked[:_NAMED]]
    rest = sum(files for _, files in ranked[_NAMED:])
    return ", ".join([*named, f"{rest} of other kinds"] if rest else named)
