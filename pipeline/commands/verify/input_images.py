"""Checks that each image of --input has a record or a failure."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence

from pipeline.commands.listed_images import ListedImage
from pipeline.commands.verify.findings import Findings, counted
from pipeline.commands.verify.identities import Identities, identity
from pipeline.commands.verify.record_file import Record
from pipeline.commands.verify.run_checks import CheckedRun
from transforms.elements import keys


@dataclasses.dataclass(frozen=True)
class Recorded:
    """The keys, and the keys with their versions, that any run of the output has a record of."""

    keys: Identities = dataclasses.field(default_factory=Identities)
    versions: Identities = dataclasses.field(default_factory=Identities)

    def add(self, record: Record) -> None:
        self.keys.add(identity(record.key))
        self.versions.add(identity(record.key, record.version))


def check(images: Iterable[ListedImage], runs: Sequence[CheckedRun], recorded: Recorded, findings: Findings) -> None:
    """Checks that each image that is listed has a record or a failure.

    `images` can be iterated twice, and the latest run is the last. If any run of the output has recorded this version
    of an image, later runs have skipped it.
    """
    with findings.check("input: images listed now") as outcome:
        listed, as_listed = Identities(), Identities()
        for image in images:
            listed.add(identity(image.key))
            as_listed.add(identity(image.key) if image.version is None else identity(image.key, image.version))
        placed = as_listed.also_in(recorded.versions, recorded.keys)
        placed |= listed.also_in(*(run.failed_keys for run in runs))
        changed = ~placed & listed.also_in(runs[-1].keys)
        outdated = ~placed & ~changed & listed.also_in(recorded.keys)
        lost = ~placed & ~changed & ~outdated
        outcome.text = f"input: {counted(len(listed.distinct()), 'image')} listed now, each with a record or a failure"
        kinds = (
            (findings.problem, "an image of the input has no record and no failure", listed.where(lost)),
            (findings.problem, "an image of the input has a record of another version only", listed.where(outdated)),
            (findings.note, "an image of the input has changed since the run", listed.where(changed)),
        )
        if any(hashes for _, _, hashes in kinds):
            for image in images:
                _name(image.key, kinds)
        for run in runs:
            unlisted = run.keys.where(~run.keys.also_in(listed))
            if unlisted:
                for record in run.files.records():
                    _name(record.key, [(findings.note, "a record of an image that is not in the input", unlisted)])


def _name(key: bytes, kinds: Iterable[tuple[Callable[[str, str], None], str, set[bytes]]]) -> None:
    """Reports a key once under each kind whose set has it."""
    hashed = identity(key)
    for report, kind, hashes in kinds:
        if hashed in hashes:
            hashes.remove(hashed)
            report(kind, keys.name(key))
