"""What a model must not forget while it learns something else."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_unet.core.corrections import Correction
from napari_unet.core.errors import ModelError
from napari_unet.engine import rehearsal as engine
from napari_unet.engine import train as training
from napari_unet.engine.rehearsal import chosen, read, rehearsal_of, write
from napari_unet.engine.sampling import network_input
from napari_unet.engine.student import Student
from napari_unet.engine.train import fine_tune
from napari_unet.nets.model import load_model
from tests.engine.conftest import score_on


def test_pictures_come_back_as_the_network_saw_them(correct, tmp_path):
    """Written with 8 bits and read again, a picture is the same to the network up to rounding; all of it is trusted."""
    known = [correct(0), replace(correct(1), scale=0.5)]
    known = [replace(c, image=c.image[None], channels_first=True) for c in known]
    write(tmp_path / "r.npz", known)
    first, second = read(tmp_path / "r.npz")
    assert np.abs(network_input(first, 1) - np.clip(network_input(known[0], 1), 0, 255 / 200)).max() < 1 / 200
    assert np.array_equal(first.labels, known[0].labels)
    assert second.labels.shape == tuple(n // 2 for n in known[1].labels.shape)
    assert first.trusted.all()
    assert first.scale == second.scale == 1


def test_large_pictures_are_cut(correct, tmp_path, monkeypatch):
    """Only a part of each is kept, the same of picture and labels."""
    monkeypatch.setattr(engine, "SIDE", 40)
    known = correct(0)
    write(tmp_path / "r.npz", [replace(known, image=known.image[None], channels_first=True)])
    (part,) = read(tmp_path / "r.npz")
    assert part.labels.shape == part.image.shape[1:] == (40, 40)


def test_what_is_not_trusted_is_not_trusted_later(tmp_path):
    """Regions of which nothing is known stay so, also at another size; a picture of which nothing is known is none."""
    random = np.random.default_rng(0)
    labels = np.zeros((64, 64), np.int32)
    labels[10:30, 5:20] = 3
    trusted = np.ones((64, 64), bool)
    trusted[:, 40:] = False
    known = Correction(random.random((1, 64, 64)), labels, trusted, held_out=False, channels_first=True)
    unknown = replace(known, trusted=np.zeros((64, 64), bool))
    write(tmp_path / "r.npz", [known, unknown, replace(known, scale=0.5)])
    first, second = read(tmp_path / "r.npz")
    assert np.array_equal(first.trusted, trusted)
    assert np.array_equal(second.trusted, trusted[::2, ::2])


def test_objects_of_any_number_stay_objects(tmp_path):
    """A large picture has more objects than 16 bits can number; those of the part that is kept are numbered anew."""
    labels = np.zeros((64, 64), np.int32)
    labels[5:20, 5:20], labels[30:40, 30:40], labels[45:60, 5:20] = 65536, 70000, 4464
    image = np.random.default_rng(0).random((1, 64, 64))
    write(tmp_path / "r.npz", [Correction(image, labels, labels >= 0, held_out=False, channels_first=True)])
    (found,) = read(tmp_path / "r.npz")
    assert np.array_equal(found.labels > 0, labels > 0)
    assert [len(np.unique(found.labels[labels == n])) for n in (4464, 65536, 70000)] == [1, 1, 1]
    assert len(np.unique(found.labels)) == 4


def test_a_write_that_fails_leaves_what_was_there(correct, tmp_path, monkeypatch):
    """A torn file never takes the place of a whole one."""
    known = correct(0)
    known = replace(known, image=known.image[None], channels_first=True)
    write(tmp_path / "r.npz", [known])
    before = (tmp_path / "r.npz").read_bytes()

    def torn(file, **arrays):
        file.write(b"PK")
        raise OSError("the disk is full")

    monkeypatch.setattr(np, "savez_compressed", torn)
    with pytest.raises(OSError, match="full"):
        write(tmp_path / "r.npz", [known])
    assert (tmp_path / "r.npz").read_bytes() == before


def test_of_a_large_kind_more_is_kept():
    """Of sixteen pictures four times as many as of one; all of them where all fit."""
    kinds = [[f"a{n}" for n in range(16)], ["b1"], []]
    assert sorted(c[0] for c in chosen(kinds, 3)) == ["a", "a", "b"]
    assert sorted(c[0] for c in chosen(kinds, 5)) == ["a", "a", "a", "a", "b"]
    assert len(chosen(kinds, 100)) == 17
    assert chosen([], 3) == []


def test_a_file_that_takes_the_place_of_another_is_read(correct, tmp_path):
    """A model that is trained again has other pictures to rehearse, in a process that lives on, too."""
    path = tmp_path / "r.npz"
    for seed in (0, 1):
        known = correct(seed)
        write(path, [replace(known, image=known.image[None], channels_first=True)])
        (found,) = read(path)
        assert np.array_equal(found.labels, known.labels)
        assert read(path)[0] is found


def test_a_damaged_file_is_a_sentence(tmp_path):
    """No traceback, and what to do."""
    (tmp_path / "r.npz").write_bytes(b"PK nothing")
    with pytest.raises(ModelError, match="install the package again"):
        read(tmp_path / "r.npz")


def test_the_shipped_model_and_its_versions_rehearse(disc_model):
    """It has pictures with objects; a model of somebody else, and one of classes, has none."""
    shipped = load_model(device="cpu")
    known = rehearsal_of(shipped)
    assert len(known) >= 16
    assert all(c.labels.any() and len(c.image) in (1, 3) for c in known)
    assert rehearsal_of(shipped.copy()) == known
    assert rehearsal_of(disc_model) == ()
    assert rehearsal_of(load_model("classes", device="cpu")) == ()


def test_a_model_rehearses_what_lies_beside_its_file(disc_model, correct, tmp_path):
    """A training with --rehearsal writes two files; together they are loaded, and alone the model has nothing."""
    disc_model.save(tmp_path / "mine.safetensors")
    assert rehearsal_of(load_model(tmp_path / "mine.safetensors", device="cpu")) == ()
    known = correct(0)
    write(tmp_path / "mine.rehearsal.npz", [replace(known, image=known.image[None], channels_first=True)])
    model = load_model(tmp_path / "mine.safetensors", device="cpu")
    (found,) = rehearsal_of(model)
    assert np.array_equal(found.labels, known.labels)
    assert rehearsal_of(model.copy()) == rehearsal_of(model)


@pytest.mark.parametrize("rehearses", [True, False])
def test_what_is_rehearsed_is_not_forgotten(disc_model, correct, quick, monkeypatch, rehearses):
    """Learning dark discs, a model of bright ones forgets them, unless it sees some in between."""
    bright = [correct(seed, 1.0, look="bright") for seed in range(200, 204)]
    monkeypatch.setattr(training, "rehearsal_of", lambda model: bright[:3] if rehearses else ())
    dark = [correct(seed, 1.0, look="dark", held_out=seed == 5) for seed in range(6)]
    recipe = replace(quick, rehearse_every=2, round_steps=60)
    torch.manual_seed(0)
    before = score_on(disc_model, disc_model.net.state_dict(), bright[3]).mean
    for _ in fine_tune(disc_model, dark, steps=120, recipe=recipe):
        pass
    lost = before - score_on(disc_model, disc_model.net.state_dict(), bright[3]).mean
    assert (lost < 0.1) == rehearses


def test_few_corrections_are_learnt_in_smaller_steps(disc_model, correct, quick):
    """The rate grows with the corrections, from a fourth to all of it; with nothing to lose it is whole at once."""
    recipe = replace(quick, learning_rate=8e-3, settled=40)
    student, free = Student(disc_model, recipe, 0, [correct(0)]), Student(disc_model, recipe, 0)
    assert [student.rate(count) for count in (1, 10, 20, 40, 90)] == pytest.approx([2e-3, 2e-3, 4e-3, 8e-3, 8e-3])
    assert [free.rate(count) for count in (1, 40)] == pytest.approx([8e-3, 8e-3])


def test_a_training_of_few_corrections_stays_near_what_the_model_was(disc_model, correct, quick, monkeypatch):
    """In as many steps three corrections move the weights by about a fourth of what they would if they settled it."""
    monkeypatch.setattr(training, "rehearsal_of", lambda model: [correct(200, 1.0, look="bright")])
    monkeypatch.setattr(training, "_why_not", lambda *_, **__: "")
    dark = [correct(seed, 1.0, look="dark", count=1) for seed in range(3)]
    moved = [_moved(disc_model, dark, replace(quick, settled=settled)) for settled in (3, 40)]
    assert 0.1 < moved[1] / moved[0] < 0.5


@pytest.mark.parametrize(("count", "share"), [(1, 0.25), (5, 0.25), (10, 0.5), (20, 1.0), (90, 1.0)])
def test_who_has_something_to_lose_goes_a_part_of_the_way(disc_model, correct, quick, count, share):
    """The more is corrected, the nearer are the weights on offer to the learnt ones; with nothing to lose they are."""
    recipe = replace(quick, share=0.25, settled=40)
    for rehearsed, expected in (([correct(0)], share), ([], 1.0)):
        student = Student(disc_model, recipe, 0, rehearsed)
        student.average = {
            name: value + 4 if value.is_floating_point() else value for name, value in student.average.items()
        }
        old, offered = disc_model.net.state_dict(), student.offered(count)
        assert offered.keys() == old.keys()
        for name, value in offered.items():
            torch.testing.assert_close(value, old[name] + 4 * expected if value.is_floating_point() else old[name])


def test_who_knew_it_stays_near_where_it_began(disc_model, correct, quick):
    """However often the teacher changes, and however much is corrected."""
    student = Student(disc_model, replace(quick, known_share=0.25), 0, [correct(0)])
    old = {name: value.clone() for name, value in disc_model.net.state_dict().items()}
    floating = [name for name, value in old.items() if value.is_floating_point()]
    student.average = {name: value + 4 if name in floating else value for name, value in old.items()}
    later = Student(disc_model, quick, 1).net
    with torch.no_grad():
        for values in later.parameters():
            values += 2
    student.teacher.net, student.teacher.knew_it = later, True
    for name, value in student.offered(90).items():
        torch.testing.assert_close(value, old[name] + 1 if name in floating else old[name])


def test_a_round_takes_over_a_part_of_what_was_learnt(disc_model, correct, quick, monkeypatch):
    """Half of the way is half as far from what the model was as all of it."""
    monkeypatch.setattr(training, "rehearsal_of", lambda model: [correct(200, 1.0, look="bright")])
    monkeypatch.setattr(training, "_why_not", lambda *_, **__: "")
    dark = [correct(seed, 1.0, look="dark", count=1) for seed in range(3)]
    moved = [_moved(disc_model, dark, replace(quick, share=share)) for share in (0.5, 1.0)]
    assert moved[0] / moved[1] == pytest.approx(0.5, rel=0.05)


def _moved(model, corrections, recipe):
    """How far a short training moves the weights of a model, in all."""
    learnt = model.copy()
    for _ in fine_tune(learnt, corrections, steps=20, recipe=recipe):
        pass
    assert learnt.version > model.version
    pairs = zip(learnt.net.parameters(), model.net.parameters(), strict=True)
    return sum(float((new - old).abs().sum().detach()) for new, old in pairs)
