"""The `watch` section: which services hear of a run, beside its own JSONL and TensorBoard files."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from raymix.spec.base import Folder, Section

Title = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f/\\#?%:]+$")]


def _server(uri: str) -> str:
    if "://" not in uri and uri != "databricks":
        raise ValueError("is no address; as in http://localhost:5000")
    return uri


class Mlflow(Section):
    """An MLflow tracking server. Who may write there, the environment says: MLFLOW_TRACKING_USERNAME and the like."""

    uri: Annotated[Folder, AfterValidator(_server)] | None = Field(
        None, description="of the server, as in http://localhost:5000; null: the environment's MLFLOW_TRACKING_URI"
    )
    experiment: Title = Field("raymix", description="made where it is not there")


class Wandb(Section):
    """Weights & Biases. Its key stays in the environment: WANDB_API_KEY."""

    project: Title = "raymix"
    mode: Literal["offline", "online"] = Field(
        "offline", description="offline: written into the run folder alone, for `wandb sync`"
    )


class Watch(Section):
    """Services that hear of a run; one that does not answer is told of in a line, and training goes on."""

    mlflow: Mlflow | None = Field(None, description="needs raymix[mlflow]")
    wandb: Wandb | None = Field(None, description="needs raymix[wandb]")
