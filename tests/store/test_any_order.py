"""Everything in any order, against a plain model."""

import errno
import itertools
import os

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from napari_unet.core.errors import ProjectError
from napari_unet.store.project import Project
from napari_unet.store.records import PictureRecord, VersionRecord

EXAMPLES = 500 if os.environ.get("UNET_LIVE_LONG") else 12


class AnyOrder(RuleBasedStateMachine):
    """Any sequence of saves, failed saves and reopenings, against a plain model of what was acknowledged."""

    folder = None
    make_edit = None
    faulty = None
    runs = itertools.count()

    @initialize()
    def begin(self):
        """A new project on a disk that can fail."""
        self.files = self.faulty()
        self.project = Project.create(self.folder / f"{next(self.runs)}.unetproj", files=self.files)
        self.edits, self.settings, self.pictures, self.models, self.current = [], {}, {}, {}, 0
        self.numbers = itertools.count(1)

    def attempt(self, write):
        """Whether a save was acknowledged."""
        try:
            write()
        except ProjectError:
            return False
        finally:
            self.files.mend()
        return True

    @rule(after=st.integers(0, 9), error=st.sampled_from([errno.ENOSPC, errno.EIO, "short"]))
    def break_the_disk(self, after, error):
        """One of the next steps fails."""
        self.files.error, self.files.fail_at = error, len(self.files.calls) + after

    @rule()
    def add_an_edit(self):
        """An edit that was not acknowledged may be there or not; it is asked for again until it is."""
        number = next(self.numbers)
        while not self.attempt(lambda: self.project.add_edit(self.make_edit(number))):
            pass
        self.edits.append(number)

    @rule(value=st.integers(0, 99))
    def save_settings(self, value):
        """Settings are the new ones if that was acknowledged, and the same in memory and on disk."""
        if self.attempt(lambda: self.project.save_settings({"value": value})):
            self.settings = {"value": value}

    @rule(key=st.sampled_from("abc"), value=st.integers(0, 99))
    def add_a_picture(self, key, value):
        """A picture is new, or replaced."""
        record = PictureRecord(key, name=str(value))
        if self.attempt(lambda: self.project.add_picture(record)):
            self.pictures[key] = record

    @rule()
    def save_a_model(self):
        """A version takes over only if that was acknowledged."""
        number = next(self.numbers)
        if self.attempt(lambda: self.project.save_model(b"weights %d" % number, VersionRecord(number))):
            self.current = number
            self.models[number] = b"weights %d" % number

    @precondition(lambda self: self.models)
    @rule(data=st.data())
    def go_back(self, data):
        """Any kept version can be the current one."""
        number = data.draw(st.sampled_from([0, *(version.number for version in self.project.versions)]))
        if self.attempt(lambda: self.project.use_version(number)):
            self.current = number

    @rule()
    def reopen(self):
        """A day later."""
        self.files.mend()
        self.project.close()
        self.project = Project.open(self.project.path, files=self.files)
        # a change of project.json whose last step failed may have reached the disk
        self.settings, self.pictures = self.project.settings, self.project.pictures
        self.current = self.project.current

    @invariant()
    def all_that_was_acknowledged_is_there(self):
        """Nothing acknowledged is missing, nothing is damaged, and the current version can be read."""
        if not hasattr(self, "project"):
            return
        fail_at, self.files.fail_at = self.files.fail_at, None
        assert self.project.problems == []
        assert list(dict.fromkeys(int(edit.time) for edit in self.project.edits())) == self.edits
        assert (self.project.settings, self.project.pictures) == (self.settings, self.pictures)
        assert self.project.current == self.current
        if self.current:
            assert self.project.model_bytes(self.current) == b"weights %d" % self.current
        self.files.fail_at = fail_at

    def teardown(self):
        """Let the folder go."""
        if hasattr(self, "project"):
            self.project.close()


def test_any_order_of_saves_failures_and_reopenings(tmp_path, make_edit, faulty):
    """Whatever is done in whatever order on a disk that fails now and then, what was acknowledged is there."""
    AnyOrder.folder, AnyOrder.make_edit, AnyOrder.faulty = tmp_path, staticmethod(make_edit), faulty
    run_state_machine_as_test(
        AnyOrder,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=20,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
