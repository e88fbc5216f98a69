"""Learn: what is told of the learning, how it is steered, and the curve."""

from dataclasses import replace

import pytest
from qtpy.QtCore import QPointF

from napari_unet.core.events import Progress, TrainStep, WeightsChanged
from napari_unet.widgets.learn_panel import LearnPanel
from napari_unet.widgets.score_plot import ScorePlot
from tests.widgets.conftest import LEARNING, tell, text_of


@pytest.fixture
def learn_panel(viewer, desk, qtbot):
    """The Learn panel."""
    panel = LearnPanel(viewer)
    qtbot.addWidget(panel)
    return panel


def test_counts_and_the_round_are_told(learn_panel, session, qtbot):
    """'27 corrections in 3 pictures · learnt 25 · round 6, 8 s left'."""
    session.stepped.emit(TrainStep(200, 6, 0.4, 0.3))
    session.progressed.emit(Progress("learn", "Learning", 4, 10, 8.0))
    wanted = "27 corrections in 3 pictures · learnt 25 · round\u00a06, 8 s left"
    tell(qtbot, session, "state_changed", LEARNING, lambda: text_of(learn_panel, "counts") == wanted)


def test_before_the_first_correction_it_says_whether_there_will_be_learning(learn_panel, session, qtbot):
    """Nobody waits for what was switched off."""
    for learning, wanted in (("idle", "Mend a mask: learning starts by itself."), ("off", "Learning is off.")):
        state = replace(LEARNING, corrections=0, learning=learning)
        tell(qtbot, session, "state_changed", state, lambda wanted=wanted: text_of(learn_panel, "counts") == wanted)


@pytest.mark.parametrize(
    ("recent", "sentence"),
    [
        ((4, 4), ""),
        ((1, 5), "Last 5 corrections: 1 was already right before you touched them."),
        ((3, 5), "Last 5 corrections: 3 were already right before you touched them."),
        ((17, 20), "Last 20 corrections: 17 were already right before you touched them."),
        ((19, 20), "Last 20 corrections: 19 were already right before you touched them. Good enough for counting?"),
    ],
)
def test_a_plain_sentence_says_whether_it_is_good_enough(learn_panel, session, qtbot, recent, sentence):
    """Each correction tested the model before it was learnt; few of them say nothing."""
    state = replace(LEARNING, recent=recent)
    tell(qtbot, session, "state_changed", state, lambda: text_of(learn_panel, "enough") == sentence)
    assert learn_panel.enough.isVisibleTo(learn_panel) == bool(sentence)


def test_a_take_over_is_told_with_both_scores(learn_panel, session, qtbot):
    """The user reads what learning brought."""
    event = WeightsChanged(1, 0.81, 0.84, 5, 1)
    wanted = "Learnt from 1 correction · score 0.81 → 0.84"
    tell(qtbot, session, "weights_changed", event, lambda: text_of(learn_panel, "news") == wanted)


def test_learning_is_switched_paused_and_hurried(learn_panel, session, qtbot):
    """The switch and the two buttons reach the session."""
    tell(qtbot, session, "state_changed", LEARNING, learn_panel.now.isEnabled)
    learn_panel.learn.click()
    learn_panel.now.click()
    learn_panel.pause.click()
    assert session.calls[-3:] == [("learn", False), ("learn_now",), ("pause", True)]


def test_an_earlier_version_can_be_had_back(learn_panel, session, qtbot):
    """Choose it and press Revert; the version in use cannot be reverted to."""
    tell(qtbot, session, "state_changed", LEARNING, lambda: learn_panel.version.count() == 3)
    assert not learn_panel.revert.isEnabled()
    assert learn_panel.version.currentText() == "Version 2 · 0.84 (best)"
    learn_panel.version.setCurrentIndex(2)
    learn_panel.revert.click()
    assert session.calls[-1] == ("revert", 0)


def test_after_going_back_the_news_are_what_is_in_use(learn_panel, session, qtbot):
    """What the last round brought is told again where its version is; a round after that has news of its own."""

    def shows(version, news):
        session.state = replace(LEARNING, version=version)
        tell(qtbot, session, "state_changed", session.state, lambda: text_of(learn_panel, "news") == news)

    learnt, rejected = "Learnt from 25 corrections · score 0.81 → 0.84", "No better."
    event = WeightsChanged(2, 0.81, 0.84, 5, 25)
    tell(qtbot, session, "weights_changed", event, lambda: text_of(learn_panel, "news") == learnt)
    shows(2, learnt)
    shows(0, "Version 0 (as it came) is in use.")
    shows(1, "Version 1 · 0.81 is in use.")
    shows(2, learnt)
    shows(0, "Version 0 (as it came) is in use.")
    step = TrainStep(9, 7, 1.0, 0.3, kept=False, reason=rejected)
    tell(qtbot, session, "stepped", step, lambda: text_of(learn_panel, "news") == rejected)
    shows(0, rejected)


def test_why_learning_ended_stays_in_sight(learn_panel, session, qtbot):
    """Until a training does not fail: a notification alone is gone after a while, and with it what is to be done."""
    problem = "The labels name class 7. Paint it over."
    failed = replace(LEARNING, learn_problem=problem)
    tell(qtbot, session, "state_changed", failed, lambda: text_of(learn_panel, "news") == problem)
    tell(qtbot, session, "state_changed", LEARNING, lambda: text_of(learn_panel, "news") != problem)


def test_a_dock_that_opens_after_going_back_says_so(viewer, session, qtbot):
    """The history ends with a round whose version is not in use."""
    session.history, session.state = [WeightsChanged(2, 0.8, 0.9, 4, 12)], replace(LEARNING, version=1)
    panel = LearnPanel(viewer)
    qtbot.addWidget(panel)
    assert text_of(panel, "news") == "Version 1 · 0.81 is in use."


def test_a_dock_that_opens_late_shows_the_curve_so_far(viewer, session, qtbot):
    """What happened before is drawn, and hovering a version tells of it."""
    session.history = [TrainStep(i, 1, i / 50, 1 / (i + 1)) for i in range(50)] + [WeightsChanged(1, 0.8, 0.9, 4, 12)]
    panel = LearnPanel(viewer)
    qtbot.addWidget(panel)
    panel.plot.resize(240, 84)
    spots = {panel.plot.told_at(QPointF(x, y)) for x in range(0, 240, 4) for y in range(0, 84, 4)}
    assert "Version 1: score 0.90, learnt from 12 corrections" in spots
    assert any(spot.startswith("Loss 0.") for spot in spots)


def test_the_curve_is_that_of_the_project_that_was_opened(learn_panel, session, qtbot):
    """A picture that is opened after the dock may bring its project, and another one may be opened by hand."""
    assert learn_panel.plot.isHidden()
    session.history = [TrainStep(1, 1, 0.5, 0.3), WeightsChanged(1, 0.8, 0.9, 4, 12)]
    session.restored.emit()
    qtbot.waitUntil(lambda: not learn_panel.plot.isHidden())
    assert text_of(learn_panel, "news").startswith("Learnt from 12 corrections")
    session.restored.emit()
    qtbot.wait(20)
    assert len(learn_panel.plot._dots) == 1
    session.history = []
    session.stepped.emit(TrainStep(2, 1, 0.6, 0.2))  # the last word of the training of the project before
    session.restored.emit()
    qtbot.waitUntil(learn_panel.plot.isHidden)
    qtbot.wait(20)
    assert learn_panel.plot.isHidden()
    assert learn_panel.news.isHidden()


def test_the_curve_bears_skipped_steps_and_missing_scores(qtbot):
    """NaN is drawn nowhere and breaks nothing."""
    plot = ScorePlot()
    qtbot.addWidget(plot)
    plot.add(TrainStep(1, 1, 0.1, float("nan"), skipped=True))
    plot.add(WeightsChanged(1, float("nan"), float("nan"), 0, 1))
    plot.add(TrainStep(2, 1, 0.2, 0.5, kept=False, reason="no better"))
    assert not plot.grab().isNull()
