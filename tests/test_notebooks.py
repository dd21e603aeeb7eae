"""The notebooks run as they are shipped, in a kernel, and the stop button saves what was done."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from raymix.jobfile import job_text
from raymix.report.folder import read_run
from raymix.spec import JobSpec
from tests.conftest import REPOSITORY
from tests.on_ray.commands import SECONDS

nbclient = pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")
NOTEBOOKS = sorted((REPOSITORY / "jobs" / "notebooks").glob("*.ipynb"))
SMALL = "'schedule.ssl_epochs=2', 'schedule.sl_epochs=2', 'data.fraction=0.3'"


def executed(name: str, storage: Path, fields: str) -> Any:
    """A notebook after all its cells, in the folder in which Jupyter opens it; with other overrides."""
    (file,) = (path for path in NOTEBOOKS if path.stem == name)
    book = nbformat.read(file, as_version=4)
    (parameters,) = (cell for cell in book.cells if "parameters" in cell.metadata.get("tags", ()))
    parameters.source += (
        f"\nstorage = Path({str(storage)!r})\noverrides = [f'storage={{storage}}', *overrides[1:], {fields}]"
    )
    nbclient.NotebookClient(book, timeout=SECONDS, resources={"metadata": {"path": str(file.parent)}}).execute()
    return book


def outputs(book: Any) -> list[tuple[str, Any]]:
    """Kind and content of whatever its cells put out, in order."""
    found = [output for cell in book.cells for output in cell.get("outputs", ())]
    return [(output.output_type, output.get("data") or output.get("text")) for output in found]


def assert_tidy(book: Any) -> None:
    """No warnings, and for each command one block of at most a few lines: no bar is left."""
    for cell in book.cells:
        kinds = [output.output_type for output in cell.get("outputs", ())]
        assert kinds.count("display_data") <= 1, cell.source
        assert not any(output.get("name") == "stderr" for output in cell.get("outputs", ())), cell.source
    for kind, data in outputs(book):
        if kind == "display_data" and "text/html" in data:
            assert "<progress" not in data["text/html"]
            assert len(data["text/plain"].splitlines()) < 15


def test_there_are_three_and_they_are_stored_without_outputs() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["cluster", "compare", "quickstart"]
    for path in NOTEBOOKS:
        for cell in nbformat.read(path, as_version=4).cells:
            assert not cell.get("outputs")
            assert cell.get("execution_count") is None


def test_quickstart_runs_and_its_reports_show_themselves(tmp_path: Path) -> None:
    book = executed("quickstart", tmp_path, SMALL)
    assert_tidy(book)
    run, pilot = (data["text/html"] for kind, data in outputs(book) if kind == "execute_result")
    assert 'class="raymix"' in run
    assert "quickstart" in run
    assert "<svg" in run
    assert "quickstart-pilot" in pilot
    assert 'class="verdict' in pilot
    said = outputs(book)[-1][1]
    assert [line.split()[0] for line in said.splitlines()] == ["is", "said"]
    assert (tmp_path / "quickstart" / "report.html").is_file()


def test_compare_puts_arms_and_runs_side_by_side(tmp_path: Path) -> None:
    book = executed("compare", tmp_path, SMALL)
    assert_tidy(book)
    found = outputs(book)
    results = [data for kind, data in found if kind == "execute_result"]
    assert "decides nothing" in results[0]["text/html"]
    (table,) = (data for kind, data in found if kind == "stream")
    assert [line.split()[0] for line in table.splitlines()[1:6]] == ["sl", "ssl_sl", "ssl_sl_one", "ssl_sl_drop", "mix"]
    assert any("image/png" in data for kind, data in found if kind == "display_data")
    assert "| run | status | top-1 |" in results[-1]["text/markdown"]
    assert "One seed decides nothing" in results[-1]["text/markdown"]


@pytest.fixture
def kernel() -> Iterator[tuple[Any, Any]]:
    """A kernel and what speaks to it."""
    manager = pytest.importorskip("jupyter_client.manager")
    made, client = manager.start_new_kernel(kernel_name="python3")
    try:
        yield made, client
    finally:
        client.stop_channels()
        made.shutdown_kernel(now=True)


def reply(client: Any, number: str) -> dict[str, Any]:
    """What a cell came to."""
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        try:
            message = client.get_shell_msg(timeout=5)
        except queue.Empty:
            continue
        if message["parent_header"].get("msg_id") == number:
            content: dict[str, Any] = message["content"]
            return content
    raise AssertionError("the cell does not end")


def test_the_stop_button_saves_a_checkpoint_and_the_next_cell_goes_on(
    kernel: tuple[Any, Any], spec_of: Callable[..., JobSpec], tmp_path: Path
) -> None:
    manager, client = kernel
    spec = spec_of(schedule={"ssl_epochs": 150, "sl_epochs": 2})
    (tmp_path / "job.yaml").write_text(job_text(spec))
    # by itself a cell that failed aborts what is asked sooner than a person could ask
    cell = client.execute(f"import raymix\nraymix.run({str(tmp_path / 'job.yaml')!r})", stop_on_error=False)
    folder, until = tmp_path / "runs" / "digits", time.monotonic() + SECONDS
    while not (folder / "metrics.jsonl").is_file():
        assert time.monotonic() < until
        time.sleep(0.05)
    manager.interrupt_kernel()
    stopped = reply(client, cell)
    assert (stopped["status"], stopped["ename"]) == ("error", "Interrupted")
    (line,) = stopped["traceback"]
    assert line.startswith("Interrupted: checkpoint saved; resume=True goes on from ")
    before = read_run(folder)
    assert before.status == "interrupted"
    steps = max(int(saved.name.removeprefix("step-")) for saved in (folder / "checkpoints").glob("step-*"))
    assert 0 < steps == sum(phase.steps for phase in before.phases)

    cell = client.execute(f"raymix.run({str(tmp_path / 'job.yaml')!r}, resume=True)")
    assert reply(client, cell)["status"] == "ok"
    after = read_run(folder)
    assert (after.status, after.attempts) == ("done", 2)
    assert sum(phase.steps for phase in after.phases) > steps


def test_a_wrong_job_is_one_line_in_a_cell(kernel: tuple[Any, Any]) -> None:
    _, client = kernel
    job = REPOSITORY / "jobs" / "digits.yaml"
    asked = f"import raymix\nraymix.plan({str(job)!r}, ['optim.rate=1'])"
    wrong = reply(client, client.execute(asked, stop_on_error=False))
    (line,) = wrong["traceback"]
    assert line.startswith("JobError: optim.rate: ")
