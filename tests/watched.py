"""A process under an audit hook (PEP 578): it does what it is told, and says what Python code in it did besides.

`python watched.py read FILE`: indexes and reads each source of a JSON list, as a run does.
`python watched.py imports FILE`: checks each job of a JSON list, and loads the model of each run folder in it.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

RUNS = ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "subprocess.Popen", "os.fork", "os.forkpty", "pty.spawn")
CODE = ("pickle.find_class", "ctypes.dlopen", "socket.connect", "marshal.loads")
WRITES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.chmod", "os.truncate")
WRITES += ("shutil.copyfile", "shutil.move", "shutil.unpack_archive", "tempfile.mkstemp", "tempfile.mkdtemp")
MODES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC

events: list[str] = []
watching = False


def hook(event: str, arguments: tuple[Any, ...]) -> None:
    if not watching:
        return
    written = event == "open" and isinstance(arguments[2], int) and arguments[2] & MODES
    if event in (*RUNS, *CODE, *WRITES) or written:
        if event == "marshal.loads" or (event == "ctypes.dlopen" and arguments[0] is None):
            return  # a module that is imported for the first time
        events.append(f"{event} {str(arguments)[:200]}")
    elif event == "import" and "evil" in str(arguments[0]):
        events.append(f"import {arguments[0]}")


def read(entry: dict[str, Any]) -> str:
    """What came of a source: the number of images read, or why there are none."""
    import numpy as np

    from raymix.data.formats import index_data
    from raymix.data.frame import Frame
    from raymix.data.reading import read_local
    from raymix.jobfile import load_spec
    from raymix.spec import JobError

    try:
        spec = load_spec({"name": "a", "data": {"train": entry, "image_size": 8}, "backbone": {"patch": 4}})
        rows = index_data(spec.data)
        images = read_local(rows, np.arange(len(rows)), Frame(8))
    except JobError as error:
        return f"error: {error}"
    return f"{len(images.pixels)} of {len(rows)}"


def imports(entry: dict[str, Any]) -> str:
    """How a job was refused, or the run folder in which one is stored."""
    import raymix
    from raymix.jobfile import load_spec
    from raymix.runner import check
    from raymix.spec import JobError

    try:
        if "plan" in entry:
            folder = Path(entry["run"])
            whole = json.loads((folder / "plan.json").read_text())
            whole["spec"] = {**whole["spec"], **entry["plan"]}
            kept = (folder / "plan.json").read_text()
            (folder / "plan.json").write_text(json.dumps(whole))
            try:
                raymix.load_model(folder, allow_import=("json:loads",))
            finally:
                (folder / "plan.json").write_text(kept)
        else:
            check(load_spec(entry["job"]), ("json:loads",))
    except JobError as error:
        return f"error: {error}"
    return "accepted"


def main(what: str, file: str) -> None:
    global watching
    work = {"read": read, "imports": imports}[what]
    entries = json.loads(Path(file).read_text())
    work(entries[0])  # the first is harmless: what has to be imported is then there
    sys.addaudithook(hook)
    for entry in entries:
        events.clear()
        # a run folder is this process's own to change
        watching = "plan" not in entry
        try:
            told = work(entry)
        except BaseException as error:
            told = f"{type(error).__name__}: {error}"[:500]
        watching = False
        evil = [name for name in sys.modules if "evil" in name]
        print(json.dumps({"told": told, "events": list(events), "evil": evil}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
