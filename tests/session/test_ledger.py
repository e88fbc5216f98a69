"""Ledger: the counts that the user reads stay true through undo, rounds and reopening."""

from dataclasses import replace

import numpy as np

from napari_unet.core.corrections import Edit
from napari_unet.core.geometry import Box
from napari_unet.session.ledger import Ledger


def edit_at(y, x, size=4, time=1.0, picture="p", tool="paint"):
    """An edit that trusts all of its box."""
    box = Box((y, x), (y + size, x + size))
    return Edit(picture, box, np.ones(box.shape, np.int32), np.ones(box.shape, bool), tool, time=time)


def undo_of(edit, time):
    """The undo of an edit."""
    return replace(edit, tool="undo", time=time, taught=np.zeros(edit.box.shape, np.uint8))


def test_corrections_and_their_pictures_are_counted():
    """Each correction counts once, each picture with one too; nothing is learnt yet."""
    ledger = Ledger()
    for number in range(3):
        ledger.add(edit_at(0, 0, time=number + 1.0, picture="ab"[number % 2]))
    assert ledger.counts() == (3, 2, 0)
    assert (ledger.count_in("a"), ledger.count_in("b"), ledger.count_in("c")) == (2, 1, 0)


def test_what_arrives_in_a_round_is_not_learnt_by_it():
    """'learnt 25 of 27': the two that came while the round ran are not counted as learnt."""
    ledger = Ledger()
    ledger.keep([ledger.add(edit_at(0, 0, time=n + 1.0)) for n in range(25)])
    ledger.begin_round()
    late = [ledger.add(edit_at(0, 0, time=100.0 + n)) for n in range(2)]
    ledger.keep(late[:1])
    assert ledger.take_over() == 25
    assert ledger.counts() == (27, 1, 25)
    ledger.begin_round()
    ledger.take_over()
    assert ledger.counts() == (27, 1, 26)  # the last one is not on disk


def test_an_undo_of_something_learnt_takes_it_from_both_counts():
    """No more is learnt than there is, whatever is undone."""
    ledger = Ledger()
    edits = [edit_at(0, 10 * n, time=n + 1.0) for n in range(4)]
    ledger.keep([ledger.add(edit) for edit in edits])
    ledger.begin_round()
    ledger.withdraw("p", edits[1].box)
    assert ledger.take_over() == 3
    ledger.withdraw("p", edits[0].box)
    assert ledger.counts() == (2, 1, 2)


def test_the_newest_of_several_with_one_box_is_withdrawn():
    """The same place may be corrected often; an undo takes the last one back."""
    ledger = Ledger()
    entries = [ledger.add(edit_at(0, 0, time=n + 1.0)) for n in range(3)]
    ledger.keep(entries[:2])
    ledger.begin_round()
    ledger.take_over()
    ledger.withdraw("p", entries[0].box)
    assert ledger.counts() == (2, 1, 2)


def test_an_undo_touches_only_what_the_correction_set_and_nothing_set_later():
    """The mask of an undo leaves out untrusted voxels, and those of later corrections."""
    ledger = Ledger()
    first = edit_at(0, 0, 8)
    trusted = np.zeros((8, 8), bool)
    trusted[:, :5] = True
    ledger.add(replace(first, trusted=trusted))
    ledger.add(edit_at(4, 4, 8, time=2.0))
    ledger.add(edit_at(0, 0, 8, time=3.0, picture="another"))
    mask = ledger.withdraw("p", first.box)
    expected = trusted.copy()
    expected[4:, 4:] = False
    assert np.array_equal(mask, expected)


def test_an_undo_of_what_is_not_known_puts_all_back():
    """Without a correction of this box the whole box is put back, and no count falls below zero."""
    ledger = Ledger()
    assert ledger.withdraw("p", Box((0, 0), (2, 3))).all()
    assert ledger.counts() == (0, 0, 0)


def test_reading_back_counts_parts_as_one_and_strikes_out_what_was_undone():
    """The counts of a reopened project are those it was closed with."""
    parts = [edit_at(0, 0, time=1.0), replace(edit_at(0, 0, time=1.0), held_out=True)]
    large = [edit_at(0, 0, 4, time=2.0), edit_at(0, 4, 4, time=2.0)]
    undone, after = edit_at(20, 20, time=3.0), edit_at(40, 40, time=4.0)
    ledger = Ledger()
    ledger.add(edit_at(9, 9))
    ledger.read_back(
        [*parts, *large, undone, after, undo_of(undone, 5.0), undo_of(after, 5.5), edit_at(40, 40, time=6.0)]
    )
    ledger.go_back(2)
    assert ledger.counts() == (3, 1, 2)


def test_what_was_read_back_is_studied_once_its_picture_is_open():
    """Corrections of pictures that are not open cannot be learnt in this session."""
    ledger = Ledger()
    ledger.read_back([edit_at(0, 0, time=1.0, picture="open"), edit_at(0, 0, time=2.0, picture="closed")])
    ledger.keep_all_in("open")
    ledger.begin_round()
    assert ledger.take_over() == 1


def test_what_waits_to_be_written_stays_when_a_project_is_opened():
    """Corrections made before any project could be begun belong to the one that is opened then."""
    ledger = Ledger()
    entry = ledger.add(edit_at(0, 0, time=9.0))
    ledger.read_back([edit_at(0, 0, time=1.0)], [entry])
    assert ledger.counts() == (2, 1, 0)


def test_going_back_to_a_version_shows_what_it_had_seen():
    """An earlier version has seen the earlier corrections."""
    ledger = Ledger()
    ledger.keep([ledger.add(edit_at(0, 0, time=n + 1.0)) for n in range(5)])
    ledger.begin_round()
    ledger.take_over()
    ledger.go_back(2)
    assert ledger.counts() == (5, 1, 2)
    assert ledger.take_over() == 5


def test_the_last_corrections_tell_how_good_the_model_is():
    """Of the last twenty of which it is known: how many were right by themselves; undone ones do not count."""
    ledger = Ledger()
    assert ledger.recent() == (0, 0)
    for number in range(30):
        right = None if number == 29 else 1.0 if number >= 20 else 0.2
        ledger.add(replace(edit_at(0, 5 * number, time=number + 1.0), right=right))
    assert ledger.recent() == (9, 20)
    ledger.withdraw("p", edit_at(0, 5 * 28).box)
    assert ledger.recent() == (8, 20)


def test_how_right_it_was_is_read_back():
    """A project that is opened again knows it from its files."""
    ledger = Ledger()
    ledger.read_back([replace(edit_at(0, 0, time=1.0), right=0.9), replace(edit_at(0, 9, time=2.0), right=0.1)])
    assert ledger.recent() == (1, 2)
