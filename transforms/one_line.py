"""An error in one line: what a person is shown of it."""

MAX_CHARACTERS = 2000


def one_line(error: BaseException, max_characters: int = MAX_CHARACTERS) -> str:
    """Returns the first line of an error's message that says something, or the name of its class where none does.

    Beam's filesystems and urllib wrap the error that matters: its message is taken. A message that quotes the traceback
    of another process says what happened in its last line. A line that ends in a colon goes on with the next one.

    Args:
      error: any exception.
      max_characters: a longer line is cut, and ends in an ellipsis.
    """
    cause = _cause(error)
    lines = [" ".join(line.split()) for line in str(cause).splitlines()]
    lines = [line for line in lines if line]
    if any("Traceback (most recent call last)" in line for line in lines):
        said = lines[-1]
    else:
        said = ""
        for line in lines:
            said = f"{said} {line}".lstrip()
            if not said.endswith(":"):
                break
    said = said or type(cause).__name__
    return said if len(said) <= max_characters else f"{said[: max_characters - 1]}…"


def _cause(error: BaseException) -> BaseException:
    """Returns the error that another one wraps: as BeamIOError.exception_details does, and URLError.reason."""
    details = getattr(error, "exception_details", None)
    wrapped = next(iter(details.values()), None) if isinstance(details, dict) else getattr(error, "reason", None)
    return _cause(wrapped) if isinstance(wrapped, BaseException) else error
