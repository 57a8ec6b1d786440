"""What may be logged: facts and error codes, and never the text of somebody else's exception."""

import traceback
from collections.abc import Mapping
from typing import Protocol


class Log(Protocol):
    """A structured logger: a fixed message, and the facts in `extra`. No `exception`: tracebacks quote."""

    def warning(self, msg: object, *, extra: Mapping[str, object]) -> None: ...
    def error(self, msg: object, *, extra: Mapping[str, object]) -> None: ...


def fault(error: BaseException) -> dict[str, object]:
    """What may be logged of an exception: its type and where it was raised.

    Never its message: those of SDKs and parsers quote what they were given, and that can be a token.
    """
    frames = traceback.extract_tb(error.__traceback__)
    at = [f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in frames[-6:]]
    return {"error_type": type(error).__name__, "at": at}
