"""What is done when something goes wrong in the midst of a run."""

from __future__ import annotations

from pydantic import Field

from raymix.spec.base import Section


class Failures(Section):
    """What a run does about workers that die."""

    max_restarts: int = Field(3, ge=0, description="restarts of the worker group after a failure")
