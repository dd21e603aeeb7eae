"""What a run folder on object storage is: `s3://bucket/prefix/<name>/`, holding what a folder on a disk would.

The rest of raymix sees local paths alone. `storage_root` is a folder of this process that stands for a storage in a
bucket, `Mirror` keeps a run folder below it and the bucket alike and every other command out (`Lease`), and `Saved`
takes checkpoints there from whichever node rank 0 is on. The bucket is what counts: a local copy is thrown away.
"""

from raymix.bucket.lease import BEAT_SECONDS, LEASE_SECONDS
from raymix.bucket.mirror import (
    SYNC_SECONDS,
    Mirror,
    Unsynced,
    carry,
    is_bucket,
    leave,
    mirror_for,
    publish,
    saved_for,
    saved_of,
    shown,
    storage_root,
    visited,
)
from raymix.bucket.saved import Saved
from raymix.bucket.store import Store, refused

__all__ = [
    "BEAT_SECONDS",
    "LEASE_SECONDS",
    "SYNC_SECONDS",
    "Mirror",
    "Saved",
    "Store",
    "Unsynced",
    "carry",
    "is_bucket",
    "leave",
    "mirror_for",
    "publish",
    "refused",
    "saved_for",
    "saved_of",
    "shown",
    "storage_root",
    "visited",
]
