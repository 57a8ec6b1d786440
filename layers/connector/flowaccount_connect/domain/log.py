"""What may be logged: facts and error codes. The text of another library's exception is never logged."""

import traceback
from collections.abc import Mapping
from typing import Protocol


class Log(Protocol):
    """A structured logger: a fixed message, and the facts in `extra`.

    It has no method `exception`, because a traceback can quote secrets.
    """

    def info(self, msg: object, *, extra: Mapping[str, object]) -> None: ...
    def warning(self, msg: object, *, extra: Mapping[str, object]) -> None: ...
    def error(self, msg: object, *, extra: Mapping[str, object]) -> None: ...


def fault(error: BaseException) -> dict[str, object]:
    """What may be logged of an exception: its type, and the lines that raised it.

    The message is left out. SDKs and parsers quote their input in it, and their input can be a token.
    """
    frames = traceback.extract_tb(error.__traceback__)
    at = [f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in frames[-6:]]
    return {"error_type": type(error).__name__, "at": at}
