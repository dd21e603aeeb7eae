"""`raymix data`: from what the user names to rows, over blocks of them, to a report or to shards.

Neither torch nor Ray is loaded where this process does the work itself.
"""

from raymix.datacmd.check import check
from raymix.datacmd.named import Named, named
from raymix.datacmd.prepare import prepare
from raymix.datacmd.work import How

__all__ = ["How", "Named", "check", "named", "prepare"]
