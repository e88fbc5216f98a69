"""The corrections of a project: in order, none lost, the damaged ones named."""

import json
import threading

import numpy as np
import pytest

from napari_unet.core.corrections import Edit
from napari_unet.core.errors import ProjectError
from napari_unet.core.geometry import Box
from napari_unet.store import edits
from napari_unet.store.edits import encode, file_name, replay
from napari_unet.store.files import FileSystem
from napari_unet.store.npz import pack
from napari_unet.store.project import Project
from napari_unet.store.records import VersionRecord


def test_edits_keep_their_order_when_the_clock_goes_back(project, make_edit, monkeypatch):
    """An edit is never before an earlier one, even if the clock was set back between two days of work."""
    clock = [2_000_000_000 * 10**9]
    monkeypatch.setattr("time.time_ns", lambda: clock[0])
    project.add_edit(make_edit(0))
    clock[0] -= 10**18
    project.add_edit(make_edit(1))
    project.close()
    with Project.open(project.path) as again:
        clock[0] -= 10**17
        again.add_edit(make_edit(2))
        assert [edit.time for edit in again.edits()] == [0, 1, 2]


def test_a_file_from_the_far_future_blocks_nothing(project, make_edit):
    """A file whose name is centuries ahead is read, and later edits still have names."""
    data = encode(make_edit(0))
    (project.path / "corrections" / file_name(2**63 - 1, data)).write_bytes(data)
    project.close()
    with Project.open(project.path) as again:
        again.add_edit(make_edit(1))
        again.add_edit(make_edit(2))
        assert sorted(edit.time for edit in again.edits()) == [0, 1, 2]
        assert again.problems == []


def test_a_taken_name_is_passed_over(project, make_edit, monkeypatch):
    """Where another window wrote the same edit at the same moment, the next free name is taken."""
    monkeypatch.setattr("time.time_ns", lambda: 5)
    first = project.add_edit(make_edit(1))
    project._journal._stamp = 0
    second = project.add_edit(make_edit(1))
    assert first != second
    assert len(list(project.edits())) == 2


def test_a_folder_where_every_name_is_taken_says_so(project, make_edit, monkeypatch):
    """Saving ends in words where no name is ever free, and does not go on for ever."""

    def taken(self, path, data):
        raise ProjectError("taken") from FileExistsError()

    monkeypatch.setattr(FileSystem, "write_new", taken)
    with pytest.raises(ProjectError, match="No free name"):
        project.add_edit(make_edit(1))
    with pytest.raises(ProjectError, match="No free name"):
        project.save_model(b"weights", VersionRecord(1))


def test_a_correction_that_another_window_sets_aside_meanwhile_is_passed_over(project, make_edit):
    """A file that is gone between the list and the reading is no problem of its own."""
    for number in range(2):
        project.add_edit(make_edit(number))
    edits_now = project.edits()
    assert next(edits_now).time == 0
    for path in (project.path / "corrections").iterdir():
        path.unlink()
    assert list(edits_now) == []
    assert project.problems == []


def test_a_large_edit_is_kept_whole(project, monkeypatch):
    """An edit that is too large for a file becomes several, and none is lost."""
    monkeypatch.setattr(edits, "SPLIT_VOXELS", 1000)
    labels = np.arange(4096, dtype=np.int32).reshape(64, 64)
    path = project.add_edit(Edit("p", Box.whole((64, 64)), labels, labels % 3 == 0))
    assert path.exists()
    assert len(list((project.path / "corrections").iterdir())) == 8
    assert np.array_equal(replay(project.edits(), (64, 64), "p")[0], np.where(labels % 3 == 0, labels, 0))


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "other"])
def test_a_damaged_correction_is_set_aside_and_named(project, make_edit, damage, same):
    """One damaged file costs one edit: it is named, kept as `*.damaged`, and all others follow."""
    paths = [project.add_edit(make_edit(number)) for number in range(3)]
    data = bytearray(paths[1].read_bytes())
    data[40] ^= 8
    new = {"cut": data[:-7], "flip": data, "empty": b"", "other": encode(make_edit(7))}[damage]
    paths[1].write_bytes(new)
    assert [edit.time for edit in project.edits()] == [0, 2]
    assert len(project.problems) == 1
    assert paths[1].name in project.problems[0]
    assert not paths[1].exists()
    assert paths[1].with_name(paths[1].name + ".damaged").read_bytes() == bytes(new)
    project.close()
    with Project.open(project.path) as again:
        assert [edit.time for edit in again.edits()] == [0, 2]
        assert again.problems == []


def test_a_correction_that_the_disk_cannot_read_today_is_left_in_place(project, make_edit, faulty):
    """A disk's fault is not the file's: it is named, not renamed, and read tomorrow."""
    for number in range(3):
        project.add_edit(make_edit(number))
    project.close()
    files = faulty()
    with Project.open(project.path, files=files) as again:
        files.fail_at = len(files.calls) + 2  # scan, then the first file
        assert [edit.time for edit in again.edits()] == [0, 2]
        assert "reports a fault" in again.problems[0]
        files.mend()
        assert [edit.time for edit in again.edits()] == [0, 1, 2]


def test_other_files_among_the_corrections_are_left_alone(project, make_edit):
    """A sync client's copy is named; what is no `.npz` is passed over; a newer version's correction stays as it is."""
    project.add_edit(make_edit(0))
    folder = project.path / "corrections"
    (folder / "copy (conflict).npz").write_bytes(b"x")
    (folder / "desktop.ini").write_bytes(b"x")
    newer = pack({"header": np.array(json.dumps({"format": 2}))})
    (folder / file_name(5, newer)).write_bytes(newer)
    assert [edit.time for edit in project.edits()] == [0]
    assert len(project.problems) == 2
    assert any("Update napari-unet-live" in problem for problem in project.problems)
    assert len(list(folder.iterdir())) == 4


def test_edits_from_many_threads_are_all_kept(project, make_edit):
    """Threads that save at the same time lose nothing."""
    numbers = range(40)
    threads = [
        threading.Thread(target=lambda part=part: [project.add_edit(make_edit(n)) for n in numbers[part::4]])
        for part in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(edit.time for edit in project.edits()) == list(numbers)
