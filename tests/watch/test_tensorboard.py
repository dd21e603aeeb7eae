"""Event files: scalars by global step, in the run's own folder."""

from __future__ import annotations

from pathlib import Path

from tensorboardX.proto.event_pb2 import Event

from raymix.watch.tensorboard import TensorBoardSink
from tests.conftest import no_larger_file
from tests.report.factory import make_history, make_plan, make_reports, make_run


def events(folder: Path) -> list[Event]:
    """Every event below a folder, file by file; the record format is length, checksum, data, checksum."""
    found = []
    for file in sorted(folder.glob("events.out.tfevents.*")):
        data = file.read_bytes()
        while data:
            length = int.from_bytes(data[:8], "little")
            found.append(Event.FromString(data[12 : 12 + length]))
            data = data[16 + length :]
    return found


def points(folder: Path, tag: str) -> list[tuple[int, float]]:
    return [(e.step, value.simple_value) for e in events(folder) for value in e.summary.value if value.tag == tag]


def test_a_run_named_as_the_folder_writes_into_it(tmp_path: Path) -> None:
    plan, sink = make_plan(), TensorBoardSink(tmp_path / "demo")
    sink.begin("demo", plan, make_history(plan, 0))
    reports = make_reports(plan)
    for report in reports:
        sink.segment("demo", report)
    sink.end("demo", make_run())
    sink.close()
    losses = points(tmp_path / "demo", "loss/ssl")
    assert [step for step, _ in losses] == [
        r.segment.start + r.segment.steps for r in reports if r.ssl_loss is not None
    ]
    assert points(tmp_path / "demo", "top1/val")[0][0] == plan.num_steps
    assert points(tmp_path / "demo", "schedule/weight")[0][1] == 1.0


def test_the_runs_of_a_pilot_have_folders_of_their_own(tmp_path: Path) -> None:
    plan, sink = make_plan(), TensorBoardSink(tmp_path / "pilot")
    for run in ("mix-0", "sl-0"):
        sink.begin(run, plan, make_history(plan, 0))
        sink.segment(run, make_reports(plan)[0])
        sink.end(run, make_run(run))
    assert sorted(path.name for path in (tmp_path / "pilot").iterdir()) == ["mix-0", "sl-0"]


def test_a_resumed_run_purges_the_steps_that_come_again(tmp_path: Path) -> None:
    plan, sink = make_plan(), TensorBoardSink(tmp_path / "demo")
    history = make_history(plan, 2)
    sink.begin("demo", plan, history)
    sink.close()
    starts = [e.step for e in events(tmp_path / "demo") if e.HasField("session_log")]
    assert history.done_steps + 1 in starts


def test_nothing_is_needed_before_begin(tmp_path: Path) -> None:
    sink = TensorBoardSink(tmp_path / "demo")
    sink.stage("decoding", 1, 2)
    sink.note("a note")
    sink.end("demo", make_run())
    sink.close()
    assert not (tmp_path / "demo").exists()


def test_points_wait_for_room_and_go_into_a_new_file(tmp_path: Path) -> None:
    plan, told, now = make_plan(), list[str](), [0.0]
    sink, reports = TensorBoardSink(tmp_path / "demo", told.append, lambda: now[0]), make_reports(plan)
    sink.begin("demo", plan, make_history(plan, 0))
    sink.segment("demo", reports[0])
    with no_larger_file(64):
        for report in reports[1:4]:
            now[0] += 20
            sink.segment("demo", report)
    (broken,) = (tmp_path / "demo").iterdir()
    now[0] += 20
    sink.segment("demo", reports[4])
    broken.unlink()
    sink.close()
    steps = [report.segment.start + report.segment.steps for report in reports[:5]]
    assert [step for step, _ in points(tmp_path / "demo", "schedule/lr")] == steps
    assert told == ["the TensorBoard file could not be written (File too large); it is tried again, training goes on"]
