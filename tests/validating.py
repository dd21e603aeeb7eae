"""A process that checks job files, one a line on standard input, and answers each with a line of JSON.

In a process of its own, so that what a check imports and writes can be seen.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys

from raymix.__main__ import main
from raymix.jobfile import load_spec
from raymix.spec import JobError, Vit


def check(path: str) -> dict[str, object]:
    """What `raymix validate` says of a file. A job whose backbone must be built for that is only loaded."""
    try:
        spec = load_spec(path)
        if not isinstance(spec.backbone, Vit):
            return {"code": 0, "out": "", "err": ""}
    except JobError:
        pass
    out, err = io.StringIO(), io.StringIO()
    code: object = None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(["validate", path])
        except SystemExit as end:
            code = end.code
        except BaseException as error:
            code = f"{type(error).__name__}: {error}"[:2000]
    return {"code": code, "out": out.getvalue(), "err": err.getvalue()}


if __name__ == "__main__":
    for line in sys.stdin:
        told = check(json.loads(line))
        heavy = [name for name in ("torch", "ray") if name in sys.modules]
        print(json.dumps({**told, "heavy": heavy}), flush=True)
