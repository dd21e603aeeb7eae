"""MLflow: a run there for a run here, through the client of mlflow-skinny."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from raymix.report.run import Status
from raymix.spec import Mlflow
from raymix.watch.outbox import Ending, Point
from raymix.watch.service import Keeper, Kept

STATUS: dict[Status, str] = {"done": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}
# what the user has set stays; the outbox tries again itself, and a thread that hangs cannot be told to end
_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
_LONGEST = 500  # characters of a parameter, for servers of any age
_PARAMS, _METRICS = 100, 1000  # that MLflow takes at once


class MlflowService:
    """One run of an MLflow server; `mlflow.json` in the run folder names it, for a run that is resumed."""

    name = "MLflow"

    def __init__(self, spec: Mlflow, folder: Path, params: dict[str, str]) -> None:
        self._spec, self._folder, self._params = spec, folder, params
        self._uri = spec.uri or os.environ["MLFLOW_TRACKING_URI"]
        self._keeper = Keeper(folder, "mlflow")
        self._kept: Kept | None = None
        self._client: Any = None

    def open(self) -> None:
        """Goes on with the run that the folder names, or makes one."""
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        from mlflow.entities import Param
        from mlflow.tracking import MlflowClient  # seconds: it imports pandas and a web server

        self._client = MlflowClient(tracking_uri=self._uri)
        where = self._spec.uri or "MLFLOW_TRACKING_URI"
        there: set[str] = set()
        kept = self._keeper.read(where)
        if kept is not None and (run := self._found(kept.id)) is not None:
            self._client.update_run(kept.id, status="RUNNING")
            there = set(run.data.params)
        else:
            kept = Kept(self._made(), where, 0)
            self._keeper.write(kept)
        self._kept = kept
        # a parameter keeps its value there; of a resumed job, the new ones alone are added
        new = [Param(name, value[:_LONGEST]) for name, value in self._params.items() if name not in there]
        for start in range(0, len(new), _PARAMS):
            self._client.log_batch(kept.id, params=new[start : start + _PARAMS])

    def deliver(self, messages: Sequence[Point | Ending]) -> None:
        """Points as metrics by step; the end as files and the run's status."""
        from mlflow.entities import Metric

        assert self._kept is not None
        run_id, sent = self._kept.id, self._kept.sent
        due = [one for one in messages if isinstance(one, Ending) or not one.old or one.step > sent]
        found = [
            Metric(name, value, round(1000 * one.at), one.step)
            for one in due
            if isinstance(one, Point)
            for name, value in one.values.items()
        ]
        for start in range(0, len(found), _METRICS):
            self._client.log_batch(run_id, metrics=found[start : start + _METRICS])
        if steps := [one.step for one in due if isinstance(one, Point)]:
            self._kept = self._kept._replace(sent=steps[-1])
            self._keeper.write(self._kept)
        for one in due:
            if isinstance(one, Ending):
                self._end(run_id, one)

    def leave(self) -> str:
        """Where the figures are."""
        return f"{self._folder} has all of it"

    def _end(self, run_id: str, ending: Ending) -> None:
        for name, value in ending.values.items():
            self._client.log_metric(run_id, name, value, step=ending.step)
        for file in ending.files:
            self._client.log_artifact(run_id, str(file))
        self._client.set_terminated(run_id, STATUS[ending.status])

    def _found(self, run_id: str) -> Any:
        """The run, where it is still there."""
        from mlflow.exceptions import MlflowException

        try:
            return self._client.get_run(run_id)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise

    def _made(self) -> str:
        """A new run's id."""
        experiment = self._client.get_experiment_by_name(self._spec.experiment)
        of = experiment.experiment_id if experiment else self._client.create_experiment(self._spec.experiment)
        tags = {"raymix.folder": str(self._folder)}
        made = self._client.create_run(of, run_name=self._folder.name, tags=tags)
        return str(made.info.run_id)
