"""raymix: MixTraining (SSL and SL in one run) on Ray, and what each phase costs and brings.

    import raymix
    raymix.pilot("jobs/digits.yaml")                      # compare the ways to train
    raymix.run("jobs/digits.yaml", ["optim.lr=1e-3"])     # train one
    raymix.replay("runs/digits")                          # a run once more, and what is not the same
    raymix.sweep("jobs/digits-sweep.yaml")                # compare them with fewer images and labels
    raymix.tune("jobs/digits-tune.yaml")                  # search values for some of its fields
    raymix.evaluate("runs/digits", "digits", ["part=val"])     # how good is it on labelled images?
    raymix.load_model("runs/digits")                      # the trained nn.Module
    raymix.Schedule(num_images=50_000, num_labelled=5_000)      # the steps, for a training loop of your own

Importing it loads neither torch nor ray; they come with the first call that trains.
"""

from __future__ import annotations

from raymix.api import evaluate, load_model, load_spec, pilot, plan, replay, run, sweep, tune
from raymix.background import BackgroundRun
from raymix.report.evaluation import Evaluated
from raymix.report.pilot import PilotReport
from raymix.report.replay import Replayed
from raymix.report.run import RunReport
from raymix.report.search import SearchReport
from raymix.report.sweep import SweepReport
from raymix.schedule import Schedule
from raymix.session import RunFailed
from raymix.signals import Interrupted
from raymix.spec import JobError, JobSpec

__all__ = [
    "BackgroundRun",
    "Evaluated",
    "Interrupted",
    "JobError",
    "JobSpec",
    "PilotReport",
    "Replayed",
    "RunFailed",
    "RunReport",
    "Schedule",
    "SearchReport",
    "SweepReport",
    "evaluate",
    "load_model",
    "load_spec",
    "pilot",
    "plan",
    "replay",
    "run",
    "sweep",
    "tune",
]
