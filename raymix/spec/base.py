"""What every section of a job is made of: one error type, one frozen base class, durations, shares and names."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

# of a URL: whoever is named before an @, and what a signed one is signed with
_USER = re.compile(r"(?<=://)[^/@\s]+@")
_SIGNATURE = re.compile(r"(?i)(?<=[?&])((?:x-amz-|x-goog-)?(?:signature|credential|security-token)|sig)=[^&\s]+")


def masked(text: str) -> str:
    """The text without the secrets that a URL in it holds."""
    return _SIGNATURE.sub(r"\1=***", _USER.sub("***@", text))


def _printable(text: str) -> str:
    """One line that a terminal can show, whatever a file name or a key holds."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in masked(text))


SPEC_VERSION = 1  # of what a job can say; raised where a job of an older raymix would be read as something else


class JobError(ValueError):
    """The user's mistake: one field, what is wrong with it, and what to do instead. Exit code 2."""

    def __init__(self, field: str, problem: str, hint: str = "") -> None:
        self.field, self.problem, self.hint = _printable(field), _printable(problem), _printable(hint)
        super().__init__(f"{self.field}: {self.problem}" + (f" ({self.hint})" if hint else ""))

    def __reduce__(self) -> tuple[type[JobError], tuple[str, str, str]]:
        return type(self), (self.field, self.problem, self.hint)  # travels between processes whole

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows: where it was raised is not where the mistake is."""
        return [f"JobError: {self}"]


class Section(BaseModel):
    """Base of every value in raymix that is asked, planned or reported: frozen, and nothing unknown gets in."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _seconds(value: Any) -> Any:
    """'90s', '10m', '2h', '1d' as seconds; a bare number is seconds already."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|m|h|d)\s*", value)
    if not match:
        raise ValueError("a duration is a number and one of s, m, h, d, as in 90s or 2h")
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]


def _share(value: Any) -> Any:
    """'5%' as 0.05; a bare number is a share already."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*%\s*", value)
    if not match:
        raise ValueError("a share is a number from 0 to 1, or a percentage as in 5%")
    return float(match[1]) / 100


def _bytes(value: Any) -> Any:
    """'200MB', '2GB' as bytes; a bare number is bytes already."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kMGT]?)(i?)B\s*", value)
    if not match:
        raise ValueError("a size is a number and one of kB, MB, GB, TB, as in 200MB")
    return int(float(match[1]) * (1024 if match[3] else 1000) ** " kMGT".index(match[2] or " "))


def _open(path: str) -> str:
    """A path that holds no secret: a job is written into run folders, and shown."""
    if masked(path) != path:
        raise PydanticCustomError("secret", "holds a secret")
    return path


_TEXT_OR_NUMBER = WithJsonSchema({"anyOf": [{"type": "number", "minimum": 0}, {"type": "string"}]})
Seconds = Annotated[float, BeforeValidator(_seconds), Field(ge=0), _TEXT_OR_NUMBER]
Share = Annotated[float, BeforeValidator(_share), Field(ge=0, le=1), _TEXT_OR_NUMBER]
Bytes = Annotated[int, BeforeValidator(_bytes), Field(ge=0), _TEXT_OR_NUMBER]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
Folder = Annotated[
    str, Field(min_length=1, pattern=r"^[^\x00]+$"), AfterValidator(_open)
]  # no system has a path with a NUL in it
