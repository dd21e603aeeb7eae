"""What `raymix doctor` found: a name, green or not, a line on what it was and a sentence on what to do."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from typing import Literal, NamedTuple

from raymix.spec import JobSpec, Section

Health = Literal["ok", "note", "problem"]


class Told(NamedTuple):
    """What one check came to, without its name."""

    status: Health
    found: str
    todo: str = ""


class Finding(Section):
    """One check: `note` is worth knowing and stops nothing, `problem` will make runs fail or be unsafe."""

    name: str
    status: Health
    found: str
    todo: str


def worst(*told: Told) -> Told:
    """Several findings as one: the first of the worst says what to do, and all that are as bad are named."""
    order = ("problem", "note", "ok")
    status = min((one.status for one in told), key=order.index)
    alike = [one for one in told if one.status == status]
    return Told(status, "; ".join(one.found for one in alike), alike[0].todo)


class Asked:
    """What a process that looks at torch or Ray is asked on its standard input, and where it tells what it found."""

    def __init__(self) -> None:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what it has begun is taken back
        asked = json.load(sys.stdin)
        self.spec, self.is_job = JobSpec.model_validate(asked["spec"]), bool(asked["is_job"])
        # what libraries print goes elsewhere
        self._out = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        self.started = time.monotonic()

    def tell(self, name: str, told: Told | None) -> None:
        """Says what a check has found; None: there is nothing to be looked at."""
        self._out.write(json.dumps([name, *(told or ())]) + "\n")
        self._out.flush()
