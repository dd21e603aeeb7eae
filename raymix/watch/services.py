"""Which services a job names, and whether they can be told from here."""

from __future__ import annotations

import netrc
import os
import threading
from contextlib import suppress
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from urllib.parse import urlsplit

from raymix.plan import Plan
from raymix.spec import JobError, Watch
from raymix.watch.mlflow import MlflowService
from raymix.watch.service import ServiceSink, params
from raymix.watch.trouble import Tell
from raymix.watch.wandb import WandbService

PACKAGES = {"mlflow": ("mlflow-skinny", "mlflow"), "wandb": ("wandb",)}  # by field: any of these does
MODULES = {"mlflow": ("mlflow.tracking", "mlflow.entities"), "wandb": ("wandb",)}
SERVICES = {"mlflow": MlflowService, "wandb": WandbService}


def check_services(watch: Watch) -> None:
    """Whether what a job asks to be told can be, as far as this machine says; nothing is imported or reached.

    Raises:
        JobError: a package is missing, or what only the environment may say.
    """
    for field, packages in PACKAGES.items():
        if getattr(watch, field) is not None and not any(_installed(package) for package in packages):
            raise JobError(f"watch.{field}", f"{packages[0]} is not installed", f"pip install 'raymix[{field}]'")
    if watch.mlflow is not None and watch.mlflow.uri is None and not os.environ.get("MLFLOW_TRACKING_URI"):
        raise JobError("watch.mlflow.uri", "missing", "name the server, or set MLFLOW_TRACKING_URI")
    if watch.wandb is not None and watch.wandb.mode == "online" and not _has_wandb_key():
        raise JobError("watch.wandb.mode", "online needs a key", "set WANDB_API_KEY, or mode=offline and sync later")


def load_services(watch: Watch) -> threading.Thread:
    """Imports what the services need, seconds, while other things start: never while steps are timed."""
    modules = [name for field in SERVICES if getattr(watch, field) is not None for name in MODULES[field]]
    thread = threading.Thread(target=lambda: [import_module(name) for name in modules], name="raymix-load")
    thread.start()
    return thread


def service_sinks(watch: Watch, folder: Path, plan: Plan, tell: Tell) -> list[ServiceSink]:
    """A sink for each service that the job names."""
    asked = {field: spec for field in SERVICES if (spec := getattr(watch, field)) is not None}
    load_services(watch).join()
    told = params(plan.spec) if asked else {}
    return [ServiceSink(SERVICES[field](spec, folder, told), folder, plan, tell) for field, spec in asked.items()]


def _installed(package: str) -> bool:
    """Whether it is; a folder of that name here, as these packages leave them, is no package."""
    with suppress(PackageNotFoundError):
        return bool(version(package))
    return False


def _has_wandb_key() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    with suppress(OSError, netrc.NetrcParseError):
        return netrc.netrc().authenticators(host) is not None
    return False
