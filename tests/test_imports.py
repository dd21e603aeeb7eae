"""Imports go one way, Ray stays in on_ray/, and what only decides or reports loads neither torch nor ray."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "raymix"

# Top to bottom: a module imports from lower lines only, and nothing from its own line but itself.
LAYERS = [
    ["__main__"],
    ["cli"],
    ["cli_bench", "cli_cluster", "cli_data", "cli_doctor", "cli_jobs", "cli_models", "cli_plan", "cli_runs"],
    ["cli_report"],
    ["cli_common"],
    ["__init__"],
    ["api"],
    ["background"],
    ["bench"],
    ["tuning", "sweeping"],
    ["trialrun"],
    ["pilot"],
    ["outcome"],
    ["errands", "merge"],
    ["freeze"],
    ["recommend"],
    ["replay"],
    ["models"],
    ["runner", "datacmd", "doctor"],
    ["conduct"],
    ["runreport"],
    ["job", "books"],
    ["on_ray", "local"],
    ["signals"],
    ["environment"],
    ["session"],
    ["runfolder", "starting"],
    ["lock"],
    ["train", "schedule"],
    ["bucket"],
    ["method", "data", "policy"],
    ["watch"],
    ["arms"],
    ["report"],
    ["failing"],
    ["search"],
    ["manifests"],
    ["jobfile"],
    ["joberrors", "secrets"],
    ["plan"],
    ["spec"],
]
DEPTH = {part: depth for depth, parts in enumerate(LAYERS) for part in parts}
# the one place that chooses between the two runtimes names both, inside a function
CHOICES = {("session", "local"), ("session", "on_ray")}

PURE = [
    "spec",
    "plan",
    "policy",
    "report",
    "search",
    "jobfile",
    "joberrors",
    "secrets",
    "manifests",
    "watch",
    "failing",
]
HEAVY = {"torch", "torchvision", "ray"}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def part_of(path: Path) -> str:
    """The folder or file directly below raymix/ that a module belongs to."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported(path: Path) -> Iterator[str]:
    """Every module that a file imports, inside functions too; `from raymix import runner` as raymix.runner."""
    package = ["raymix", *path.relative_to(PACKAGE).parent.parts]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(name for name in (base, node.module) if name)
            yield from (f"raymix.{alias.name}" for alias in node.names) if module == "raymix" else (module,)


def test_every_part_has_its_layer() -> None:
    assert {part_of(path) for path in modules()} <= set(DEPTH)


def against(part: str, module: str) -> str | None:
    """What is wrong with `part` importing `module`; None: nothing."""
    head, *rest = module.split(".")
    if head == "ray" and part != "on_ray":
        return f"{module} outside on_ray/"
    if head in HEAVY and part in PURE:
        return f"{part} only decides or reports, and imports {module}"
    target = rest[0] if head == "raymix" and rest else part
    if target == part or target not in DEPTH or (part, target) in CHOICES or DEPTH[target] > DEPTH[part]:
        return None
    return f"{part} imports {target}, against the arrow"


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_go_one_way(path: Path) -> None:
    assert [wrong for module in imported(path) if (wrong := against(part_of(path), module))] == []


@pytest.mark.parametrize(
    ("part", "module"),
    [
        ("train", "ray.train"),
        ("report", "torch.nn"),
        ("spec", "raymix.plan"),
        ("data", "raymix.method.views"),
        ("local", "raymix.on_ray.session"),
        ("policy", "raymix.train"),
    ],
)
def test_the_contract_can_be_broken(part: str, module: str) -> None:
    assert against(part, module)


def test_a_fresh_process_loads_neither_torch_nor_ray() -> None:
    pure = [
        "raymix",
        "raymix.cli",
        "raymix.__main__",
        "raymix.runner",
        "raymix.pilot",
        "raymix.tuning",
        "raymix.sweeping",
    ]
    for path in modules():
        names = path.relative_to(PACKAGE.parent).with_suffix("").parts
        if part_of(path) in PURE and names[-1] != "__init__":
            pure.append(".".join(names))
    heavy = "torch", "torchvision", "ray", "sklearn", "matplotlib", "tensorboardX", "optuna"
    code = (
        f"import importlib, sys\nfor name in {pure}: importlib.import_module(name)\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# what alone takes longer to import than `raymix validate` may take in all
SLOW = [
    *("torch", "torchvision", "ray", "pyarrow", "pandas", "scipy", "sklearn", "matplotlib", "tensorboardX", "optuna"),
    *("fsspec", "aiohttp", "jinja2", "mlflow", "wandb", "IPython"),
]


@pytest.mark.parametrize("command", [["validate"], ["plan"], ["plan", "--json"]])
def test_validate_and_plan_answer_at_once(command: list[str]) -> None:
    """In under a second, by what they load: time itself depends on what else the machine does."""
    job = PACKAGE.parent / "jobs" / "digits.yaml"
    code = (
        "import sys\nfrom raymix.__main__ import main\n"
        f"try: main({[command[0], str(job), *command[1:]]!r})\n"
        "except SystemExit as done:\n"
        f"    print(done.code, [name for name in {SLOW} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "0 []"


def test_the_driver_of_a_run_on_ray_loads_no_torch() -> None:
    code = (
        "import sys\nfrom raymix.on_ray.cluster import set_environment\nset_environment()\n"
        "import raymix.conduct, raymix.runner, raymix.pilot, raymix.on_ray.session, raymix.on_ray.sides\n"
        "import raymix.data.reading, raymix.data.prepare, raymix.report.html  # imported in functions\n"
        "print([name for name in ('torch', 'torchvision') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
