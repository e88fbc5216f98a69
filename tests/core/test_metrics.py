"""IoU, Dice, AP, F1 and PQ against figures worked out by hand and by brute force."""

import itertools
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_unet.core.errors import LabelsError
from napari_unet.core.metrics import (
    THRESHOLDS,
    areas,
    class_agreement,
    class_scores,
    evaluate,
    match_objects,
    mean_agreement,
    mean_scores,
    object_agreement,
    overlaps,
)

LABELS = np.zeros((12, 20), int)
LABELS[2:8, 2:8], LABELS[4:10, 11:18] = 1, 2
ALL = np.ones(LABELS.shape, bool)

SMALL_LABELS = hnp.arrays(np.int32, (5, 6), elements=st.integers(0, 4))


def draw(text):
    """Labels from a picture of digits; a dot is background."""
    rows = [line.split() for line in text.strip().splitlines()]
    return np.array([[0 if c == "." else int(c) for c in row] for row in rows], np.int32)


def pairs_by_brute_force(a, b):
    """Every pair of objects that share a voxel, counted one pair after the other."""
    ids = itertools.product(np.unique(a[a != 0]), np.unique(b[b != 0]))
    counted = [(int(i), int(j), int(((a == i) & (b == j)).sum())) for i, j in ids]
    return [pair for pair in counted if pair[2]]


def true_positives_by_brute_force(a, b, threshold):
    """The most pairs at IoU >= threshold that any one-to-one matching has."""
    ids_a, ids_b = np.unique(a[a != 0]), list(np.unique(b[b != 0]))
    good = {(i, j) for i, j in itertools.product(ids_a, ids_b) if iou(a == i, b == j) >= threshold}
    partners = ids_b + [None] * len(ids_a)
    return max(sum(pair in good for pair in zip(ids_a, p, strict=False)) for p in itertools.permutations(partners))


def iou(a, b):
    """Intersection over union of two masks."""
    return (a & b).sum() / (a | b).sum()


def test_the_figures_of_a_worked_example():
    """One object found whole, one found by 3/5, one missed and one invented give the figures of the definitions."""
    truth = draw("""
        1 1 . 2 2
        1 1 . 2 2
        . . . . .
        3 . . . .
    """)
    predicted = draw("""
        5 5 . 6 6
        5 5 . . 6
        . . . . 6
        . . 7 . .
    """)
    scores = evaluate(predicted, truth)
    assert scores == pytest.approx(
        {
            "ap50": 2 / 4,
            "ap75": 1 / 5,
            "map": np.mean([2 / 4] * 3 + [1 / 5] * 7),  # IoU 0.6 counts at 0.5, 0.55 and 0.6
            "dice": 14 / 18,
            "iou": 7 / 11,
            "f1": 4 / 6,
            "pq": (1 + 0.6) / 3,
        }
    )


@pytest.mark.parametrize(
    ("predicted", "truth", "expected"),
    [
        ("1 1 . 2", "1 1 . 2", 1.0),
        ("7 7 . 3", "1 1 . 2", 1.0),
        (". . . .", ". . . .", 1.0),
        ("1 1 . .", ". . . .", 0.0),
        (". . . .", "1 1 . .", 0.0),
    ],
    ids=["same", "other names", "both empty", "invented", "missed"],
)
def test_clear_cases(predicted, truth, expected):
    """What agrees scores 1 in every figure whatever the objects are called, and what does not overlap scores 0."""
    assert set(evaluate(draw(predicted), draw(truth)).values()) == {expected}


def test_halves_of_an_object_match_once():
    """Of two halves, each at an IoU of exactly 0.5, one is right and the other is too many."""
    scores = evaluate(draw("1 1 2 2"), draw("1 1 1 1"))
    assert scores["ap50"] == pytest.approx(1 / 2)
    assert scores["f1"] == pytest.approx(2 / 3)
    assert scores["pq"] == pytest.approx(0.5 / 1.5)
    assert scores["dice"] == 1


def test_a_chain_of_halves_matches_as_often_as_possible():
    """Where objects could be matched in several ways, a way with the most matches is taken."""
    predicted = draw("1 1 2 2 . 3 3 3 3")
    truth = draw("1 1 1 1 . 2 2 3 3")
    assert evaluate(predicted, truth)["ap50"] == pytest.approx(2 / 4)


def test_one_object_cut_into_halves_costs_no_memory_for_all_others():
    """A whole picture of objects is matched without a table of each with each."""
    truth = np.arange(1, 4001).reshape(50, 80)
    predicted = truth.copy()
    truth[0, 1] = truth[0, 0]
    tracemalloc.start()
    try:
        scores = evaluate(predicted, truth)
        assert tracemalloc.get_traced_memory()[1] < 4000**2
    finally:
        tracemalloc.stop()
    assert scores["ap50"] == pytest.approx(3999 / 4000)


def test_a_mask_is_one_object():
    """A bool mask scores like a label picture with one object."""
    mask = draw("1 1 . .") > 0
    assert evaluate(mask, draw("4 4 4 ."))["iou"] == pytest.approx(2 / 3)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int64, np.uint64, ">u2"])
def test_any_whole_numbers_do(dtype):
    """Predicted and true labels may have different integer types."""
    assert evaluate(draw("1 1 . 2").astype(dtype), draw("1 1 . 2"))["map"] == 1


def test_ids_of_any_size_are_told_apart():
    """Labels near the end of uint64 are counted like small ones."""
    largest = np.iinfo(np.uint64).max
    a = np.array([[largest, largest, largest - 1, 0]], np.uint64)
    ids_a, ids_b, counts = overlaps(a, a)
    assert ids_a.tolist() == ids_b.tolist() == [largest - 1, largest]
    assert counts.tolist() == [1, 2]


def test_what_is_masked_does_not_count():
    """Of either labelling: it is as if the picture ended there, whatever numbers lie under the mask."""
    outside = np.s_[:, 10:]
    predicted, truth = np.ma.array(LABELS.copy(), mask=False), LABELS.copy()
    truth[outside] = 7
    predicted[outside] = -9999
    predicted[outside] = np.ma.masked
    assert set(evaluate(predicted, truth).values()) == {1.0}
    assert set(evaluate(truth, predicted).values()) == {1.0}
    half = np.ma.array(LABELS, mask=np.broadcast_to(np.arange(20) >= 5, LABELS.shape))
    assert evaluate(LABELS, half) == evaluate(LABELS[:, :5], LABELS[:, :5])
    assert set(evaluate(np.ma.masked_all(LABELS.shape, int), truth).values()) == {1.0}
    with pytest.raises(LabelsError, match="must cover the same voxels"):
        evaluate(predicted[1:], truth)


@pytest.mark.parametrize(
    ("predicted", "word"),
    [
        (np.zeros((2, 3)), "float64"),
        (np.zeros((2, 3), complex), "complex128"),
        (np.array([["a", "b", "c"]] * 2), "<U1"),
        (np.full((2, 3), -1), "negative"),
        (np.zeros((3, 2), int), "(3, 2)"),
        (np.zeros((1, 2, 3), int), "(1, 2, 3)"),
    ],
)
def test_what_is_no_labels_is_refused(predicted, word):
    """Fractions, text, negative numbers and other shapes are refused in a sentence that names them."""
    with pytest.raises(LabelsError, match=r"\.$") as error:
        evaluate(predicted, np.zeros((2, 3), int))
    assert word in str(error.value)


@given(SMALL_LABELS, SMALL_LABELS)
def test_overlaps_equal_brute_force(a, b):
    """Every pair that shares a voxel is counted, sorted, and no other."""
    ids_a, ids_b, counts = overlaps(a, b)
    assert list(zip(ids_a.tolist(), ids_b.tolist(), counts.tolist(), strict=True)) == pairs_by_brute_force(a, b)


@given(SMALL_LABELS, SMALL_LABELS)
def test_the_table_knows_areas_and_iou(a, b):
    """Areas, IoU and the number of objects are those of the objects themselves."""
    table = match_objects(a, b)
    assert (table.objects_a, table.objects_b) == (len(np.unique(a[a != 0])), len(np.unique(b[b != 0])))
    assert table.areas_a.tolist() == [(a == i).sum() for i in table.ids_a]
    assert table.areas_b.tolist() == [(b == j).sum() for j in table.ids_b]
    assert table.iou.tolist() == [iou(a == i, b == j) for i, j in zip(table.ids_a, table.ids_b, strict=True)]


@settings(max_examples=40)
@given(SMALL_LABELS, SMALL_LABELS)
def test_ap_equals_brute_force(a, b):
    """AP at 0.5 and 0.75 equals the best of all one-to-one matchings, and swapping the two changes nothing."""
    scores = evaluate(a, b)
    total = len(np.unique(a[a != 0])) + len(np.unique(b[b != 0]))
    for name, threshold in (("ap50", 0.5), ("ap75", 0.75)):
        found = true_positives_by_brute_force(a, b, threshold)
        assert scores[name] == pytest.approx(found / (total - found) if total else 1.0)
    assert evaluate(b, a) == pytest.approx(scores)
    assert all(0 <= value <= 1 for value in scores.values())


@given(hnp.arrays(np.uint16, hnp.array_shapes(min_dims=2, max_dims=4, max_side=5), elements=st.integers(0, 5)))
def test_areas_sum_to_the_foreground(labels):
    """Every voxel that is not background belongs to one object, in any number of axes."""
    ids, counts = areas(labels)
    assert ids.tolist() == np.unique(labels[labels != 0]).tolist()
    assert counts.sum() == np.count_nonzero(labels)


def test_pictures_without_voxels_agree():
    """Two label pictures without a single voxel score 1 and share nothing."""
    nothing = np.zeros((0, 4), int)
    assert set(evaluate(nothing, nothing).values()) == {1.0}
    assert [len(part) for part in overlaps(nothing, nothing)] == [0, 0, 0]


def test_labels_need_not_lie_in_order_in_memory():
    """Views with strides score like copies."""
    labels = np.arange(48, dtype=np.int32).reshape(6, 8) // 5
    assert evaluate(labels[::2, ::-1], np.asfortranarray(labels[::2, ::-1]))["map"] == 1


def test_thresholds_are_exact_hundredths():
    """An IoU of exactly 3/5 counts at the threshold 0.6."""
    assert THRESHOLDS == (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)


def test_thousands_of_objects_give_few_numbers():
    """A picture of 2,500 shifted squares is matched without a table of all pairs."""
    truth = np.kron(np.arange(1, 2501, dtype=np.int32).reshape(50, 50), np.ones((20, 20), np.int32))
    predicted = np.roll(truth, 5, axis=1)
    ids_a, _, counts = overlaps(predicted, truth)
    assert len(ids_a) == 5000
    assert counts.sum() == truth.size
    assert evaluate(predicted, truth)["ap50"] == pytest.approx(2500 / 2500)


def test_classes_that_are_taken_for_each_other_score_nothing():
    """Their foreground may be all right; each class counts the same, also one that is in one of the two alone."""
    truth = np.zeros((20, 20), int)
    truth[:5], truth[10:] = 1, 2
    assert class_scores(truth, truth) == {"dice": 1.0, "iou": 1.0}
    assert class_scores(np.where(truth > 0, 3 - truth, 0), truth) == {"dice": 0.0, "iou": 0.0}
    assert class_scores(np.where(truth == 2, 3, truth), truth)["dice"] == pytest.approx(1 / 3)
    assert class_scores(np.where(truth == 2, 0, truth), truth)["iou"] == 0.5
    assert class_scores(truth * 0, truth * 0)["dice"] == 1
    one = truth == 1
    found = np.roll(one, 2, axis=0)
    assert class_scores(found, one) == {name: evaluate(found, one)[name] for name in ("dice", "iou")}


def test_the_mean_weighs_pictures_alike():
    """Each figure is averaged over pictures, whatever their sizes."""
    assert mean_scores([{"ap50": 1.0, "iou": 0.5}, {"ap50": 0.0, "iou": 1.0}]) == {"ap50": 0.5, "iou": 0.75}


def test_no_scores_have_no_mean():
    """Averaging nothing is an error that says what is missing."""
    with pytest.raises(LabelsError, match="no scores"):
        mean_scores([])


def of_objects(*args):
    """The mean agreement of objects."""
    return mean_agreement(object_agreement(*args))


def of_classes(*args):
    """The mean agreement of classes."""
    return mean_agreement(class_agreement(*args))


def test_agreement_is_told_by_class():
    """Objects and empty background apart; classes by their number."""
    empty = (LABELS == 0).mean()
    assert object_agreement(LABELS * 0, LABELS, ALL) == {1: [0.0, 0.0], 0: [1.0]}
    assert object_agreement(LABELS, LABELS, LABELS == 1) == {1: [1.0]}
    assert class_agreement(LABELS * 0, LABELS, ALL) == {0: [pytest.approx(2 * empty / (1 + empty))], 1: [0.0], 2: [0.0]}


def test_the_truth_scores_1_and_nothing_scores_little():
    """Right objects score 1 under any numbers; an empty prediction has the background alone."""
    assert of_objects(LABELS, LABELS, ALL) == 1
    assert of_objects(LABELS * 7, LABELS, ALL) == 1
    assert of_objects(np.zeros_like(LABELS), LABELS, ALL) == pytest.approx(1 / 3)


def test_each_object_counts_the_same():
    """The score is the mean of the objects' best IoU and of the background that was left empty."""
    predicted = np.where(LABELS == 1, 5, 0)
    predicted[0, 0] = 9
    expected = np.mean([1, 0, 1 - 1 / (LABELS == 0).sum()])
    assert of_objects(predicted, LABELS, ALL) == pytest.approx(expected)


def test_joined_objects_score_less():
    """Two objects predicted as one have an IoU of their share of it each."""
    joined = (LABELS > 0).astype(int)
    share = [np.mean(LABELS[LABELS > 0] == n) for n in (1, 2)]
    assert of_objects(joined, LABELS, ALL) == pytest.approx(np.mean([*share, 1]))


def test_what_is_not_trusted_does_not_count():
    """Other labels and other predictions of untrusted background change no score."""
    trusted = LABELS == 1
    predicted = np.where(LABELS == 1, 1, 0)
    score = of_objects(predicted, LABELS, trusted)
    other = np.where(trusted, LABELS, 2)
    noisy = predicted.copy()
    noisy[9:, :] = 4
    assert score == of_objects(predicted, other, trusted) == of_objects(noisy, LABELS, trusted) == 1


def test_nothing_to_compare_is_no_error():
    """Where nothing is trusted every prediction agrees."""
    assert of_objects(LABELS, LABELS, ~ALL) == of_classes(LABELS, LABELS, ~ALL) == 1


def test_classes_are_scored_by_their_mean_dice():
    """Each class that the user named counts the same, on trusted voxels."""
    predicted = np.where(LABELS == 2, 1, LABELS)
    dice = [1, 2 * 36 / (36 + 36 + 42), 0]
    assert of_classes(predicted, LABELS, ALL) == pytest.approx(np.mean(dice))
    assert of_classes(predicted, LABELS, LABELS == 1) == 1
