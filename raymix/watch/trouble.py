"""Files that a run writes on the way and can do without for a while: a full disk is told once, and is no end."""

from __future__ import annotations

from collections.abc import Callable

Tell = Callable[[str], None]


def unheard(text: str) -> None:
    """Tells nobody."""


class Trouble:
    """Tells when something cannot be written, and again only after it could be."""

    def __init__(self, what: str, tell: Tell) -> None:
        self._what, self._tell, self._told = what, tell, False

    def came(self, error: OSError) -> None:
        """It could not be written."""
        if not self._told:
            self._tell(
                f"{self._what} could not be written ({error.strerror or error}); it is tried again, training goes on"
            )
        self._told = True

    def over(self) -> None:
        """It could be written."""
        self._told = False
