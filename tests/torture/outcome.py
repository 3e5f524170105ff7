"""What a torture found: a row of the table in docs/reliability.md."""

import dataclasses


class Broken(AssertionError):
    """The job lost, corrupted or invented something."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """One fault: how it was made, how many were tried, and what happened each time."""

    fault: str
    made_by: str
    tried: int
    happened: str

    def row(self) -> str:
        return f"| {self.fault} | {self.made_by} | {self.tried:,} | {self.happened} |"


def check(holds: bool, message: object) -> None:
    """Raises Broken with the message unless a promise holds."""
    if not holds:
        raise Broken(message)
