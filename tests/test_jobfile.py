"""Reading a job: files that are no job, YAML that is refused, and `--set`."""

from __future__ import annotations

import io
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raymix.jobfile import MAX_LENGTH, load_spec
from raymix.spec import JobError, JobSpec

TEXT = "name: digits\ndata:\n  train: {format: digits}\n  image_size: 8\nbackbone: {patch: 2}\n"


def refused(job: Any, *overrides: str) -> str:
    with pytest.raises(JobError) as caught:
        load_spec(job, overrides)
    line = str(caught.value)
    assert line.isprintable(), "one line"
    assert len(line) < 400
    return line


@pytest.fixture
def job(tmp_path: Path) -> Path:
    path = tmp_path / "digits.yaml"
    path.write_text(TEXT)
    return path


def written(job: Path, text: str | bytes) -> Path:
    job.write_bytes(text.encode() if isinstance(text, str) else text)
    return job


# ---- files ------------------------------------------------------------------------------------------------------


def test_a_file_is_read(job: Path) -> None:
    spec = load_spec(job)
    assert (spec.name, spec.data.image_size, spec.optim.lr) == ("digits", 8, 1e-3)
    assert load_spec(str(job)) == spec


def test_missing_file_names_a_near_one(job: Path) -> None:
    assert refused(job.parent / "digit.yaml") == f"{job.parent}/digit.yaml: no such job file (did you mean {job}?)"
    assert refused("no/where/at/all.yaml") == "no/where/at/all.yaml: no such job file (name a YAML file)"


def test_a_folder_is_no_job(job: Path) -> None:
    assert refused(job.parent).startswith(f"{job.parent}: is a folder, not a job file")


def test_an_unreadable_name_is_one_line(tmp_path: Path) -> None:
    assert refused("x" * 5000 + ".yaml").endswith("xxx...: File name too long")
    assert refused(tmp_path / "a\nb.yaml").endswith("no such job file (name a YAML file)")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission(job: Path) -> None:
    job.chmod(0)
    assert refused(job) == f"{job}: Permission denied"


def test_a_pipe_is_read(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.write(writing, TEXT.encode())
    os.close(writing)
    assert load_spec(f"/dev/fd/{reading}").name == "digits"
    os.close(reading)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is empty (a job is a mapping with name, data, ...; see raymix schema)"),
        ("# nothing but a comment\n", "is empty"),
        ("- name\n- data\n", "holds no fields (a job is a mapping"),
        ("digits", "holds no fields"),
        ("a: [" * 5000, "is nested too deeply"),
        ("[" * 20_000, "is nested too deeply"),
        ("{a: " * 20_000, "is nested too deeply"),
        ("- " * 20_000 + "x", "is nested too deeply"),
        ("name: 'abc", "found unexpected end of stream"),
        ("\t- a", "found character '\\t' that cannot start any token"),
        (f"seed: {'9' * 5000}", "holds a number of too many digits"),
        (b"\x00\x01\x02 binary", "is not YAML: special characters are not allowed"),
        (b"\xff\xfe\x80 latin", "is not UTF-8 text (a job is a YAML file)"),
        (b"\x89PNG\r\n\x1a\n", "is not UTF-8 text"),
        ("x" * (MAX_LENGTH + 1), "is larger than 100,000 characters"),
        ("name: !!python/object/apply:os.system [ls]", "YAML tags are not supported"),
        ("1: 2", "key 1 is not text"),
    ],
)
def test_what_is_no_job(job: Path, text: str | bytes, problem: str) -> None:
    before = time.monotonic()
    line = refused(written(job, text))
    assert problem in line
    assert line.startswith(str(job))
    assert time.monotonic() - before < 10


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("name: a\nname: b\n", "line 2: duplicate key 'name'"),
        (f"{TEXT}optim: {{lr: 1, lr: 2}}\n", "line 6: duplicate key 'lr'"),
        ("a: &x [1]\nb: *x\n", "line 2: YAML aliases are not supported"),
        ("a: b: c\nd: 1\n", "line 1: mapping values are not allowed here"),
        (f"{TEXT}? [a]\n: 1\n", "line 6: key ['a'] is not text"),
        (f"{TEXT}---\n{TEXT}", "expected a single document in the stream, but found another document"),
        (f"{TEXT}when: !!timestamp 2024-01-01\n", "line 6: YAML tags are not supported"),
    ],
)
def test_wrong_yaml_names_the_line(job: Path, text: str, problem: str) -> None:
    assert problem in refused(written(job, text))


def test_an_alias_bomb_is_refused_before_it_unfolds(job: Path) -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
    before = time.monotonic()
    assert "YAML aliases are not supported" in refused(written(job, bomb))
    assert time.monotonic() - before < 1


def test_deep_values_that_yaml_can_read(job: Path) -> None:
    assert "nested too deeply" in refused(written(job, f"{TEXT}x: {'[' * 250}{']' * 250}\n"))


def test_a_dotted_key_in_a_file_is_explained(job: Path) -> None:
    line = refused(written(job, f"{TEXT}optim.lr: 1\n"))
    assert line == '"optim.lr": unknown key (in a file, sections are nested; FIELD=VALUE is for --set)'


@pytest.mark.parametrize(
    ("text", "value"), [("1e-3", 1e-3), ("1E-3", 1e-3), ("2.5e-4", 2.5e-4), (".5", 0.5), ("1.", 1.0), ("3", 3.0)]
)
def test_numbers_are_numbers(job: Path, text: str, value: float) -> None:
    assert load_spec(written(job, f"{TEXT}optim: {{lr: {text}}}\n")).optim.lr == value


@pytest.mark.parametrize("text", ["no", "2024-01-01", "010", "1.2.3", "on", "y"])
def test_what_yaml_1_1_takes_for_something_else_stays_text(job: Path, text: str) -> None:
    assert load_spec(job, [f"name={text}"]).name == text


def test_a_byte_order_mark_is_passed_over(job: Path) -> None:
    assert load_spec(written(job, b"\xef\xbb\xbf" + TEXT.encode())).name == "digits"


# ---- standard input, dicts, specs -------------------------------------------------------------------------------


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(TEXT))
    assert load_spec("-", ["seed=3"]).seed == 3
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert refused("-").startswith("standard input: is empty")
    monkeypatch.setattr("sys.stdin", io.StringIO("x" * 200_000))
    assert refused("-").startswith("standard input: is larger than 100,000 characters")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xff\xfe\x00"), encoding="utf-8"))
    assert refused("-").startswith("standard input: is not UTF-8 text")


def test_a_dict_is_a_job_and_stays_as_it_was(digits_job: dict[str, Any]) -> None:
    before = repr(digits_job)
    assert load_spec(digits_job, ["optim.lr=0.5"]).optim.lr == 0.5
    assert repr(digits_job) == before


def test_a_dict_may_hold_paths_and_tuples_but_no_objects(digits_job: dict[str, Any], tmp_path: Path) -> None:
    digits_job["storage"] = tmp_path
    digits_job["data"]["augment"] = {"crop": (0.5, 1.0)}
    assert load_spec(digits_job).storage == str(tmp_path)
    digits_job["optim"] = {"lr": np.float32(0.1)}
    assert refused(digits_job).startswith("job: holds a value that is neither text, number, list nor mapping")
    digits_job["optim"] = digits_job
    assert refused(digits_job).startswith("job: holds a value")


def test_a_spec_takes_overrides_too(digits_job: dict[str, Any]) -> None:
    spec = load_spec(digits_job)
    assert load_spec(spec) == spec
    changed = load_spec(spec, ["schedule.mix_ratio=1", "objective={type: simclr}"])
    assert changed.schedule.mix_ratio == 1
    assert changed.objective.type == "simclr"
    assert changed.data == spec.data


# ---- --set ------------------------------------------------------------------------------------------------------


def test_set_makes_sections_on_the_way(job: Path) -> None:
    spec = load_spec(job, ["schedule.weight.start=0.2", "schedule.weight.end=0.2", "pilot.arms=[mix, sl]"])
    assert spec.schedule.weight.start == 0.2
    assert spec.pilot.arms == ("mix", "sl")


@pytest.mark.parametrize(
    ("override", "section", "field", "value"),
    [
        ("objective.mask_ratio=0.5", "objective", "mask_ratio", 0.5),
        ("backbone.size=nano", "backbone", "size", "nano"),
        ("schedule.ssl_epochs=3", "schedule", "ssl_epochs", 3.0),
    ],
)
def test_set_on_a_section_whose_type_has_a_default(
    job: Path, override: str, section: str, field: str, value: object
) -> None:
    assert getattr(getattr(load_spec(job, [override]), section), field) == value


def test_set_changes_a_whole_section_or_takes_a_value_away(job: Path) -> None:
    spec = load_spec(job, ["optim={lr: 0.5}", "optim.batch=32", "cluster.price_per_worker_hour=2"])
    assert (spec.optim.lr, spec.optim.batch) == (0.5, 32)
    assert load_spec(spec, ["cluster.price_per_worker_hour="]).cluster.price_per_worker_hour is None
    assert load_spec(spec, ["cluster.price_per_worker_hour=null"]).cluster.price_per_worker_hour is None


def test_the_last_set_wins_and_spaces_do_not_matter(job: Path) -> None:
    assert load_spec(job, ["seed=1", " seed = 2 "]).seed == 2


def test_a_value_may_hold_an_equals_sign(job: Path) -> None:
    assert load_spec(job, ["storage=runs/lr=3"]).storage == "runs/lr=3"


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("optim.lr", "--set optim.lr: is not FIELD=VALUE (for example --set optim.lr=1e-3)"),
        ("=3", "--set =3: is not FIELD=VALUE"),
        ("", "--set : is not FIELD=VALUE"),
        ("optim..lr=1", "--set optim..lr=1: is not FIELD=VALUE"),
        ("optim.=1", "--set optim.=1: is not FIELD=VALUE"),
        ("name.first=x", "--set name.first=x: name has no fields of its own"),
        ("optim.lr=[1, 2", "--set optim.lr=[1, 2: expected ',' or ']'"),
        ("optim.lr=*x", "--set optim.lr=*x: YAML aliases are not supported"),
        ("optim.lr=!!int 3", "--set optim.lr=!!int 3: YAML tags are not supported"),
        ("optim.lr={a: 1, a: 2}", "--set optim.lr={a: 1, a: 2}: duplicate key 'a'"),
        ("optim.lr=1\nseed: 2", "--set optim.lr=1\\nseed: 2"),
        ("optim.lr=" + "9" * 5000, "--set optim.lr=9999"),
        ("optim.leanring_rate=1", "optim.leanring_rate: unknown key"),
    ],
)
def test_wrong_set_is_refused(job: Path, override: str, line: str) -> None:
    assert refused(job, override).startswith(line)


def test_every_field_can_be_set_to_its_own_value(job: Path) -> None:
    """Whatever a spec holds can be written as --set and comes back the same."""
    spec = load_spec(job)

    def overrides(section: dict[str, Any], prefix: str = "") -> list[str]:
        found = []
        for name, value in section.items():
            if isinstance(value, dict):
                found += overrides(value, f"{prefix}{name}.")
            else:
                found.append(f"{prefix}{name}={json.dumps(value)}")
        return found

    fields = overrides(spec.model_dump(mode="json"))
    assert len(fields) > 40
    again = load_spec({"data": {"train": {"format": "digits"}}}, fields)
    assert again == spec
    assert isinstance(again, JobSpec)
