"""Whether the job's images are there, and whether they fit; no image but a few is read."""

from __future__ import annotations

from raymix.data.formats import index_data
from raymix.data.frame import Frame
from raymix.data.keep import decision, is_kept, room_of_machine
from raymix.doctor.patient import Patient
from raymix.report import words
from raymix.report.finding import Told
from raymix.spec import JobError


def look(patient: Patient) -> Told | None:
    """Lists the rows of the job's sources, and reads one image of them."""
    import numpy as np

    from raymix.data.formats import fetch
    from raymix.data.reading import sample_frame

    if not patient.is_job:
        return None
    data, cluster = patient.spec.data, patient.spec.cluster
    try:
        rows = index_data(data)
        ids = np.arange(len(rows))
        (first,) = fetch(rows, ids[:1])
        if isinstance(first, OSError):
            return Told("problem", f"{rows.uris[0]}: {first}", "raymix data check says of which images it is so")
        frame: Frame = sample_frame(rows, data, ids)
        room = cluster.object_store or room_of_machine()
        found = f"{words.count(len(rows))} images of {len(rows.class_names)} classes"
        if cluster.address:
            return Told("ok", found)
        is_kept(data, len(rows), frame, room)
    except JobError as error:
        return Told("problem", f"{error.field}: {error.problem}", error.hint or "raymix data check looks closer")
    return Told("ok", f"{found}; {decision(len(rows), frame, room)}" if data.cache == "auto" else found)
