"""Entry point of the command: `raymix` and `python -m raymix`. Turns exceptions into one line and an exit code.

0 done; 2 the job or the command line is wrong, nothing was started; 3 the run failed; 4 a replay is not the same; 130,
143 and 129 interrupted.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Sequence
from typing import NoReturn

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit. An exception that is nobody's mistake but ours keeps its traceback."""
    try:
        code = _carried_out(arguments)
    except KeyboardInterrupt:  # while imports take their second, too
        _fail(130, "interrupted")
    sys.exit(code if isinstance(code, int) else 0)


def _carried_out(arguments: Sequence[str] | None) -> object:
    """What the command returns; exits where it raises what has a line of its own."""
    import typer

    from raymix.cli import app
    from raymix.spec import JobError

    # typer 0.2x carries its own copy of click, older ones use the package; either way its usage error is this one
    usage_error: type[Exception] = typer.BadParameter.__bases__[0]
    try:
        return typer.main.get_command(app).main(arguments, prog_name="raymix", standalone_mode=False)
    except JobError as error:
        _fail(2, f"error: {error}")
    except usage_error as error:
        _fail(2, f"error: {_usage(error)}")
    except typer.Abort:
        _fail(130, "interrupted")
    except Exception as error:
        _exit_of_run(error)
        raise


def _exit_of_run(error: Exception) -> None:
    """Exit if the runner says that the run failed or was interrupted; it has written its report by then."""
    from raymix.runner import Interrupted, RunFailed

    if isinstance(error, Interrupted):
        _fail(128 + error.signum, f"interrupted: {error}")
    if isinstance(error, RunFailed):
        _fail(3, f"error: {error}")
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        _fail(3, f"error: {error.filename or 'a file'} could not be written: {error.strerror}")


def _usage(error: Exception) -> str:
    context = getattr(error, "ctx", None)
    where = context.command_path if context else "raymix"
    message = str(getattr(error, "message", "") or error)
    described = getattr(error, "format_message", None)
    return f"{where}: {(described() if described else message).rstrip('.')} (see {where} --help)"


def _fail(code: int, line: str) -> NoReturn:
    print(" ".join(line.split()), file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
