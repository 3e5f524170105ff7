"""The label of an attempt at a run: its number and its start, as text in names of parts and in claims.

Numbers tell earlier attempts from later ones, because the clocks of two machines may differ. The claim to a run counts
the attempts. Labels of earlier versions are starts without a number, and come before all others.
"""

import datetime
import re

# The letter sorts after the year with which a label without a number begins.
_NUMBERED = re.compile(r"n([0-9]{8})_(.*)", re.DOTALL)


def label(number: int, started_at: datetime.datetime) -> str:
    """Returns the label of an attempt. Labels sort in the order of the attempts.

    >>> label(2, datetime.datetime(2026, 11, 21, 1, 2, 3, 456789, datetime.UTC))
    'n00000002_20261121T010203.456Z'
    >>> label(0, datetime.datetime(2026, 11, 21, 1, 2, 3, 456789, datetime.UTC))
    '20261121T010203.456Z'
    """
    start = started_at.strftime("%Y%m%dT%H%M%S.") + f"{started_at.microsecond // 1000:03d}Z"
    return f"n{number:08d}_{start}" if number else start


def of_report(number: int, started_at: str) -> str:
    """Returns the label of the attempt that wrote a report, from two of its fields; "" if they are not of a report."""
    try:
        return label(number, datetime.datetime.fromisoformat(started_at).astimezone(datetime.UTC))
    except (ValueError, TypeError):
        return ""


def number(label: str) -> int:
    """Returns the number of an attempt, from 1; 0 if the text has none."""
    numbered = _NUMBERED.fullmatch(label)
    return int(numbered[1]) if numbered else 0


def started_at(label: str) -> str:
    """Returns the start of an attempt as reports state it; "" if the text is no label."""
    numbered = _NUMBERED.fullmatch(label)
    try:
        start = datetime.datetime.fromisoformat(numbered[2] if numbered else label)
    except ValueError:
        return ""
    return start.isoformat(timespec="milliseconds")
