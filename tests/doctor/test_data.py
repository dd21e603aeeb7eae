from collections.abc import Callable
from pathlib import Path

from raymix.doctor import data
from raymix.doctor.patient import Patient


def test_images_are_listed_and_one_is_read(
    patient: Callable[..., Patient], image_tree: Callable[..., Path], tmp_path: Path
) -> None:
    root = image_tree(tmp_path / "tree")
    source = {"train": {"format": "image_folder", "path": str(root)}, "fraction": 1.0, "image_size": 8}
    told = data.look(patient(data=source))
    assert told is not None
    assert (told.status, told.found.split(";")[0]) == ("ok", "60 images of 3 classes")
    (root / "class0" / "000.jpg").unlink()
    (root / "class0" / "000.jpg").symlink_to(tmp_path / "nowhere")
    told = data.look(patient(data=source))
    assert told is not None
    assert (told.status, "No such file" in told.found) == ("problem", True)


def test_a_path_that_is_not_there_is_a_problem_and_names_the_field(patient: Callable[..., Patient]) -> None:
    told = data.look(patient(data={"train": {"format": "image_folder", "path": "/nowhere"}}))
    assert told is not None
    assert (told.status, told.found) == ("problem", "data.train.path: no such folder: /nowhere")


def test_images_that_do_not_fit_are_a_problem_where_the_job_keeps_them(patient: Callable[..., Patient]) -> None:
    told = data.look(patient(data={"cache": "host"}, cluster={"workers": 0, "object_store": "1kB"}))
    assert told is not None
    assert (told.status, told.found.startswith("data.cache")) == ("problem", True)


def test_without_a_job_there_is_nothing_to_look_at(patient: Callable[..., Patient]) -> None:
    assert data.look(patient(is_job=False)) is None
