"""README's commands: each is run as it stands, or named here with the reason why not.

The ones that take longer are pasted in tests/test_docs_chaos.py; what is here takes seconds.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

import raymix
from tests.conftest import REPOSITORY, image_tree_of
from tests.on_ray.commands import SECONDS

# not run, by how a command begins, and why
NOT_RUN = {
    "pip install -e '.[dev]' && pytest -n 2 --dist loadfile": "the tests themselves, installed: CI's first step",
    "raymix run jobs/tiny-imagenet-10pct.yaml": "needs a GPU and TinyImageNet",
    "raymix pilot jobs/tiny-imagenet-10pct.yaml": "needs a GPU and TinyImageNet",
    "raymix pilot jobs/tiny-imagenet-10pct-searched.yaml": "needs GPUs and TinyImageNet",
    "raymix tune jobs/digits-tune.yaml": "two minutes; searches in tests/test_tune_command.py and tests/on_ray",
    "raymix run runs/digits-tune/best.yaml": "needs the search before it; tests/test_tune_command.py runs a best.yaml",
    "raymix data drift runs/october": "needs a run and images of two months; tests/test_starting.py draws them",
    "raymix run my-job.yaml --set name=november": "the same",
    "raymix sweep jobs/digits-sweep.yaml": "2.5 minutes; sweeps of two cells in tests/test_sweeping.py",
}
# run in seconds, by test_quick_commands
QUICK = (
    "raymix validate jobs/digits.yaml",
    "raymix plan jobs/digits.yaml",
    "raymix plan my-job.yaml",
    "raymix data check /data/parts",
    "raymix data check my-job.yaml",
    "raymix data prepare /data/parts",
)
# pasted by tests/test_docs_chaos.py
PASTED = (
    "pip install -e . && raymix pilot jobs/digits.yaml",
    "raymix doctor jobs/digits.yaml",
    "raymix run jobs/digits.yaml",
    "raymix run --replay runs/try",
    "raymix report runs/try",
    "raymix runs ls",
    "raymix runs watch digits",
    "raymix predict runs/parts new/",
    "raymix embed runs/parts new/",
    "raymix evaluate runs/parts labelled/",
    "raymix export runs/parts",
    "raymix run my-job.yaml --set name=half",
    "raymix run my-job.yaml --set name=adapted",
    "RAYMIX_STORAGE=/shared/raymix ray start --head",
    "ray job submit --address http://127.0.0.1:8265",
)


class Block(NamedTuple):
    """A fenced block."""

    language: str
    text: str

    @property
    def commands(self) -> list[str]:
        """Its commands, comments left aside, lines that go on on the next one joined."""
        if self.language or not re.match(r"raymix [a-z]|ray [a-z]|pip |[A-Z_]+=\S+ ray", self.text):
            return []
        joined = re.sub(r"\\\n\s*", "", self.text)
        return [re.sub(r"\s+#.*", "", line).strip() for line in joined.splitlines()]


def blocks() -> list[Block]:
    """README's fenced blocks."""
    text = (REPOSITORY / "README.md").read_text()
    return [Block(*found) for found in re.findall(r"^```(\w*)\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)]


def commands() -> list[str]:
    return [command for block in blocks() for command in block.commands]


def begins(command: str, starts: tuple[str, ...]) -> list[str]:
    """Those of some beginnings that are a command's."""
    return [start for start in starts if command == start or command.startswith(f"{start} ")]


def environment(home: Path) -> dict[str, str]:
    """Of a fresh shell in which raymix is installed."""
    path = os.pathsep.join([str(Path(sys.executable).parent), "/usr/local/bin", "/usr/bin", "/bin"])
    kept = {name: os.environ[name] for name in ("OMP_NUM_THREADS", "LANG") if name in os.environ}
    return {**kept, "HOME": str(home), "PATH": path, "PYTHONPATH": str(REPOSITORY)}


def paste(text: str, folder: Path, seconds: float = SECONDS, **variables: str) -> str:
    """What a fresh shell in a folder says to a text; every command has to succeed."""
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail"],
        input=text,
        cwd=folder,
        env={**environment(folder), **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, f"{text}\n{done.stdout}"
    assert "Traceback" not in done.stdout, done.stdout
    return done.stdout


def test_every_command_is_run_or_named_with_the_reason_why_not() -> None:
    found = commands()
    assert len(found) > 20
    for command in found:
        places = [begins(command, tuple(table)) for table in (NOT_RUN, QUICK, PASTED)]
        assert sum(bool(place) for place in places) == 1, f"{command!r} stands in none of the tables, or in several"
    for start in (*NOT_RUN, *QUICK, *PASTED):
        assert any(begins(command, (start,)) for command in found), f"README has no {start!r} any more"


def test_what_is_no_command_is_known() -> None:
    others = [block for block in blocks() if not block.language and not block.commands]
    assert [block.text.split()[0] for block in others] == ["ssl:", "raymix/spec/,"], "the formulas, the map of the code"
    assert {block.language for block in blocks()} == {"", "yaml", "python"}


def test_quick_commands(tmp_path: Path) -> None:
    """Pasted one after another into one shell; /data and /fast are folders that a test may have."""
    data = tmp_path / "data"
    image_tree_of(data / "parts", per_class=140)
    image_tree_of(data / "more", classes=1, per_class=60)
    mine = next(block.text for block in blocks() if block.text.startswith("# my-job.yaml"))
    (tmp_path / "my-job.yaml").write_text(mine.replace("/data/", f"{data}/"))
    (tmp_path / "jobs").symlink_to(REPOSITORY / "jobs")
    quick = [command for command in commands() if begins(command, QUICK)]
    assert len(quick) == 8
    text = "\n".join(quick).replace("/data/", f"{data}/").replace("/fast/", f"{tmp_path}/fast-")
    said = paste(text, tmp_path)
    assert "worker-hours" in said
    assert list((tmp_path / "fast-parts").rglob("*.parquet"))


def test_sections_of_jobs_are_accepted(tmp_path: Path) -> None:
    whole = (REPOSITORY / "jobs" / "digits.yaml").read_text()
    found = [block for block in blocks() if block.language == "yaml"]
    assert len(found) == 6
    for block in found:
        sections = yaml.safe_load(block.text)
        others = "\n".join(line for line in whole.splitlines() if line.partition(":")[0] not in sections)
        (tmp_path / "job.yaml").write_text(block.text if "data" in sections else f"{others}\n{block.text}")
        assert raymix.load_spec(tmp_path / "job.yaml").name


def test_a_training_loop_of_your_own() -> None:
    """With what the README leaves to the reader: a model, losses, rows."""
    import torch
    from torch import nn
    from torch.utils.data import DataLoader, TensorDataset

    (text,) = (block.text for block in blocks() if block.text.startswith("shape = dict("))
    for large, small in (("epochs=100", "epochs=2"), ("50_000", "400"), ("5_000", "100"), ("batch=256", "batch=40")):
        assert large in text
        text = text.replace(large, small)
    head, decoder = nn.Linear(8, 10), nn.Linear(8, 8)
    backbone = nn.Linear(8, 8)
    labels = torch.where(torch.arange(400) < 100, torch.arange(400) % 10, -1)
    seen = dict.fromkeys(("ssl", "sl"), 0)

    def ssl_loss(z: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        seen["ssl"] += 1
        return (decoder(z) - x).square().mean()

    def sl_loss(z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        seen["sl"] += 1
        return nn.functional.cross_entropy(head(z), y, ignore_index=-1)

    names = {
        **{
            "raymix": raymix,
            "DataLoader": DataLoader,
            "partial": partial,
            "backbone": backbone,
            "augment": lambda x: x,
        },
        **{"labels": labels.numpy(), "dataset": TensorDataset(torch.rand(400, 8), labels)},
        **{"ssl_loss": ssl_loss, "sl_loss": sl_loss},
        "optimizer": torch.optim.AdamW([*backbone.parameters(), *head.parameters(), *decoder.parameters()]),
    }
    exec(text, names)
    steps = list(names["schedule"])  # type: ignore[call-overload]
    assert {step.kind for step in steps} == {"ssl", "mix", "sl"}
    assert seen == {"ssl": sum(step.kind != "sl" for step in steps), "sl": sum(step.kind != "ssl" for step in steps)}


@pytest.mark.parametrize(
    "name", ["README.md", *(str(path.relative_to(REPOSITORY)) for path in REPOSITORY.glob("cluster/*/README.md"))]
)
def test_files_that_are_named_are_there(name: str) -> None:
    for path in re.findall(
        r"\b((?:jobs|cluster|tests)/[\w./-]+\.(?:py|ya?ml|ipynb|sh|sbatch))\b", (REPOSITORY / name).read_text()
    ):
        assert (REPOSITORY / path).is_file(), path
