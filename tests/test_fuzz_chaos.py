"""Jobs that were mauled: each is a job still, or refused in one line that names the field, and nothing else happens."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raymix.spec import JobSpec

pytestmark = pytest.mark.chaos

ROOT = Path(__file__).resolve().parent.parent
JOBS = [yaml.safe_load(path.read_text()) for path in sorted((ROOT / "jobs").glob("*.yaml"))]
UNKNOWN = [
    "lr",
    "Name",
    "data.train",
    "__class__",
    "ssl_epochs",
    "",
    " ",
    "\u202egnal",
    "a" * 300,
    "\x00",
    "0",
    "\uff4eame",
]
HUGE = "x" * 10_000_000
ODD_TEXT = [
    "",
    " ",
    "\x00",
    "\u202e",
    "é",
    "🎉" * 50,
    "\ud800",
    "../../etc",
    "~nobody-here/x",
    "null",
    "%s%n{0}",
    "a\nb",
]
ODD_TEXT += ["-1", "1e400", "0x10", "s3://key:secret@bucket/x", "!!python/object:os.system", "*a", "$(touch here)"]
NUMBERS = [0, -1, 1, 2**31, 2**63, 2**64, 10**30, 0.0, -0.0, 1e-320, 1e308, float("inf"), float("-inf"), float("nan")]
ODD = st.one_of(
    # copies, for a change may fall on what an earlier one has put in
    st.sampled_from([None, True, False, [], {}, [[]], [None], {"a": 1}, *ODD_TEXT, *NUMBERS]).map(copy.deepcopy),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.lists(st.integers(-2, 2), max_size=3),
    st.dictionaries(st.sampled_from(UNKNOWN), st.integers(-2, 2), max_size=2),
    st.integers(1, 400).map(lambda depth: nested(depth)),
)
TRICKS: list[Callable[[str], bytes]] = [
    lambda text: (
        f"a0: &a0 [x, x]\n{''.join(f'a{n}: &a{n} [*a{n - 1}, *a{n - 1}]{chr(10)}' for n in range(1, 40))}".encode()
        + text.encode()
    ),
    lambda text: f"{text}\nstorage: !!python/object/apply:os.system ['touch here']\n".encode(),
    lambda text: f"{text}\nseed: !!python/name:os.system\n".encode(),
    lambda text: f"{text}\nname: twice\nname: twice\n".encode(),
    lambda text: f"--- {text}\n--- {{}}\n".encode(),
    lambda text: f"%YAML 9.9\n---\n{text}".encode(),
    lambda text: f"{text}\n<<: {{seed: 1}}\n".encode(),
    lambda text: text.encode().replace(b":", b":\x00", 1),
    lambda text: text.encode() + b"\xff\xfe\x80",
    lambda text: text.encode("utf-16"),
    lambda text: text.replace("\n", "\r").encode(),
    lambda text: text.replace("  ", "\t").encode(),
    lambda text: text.encode()[: len(text) // 2],
    lambda text: b"[" * 50_000 + text.encode(),
    lambda text: f"{text}\nseed: {'9' * 5000}\n".encode(),
    lambda text: f"{text}\nx: {HUGE}\n".encode(),
    lambda text: f"{text}\n? [a, b]\n: 1\n".encode(),
    lambda text: b"",
    lambda text: text.encode(),
]


def nested(depth: int) -> Any:
    value: Any = 1
    for level in range(depth):
        value = [value] if level % 2 else {"a": value}
    return value


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of everything in a job."""
    if path:
        yield path
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in parts:
        yield from places(inner, (*path, key))


@st.composite
def mauled(draw: st.DrawFn) -> bytes:
    """The bytes of a job file with one to three changes of structure, and perhaps a trick of YAML's."""
    job = json.loads(json.dumps(draw(st.sampled_from(JOBS))))
    for _ in range(draw(st.integers(0, 3))):
        *way, last = draw(st.sampled_from(list(places(job)) or [("name",)]))
        here = job
        for part in way:
            here = here[part]
        change = draw(st.sampled_from(["set", "set", "drop", "add", "field"]))
        if change == "set":
            here[last] = draw(ODD)
        elif change == "drop":
            del here[last]
        elif isinstance(here, dict):
            name = draw(st.sampled_from(UNKNOWN if change == "add" else list(JobSpec.model_fields)))
            here[name] = draw(ODD)
    write = draw(st.sampled_from([json.dumps, yaml.safe_dump]))
    try:
        text = write(job)
        text.encode()
    except (UnicodeEncodeError, yaml.YAMLError):  # half a surrogate pair
        text = json.dumps(job)
    return draw(st.sampled_from(TRICKS if draw(st.integers(0, 3)) == 0 else TRICKS[-1:]))(text)


class Checker:
    """`tests/validating.py`, running in an empty folder."""

    def __init__(self, folder: Path) -> None:
        self.home, self.job = folder / "home", folder / "job.yaml"
        self.home.mkdir()
        self.environment = {
            **os.environ,
            "HOME": str(self.home),
            "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self.environment["RAYMIX_CACHE"] = str(self.home / "cache")
        command = [sys.executable, str(ROOT / "tests" / "validating.py")]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(command, cwd=self.home, env=self.environment, **pipes)

    def check(self, raw: bytes) -> dict[str, Any]:
        """What `raymix validate` says, in that process."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.job.write_bytes(raw)
        print(json.dumps(str(self.job)), file=self.process.stdin, flush=True)
        told: dict[str, Any] = json.loads(self.process.stdout.readline())
        return told

    def command(self, raw: bytes) -> dict[str, Any]:
        """What the real command says."""
        self.job.write_bytes(raw)
        command = [sys.executable, "-m", "raymix", "validate", str(self.job)]
        done = subprocess.run(command, cwd=self.home, env=self.environment, capture_output=True, text=True, check=False)
        return {"code": done.returncode, "out": done.stdout, "err": done.stderr, "heavy": []}

    def agrees(self, told: dict[str, Any]) -> None:
        """A job, or one line that names the field; nothing was imported or written."""
        assert told["code"] in (0, 2), told
        assert told["heavy"] == []
        assert list(self.home.iterdir()) == []
        if told["code"] == 0:
            assert told["err"] == ""
            return
        err: str = told["err"]
        assert told["out"] == ""
        assert err.startswith("error: ")
        assert err.count("\n") == 1
        assert err.endswith("\n")
        assert len(err) < 1500, "nobody reads more"
        assert "secret" not in err
        field = err.removeprefix("error: ").split(": ")[0]
        head = field.partition(".")[0].strip('"')
        shown = {name.encode("unicode_escape").decode().strip() for name in UNKNOWN} | {*UNKNOWN, "", "data"}
        known = head in JobSpec.model_fields or head in shown or field.startswith((str(self.job), "job"))
        assert known or head in ("a", "<<"), err


@pytest.fixture
def checker(tmp_path: Path) -> Iterator[Checker]:
    made = Checker(tmp_path)
    yield made
    assert made.process.stdin is not None
    made.process.stdin.close()
    assert made.process.wait(30) == 0


def fuzz(num: int, few: bool, check: Callable[[bytes], None]) -> None:
    given(raw=mauled())(
        settings(
            max_examples=num,
            deadline=None,
            database=None,
            derandomize=few,
            suppress_health_check=list(HealthCheck),
        )(lambda raw: check(raw))
    )()


@pytest.mark.timeout(900)
def test_mauled_jobs(checker: Checker, rounds: Callable[[int, int], int]) -> None:
    num = rounds(5000, 300)
    codes: list[int] = []

    def check(raw: bytes) -> None:
        told = checker.check(raw)
        checker.agrees(told)
        codes.append(told["code"])

    fuzz(num, num < 5000, check)
    assert len(codes) >= num
    assert set(codes) == {0, 2}, "some are jobs still"


@pytest.mark.timeout(900)
def test_mauled_jobs_by_the_real_command(checker: Checker, rounds: Callable[[int, int], int]) -> None:
    num = rounds(200, 10)
    fuzz(num, num < 200, lambda raw: checker.agrees(checker.command(raw)))


def test_every_trick_of_yaml_is_one_line(checker: Checker) -> None:
    text = yaml.safe_dump(JOBS[0])
    for trick in TRICKS:
        checker.agrees(checker.check(trick(text)))
