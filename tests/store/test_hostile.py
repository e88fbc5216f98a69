"""Projects from strangers: nothing is run, nothing outside is touched, each is read or refused at once."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from napari_unet.store.edits import encode, file_name
from napari_unet.store.project import Project
from napari_unet.store.records import VersionRecord

PICKLE = b"cos\nsystem\n(S'touch executed'\ntR."

# Opens every project it is given, reads all of it and writes into it, with a hook that reports any other deed.
VISITOR = """
import sys, os, resource, time, json
from pathlib import Path
import numpy as np
from napari_unet.core.corrections import Edit
from napari_unet.core.errors import ProjectError
from napari_unet.core.geometry import Box
from napari_unet.store.project import Project
from napari_unet.store.records import VersionRecord
import filelock, json.decoder, tempfile, socket

root = os.path.realpath(sys.argv[1])
deeds, now = [], ""

def inside(path):
    return os.path.realpath(os.path.dirname(os.fspath(path))).startswith(now)

def watch(event, args):
    if not now:
        return
    if event == "open" and isinstance(args[0], (str, bytes, os.PathLike)):
        path, flags = os.fsdecode(args[0]), args[2]
        installed = os.path.abspath(path).startswith((sys.prefix, sys.base_prefix))
        if not installed and not os.path.realpath(path).startswith(now):
            deeds.append(f"{now}: open {path} {flags}")
    elif event in ("os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir", "os.symlink", "os.truncate"):
        # filelock makes sure that the folder is there
        if not inside(args[0]) and not (event == "os.mkdir" and args[0] == now):
            deeds.append(f"{now}: {event} {args}")
    elif event in ("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "socket.connect"):
        deeds.append(f"{now}: {event} {args}")
    elif event.startswith("pickle."):
        deeds.append(f"{now}: {event} {args}")

sys.addaudithook(watch)
refused = 0
for name in sorted(os.listdir(root)):
    now, begin = os.path.join(root, name), time.perf_counter()
    try:
        with Project.open(now) as project:
            edits = list(project.edits())
            for key in [*project.pictures, "p"]:
                project.load_masks(key, (8, 8))
                project.load_masks(key)
                project.picture_path(key)
            for version in project.versions:
                try:
                    project.model_bytes(version.number)
                except ProjectError:
                    refused += 1
            project.add_edit(Edit("p", Box((0,), (1,)), np.ones(1, np.int32), np.ones(1, bool)))
            project.save_masks("p", np.ones((8, 8), int))
            project.save_settings({"a": 1})
            try:
                project.save_model(b"x", VersionRecord(77))
            except ProjectError:
                refused += 1
            refused += bool(project.problems)
    except ProjectError as error:
        refused += 1
        assert len(str(error)) < 600, error
    seconds, now = time.perf_counter() - begin, ""
    if seconds > 3:
        deeds.append(f"{name} took {seconds} s")
memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1024**2 if sys.platform == "darwin" else 1024)
if sys.platform == "linux":
    # ru_maxrss begins with what the parent had when it forked; this begins anew with this program
    status = open("/proc/self/status").read()
    memory = int(status.split("VmHWM:")[1].split()[0]) // 1024
print(json.dumps({"deeds": deeds, "refused": refused, "memory": memory}))
"""


def archive(path, **members):
    """A zip file with any members."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)


def npy(descr, shape, content=b""):
    """The bytes of a `.npy` file that declares anything."""
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + content


def manifest(**changes):
    """Function that changes values in a project's `project.json`."""

    def change(folder):
        path = folder / "project.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return change


def version(**changes):
    """A version's record as JSON holds it."""
    plain = {
        "number": 1,
        "score": None,
        "learnt": 0,
        "time": 0,
        "file": "",
        "pinned": False,
        "parent_hash": "",
        "sha256": "",
    }
    return {**plain, **changes}


def picture(**changes):
    """A picture's record as JSON holds it."""
    plain = {"key": "p", "name": "", "path": "", "shape": [], "channels": None, "limits": None, "diameter": None}
    return {**plain, **changes}


def named(data):
    """Function that puts bytes into the corrections, under the name that belongs to them."""
    return lambda folder: (folder / "corrections" / file_name(7, data)).write_bytes(data)


def edit_of(tmp_path, **members):
    """Function that puts an archive with any members into the corrections."""

    def change(folder):
        archive(tmp_path / "made.npz", **members)
        named((tmp_path / "made.npz").read_bytes())(folder)

    return change


def linked(name, target):
    """Function that replaces a part of a project by a link."""

    def change(folder):
        part = folder / name
        if part.is_dir():
            for path in part.iterdir():
                path.unlink()
            part.rmdir()
        part.unlink(missing_ok=True)
        part.symlink_to(target)

    return change


def hostile_arrays(tmp_path):
    """Name to function that makes the corrections or masks of a project hostile."""
    header = json.dumps(
        {"format": 1, "picture": "../../p", "start": [0], "stop": [1], "tool": "paint", "held_out": False, "time": 0}
    )
    stroke = {"labels": npy("<i4", "(1,)", bytes(4)), "trusted": npy("|b1", "(1,)", b"\1")}
    text = npy(f"<U{len(header)}", "()", header.encode("utf-32-le"))
    huge = npy("<i4", "(75000000,)", bytes(3 * 10**8))
    return {
        "pickle in an edit": edit_of(tmp_path, header=npy("|O", "()", PICKLE), **stroke),
        "pickle for labels": edit_of(tmp_path, **{**stroke, "labels": npy("|O", "(1,)", PICKLE)}, header=text),
        "pickle for an edit": named(PICKLE),
        "picture's key is a path": edit_of(tmp_path, header=text, **stroke),
        "member outside": edit_of(tmp_path, header=text, **stroke, **{"../../../evil": b"x"}),
        "member at the root": edit_of(tmp_path, header=text, **stroke, **{"/evil": b"x"}),
        "bomb": edit_of(tmp_path, header=text, **{**stroke, "labels": huge}),
        "declared bomb": edit_of(tmp_path, header=text, **{**stroke, "labels": npy("<i4", "(100000, 100000, 100)")}),
        "nested tuple": edit_of(tmp_path, header=text, **{**stroke, "labels": npy("<i4", "(" * 300)}),
        "no zip": named(b"PK\x05\x06" + bytes(18)),
        "mask bomb": lambda folder: archive(folder / "masks" / "p.npz", labels=huge),
        "mask of objects": lambda folder: archive(folder / "masks" / "p.npz", labels=npy("|O", "(1,)", PICKLE)),
    }  # fmt: skip


def hostile_json(outside):
    """Name to function that makes the records of a project hostile."""
    return {
        "deep json": lambda folder: (folder / "project.json").write_text("[" * 10**6),
        "deep objects": lambda folder: (folder / "project.json").write_text('{"a":' * 10**6),
        "large json": lambda folder: (folder / "project.json").write_text("[" + "[]," * 6 * 10**6 + "0]"),
        "much json": lambda folder: (folder / "project.json").write_text("[" + "[]," * 5 * 10**6 + "0]"),
        "many numbers": lambda folder: (folder / "project.json").write_text('{"settings": ' + "9" * 10**6 + "}"),
        "twice": lambda folder: (folder / "project.json").write_text('{"pictures": [], "pictures": []}'),
        "binary": lambda folder: (folder / "project.json").write_bytes(bytes(range(256))),
        "pickle for json": lambda folder: (folder / "project.json").write_bytes(PICKLE),
        "json folder": lambda folder: ((folder / "project.json").unlink(), (folder / "project.json").mkdir()),
        "newer": manifest(format=99),
        "key up": manifest(pictures=[picture(key="../../p")]),
        "key absolute": manifest(pictures=[picture(key="/etc/passwd")]),
        "key nul": manifest(pictures=[picture(key="p\0")]),
        "key device": manifest(pictures=[picture(key="con"), picture(key="lpt1")]),
        "key a number": manifest(pictures=[picture(key=5)]),
        "path a share": manifest(pictures=[picture(path="\\\\evil\\share\\a.tif")]),
        "path an address": manifest(pictures=[picture(path="https://example.org/a.tif")]),
        "path out": manifest(pictures=[picture(path="../../../../../../etc/passwd")]),
        "shape huge": manifest(pictures=[picture(shape=[2**40] * 4)]),
        "shape negative": manifest(pictures=[picture(shape=[-1])]),
        "shape long": manifest(pictures=[picture(shape=[1] * 10**5)]),
        "model up": manifest(versions=[version(file="../../outside/secret")]),
        "model absolute": manifest(versions=[version(file=str(outside / "secret"))]),
        "model nul": manifest(versions=[version(file="000001.safetensors\0")]),
        "model newline": manifest(versions=[version(file="000001.safetensors\n")]),
        "current unknown": manifest(current=10**9),
        "current a path": manifest(current="../x"),
        "versions an object": manifest(versions={"a": 1}),
    }  # fmt: skip


def hostile_folders(outside):
    """Name to function that puts into a project what does not belong there."""
    changes = {
        "lock json deep": lambda folder: (folder / "lock.json").write_text("[" * 4000),
        "lock json huge": lambda folder: (folder / "lock.json").write_text("9" * 10**6),
        "lock json odd": lambda folder: (folder / "lock.json").write_text(
            '{"host": "x", "pid": -1, "since": 1e300, "seen": 1e300}'
        ),
        "lock folder": lambda folder: ((folder / "lock").unlink(missing_ok=True), (folder / "lock").mkdir()),
        "corrections a file": lambda folder: (
            linked("corrections", "x")(folder), (folder / "corrections").unlink(), (folder / "corrections").touch(),
        ),
        "damaged name taken": lambda folder: (
            named(PICKLE)(folder), (folder / "corrections" / (file_name(7, PICKLE) + ".damaged")).mkdir(),
        ),
        "leftover folder": lambda folder: (folder / "corrections" / ".0123.tmp").mkdir(),
        "last model": lambda folder: (folder / "models" / "999999999.safetensors").write_bytes(b""),
        "last time": named(b""),
    }  # fmt: skip
    if os.name != "nt":
        for part in ("corrections", "models", "masks", "project.json", "lock", "lock.json"):
            changes[f"link {part}"] = linked(part, outside if part.endswith("s") else outside / "secret")
            changes[f"dead link {part}"] = linked(part, outside / "created")
        stroke_name = f"corrections/{file_name(9, b'secret')}"
        for part in (stroke_name, "masks/p.npz", "models/000001.safetensors", "corrections/.0123.tmp"):
            changes[f"link {part}"] = linked(part, outside / "secret")
        changes["pipe"] = lambda folder: os.mkfifo(folder / "corrections" / file_name(9, b""))
        changes["pipe for masks"] = lambda folder: os.mkfifo(folder / "masks" / "p.npz")
        changes["device"] = linked("masks/p.npz", "/dev/zero")
    return changes


@pytest.mark.skipif(os.name == "nt", reason="the visitor measures its memory with a module of Unix")
def test_hostile_projects_do_nothing(tmp_path, make_edit):
    """Of more than 60 hostile projects none runs code, touches a file outside, takes 3 s or 1 GB."""
    outside, projects = tmp_path / "outside", tmp_path / "projects"
    outside.mkdir()
    projects.mkdir()
    (outside / "secret").write_bytes(b"secret")
    changes = {**hostile_arrays(tmp_path), **hostile_json(outside), **hostile_folders(outside)}
    assert len(changes) >= 60
    with Project.create(tmp_path / "good") as good:
        data = encode(make_edit(1))
        (good.path / "corrections" / file_name(1, data)).write_bytes(data)
        good.save_model(b"secret", VersionRecord(1))
    for name, change in changes.items():
        change(Path(shutil.copytree(good.path, projects / name.replace("/", " "))))
    done = subprocess.run(
        [sys.executable, "-c", VISITOR, str(projects)], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["deeds"] == []
    assert found["memory"] < 1000  # MiB
    assert found["refused"] >= 50
    assert [path.name for path in outside.iterdir()] == ["secret"]
    assert (outside / "secret").read_bytes() == b"secret"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["good", "made.npz", "outside", "projects"]


def test_a_good_project_passes_the_same_visit(tmp_path, make_edit):
    """The visit above refuses nothing of a sound project: it can tell good from bad."""
    with Project.create(tmp_path / "projects" / "good") as project:
        project.add_edit(make_edit(1))
        project.save_masks("p", np.ones((8, 8), int))
        project.save_model(b"x", VersionRecord(1))
    done = subprocess.run([sys.executable, "-c", VISITOR, str(tmp_path / "projects")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["deeds"] == []
    assert json.loads(done.stdout)["refused"] == 0
