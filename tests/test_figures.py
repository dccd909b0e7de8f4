"""Each figure: what it draws for known values, that it is legible, and what it refuses."""

import io
from itertools import combinations

import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgb
from PIL import Image

from experiments import figures, similarity_table, task_4, task_4_figures
from experiments.analysis import gain
from experiments.calibration import reliability
from experiments.train import LABELS

TEN = [f"class {i}" for i in range(10)]


def words(texts):
    return [text.get_text() for text in texts]


def drawn(figure):
    """The axes of a titled figure: no two texts touch, and all are inside and 7 points or more."""
    figure.draw_without_rendering()
    assert figure.get_suptitle() == "finding"
    shown = [figure._suptitle]
    for axis in figure.axes:
        shown += [axis.title, axis.xaxis.label, axis.yaxis.label, *axis.texts]
        shown += axis.get_legend().get_texts() if axis.get_legend() else []
        for side, (low, high) in ((axis.xaxis, axis.get_xlim()), (axis.yaxis, axis.get_ylim())):
            shown += [tick.label1 for tick in side.get_major_ticks()
                      if min(low, high) <= tick.get_loc() <= max(low, high)]
    boxes = [(text, text.get_window_extent()) for text in shown
             if text.get_text() and text.get_visible()]
    for text, box in boxes:
        assert text.get_fontsize() >= 7, text
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 + 1, text
        assert figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1 + 1, text
    for (one, box), (other, beside) in combinations(boxes, 2):
        assert not box.overlaps(beside), (one, other)
    return figure.axes


def test_maps_draw_each_point_once_in_its_colour_and_no_class_on_top():
    points, ids = np.random.default_rng(0).normal(size=(300, 2)), np.arange(300) % 2 * 2
    row = [("one", points, ids, TEN[:3]), ("two", points, ids, TEN[:3]),
           ("three", points, ids // 2, ["yes", "no"])]
    axes = drawn(figures.plot_maps([row, row], "finding", "component"))
    found = [(to_hex(part.get_facecolor()[0]), tuple(point)) for part in axes[0].collections
             for point in np.ma.filled(part.get_offsets())]
    colours = [figures.COLOURS[i].lower() for i in ids]  # none is of class 1, which keeps its place
    assert sorted(found) == sorted(zip(colours, map(tuple, points), strict=True))
    assert len({colour for colour, _ in found[:50]}) == 2
    assert axes[0].get_legend() is None and words(axes[1].get_legend().get_texts()) == TEN[:3]


def test_a_schedule_divides_joint_steps_and_losses_show_steps_and_means():
    schedules = {"joint": [("genre", "sentiment")], "in turn": [("genre",), ("sentiment",)]}
    (axis,) = drawn(task_4_figures.plot_schedule(schedules, "finding"))
    cells = [[(bar.get_x() + 0.5, bar.get_y(), bar.get_height()) for bar in bars]
             for bars in axis.containers]
    np.testing.assert_allclose(cells, [[(1, -0.4, 0.4), (1, 0.6, 0.8)],
                                       [(1, 0, 0.4), (2, 0.6, 0.8)]], atol=1e-9)
    assert words(axis.get_yticklabels()) == ["joint", "in turn"] and axis.yaxis_inverted()
    with pytest.raises(TypeError, match="a tuple of tasks, got 'genre'"):
        task_4_figures.plot_schedule({"joint": [("genre",), "genre"]}, "finding")
    steps, losses = np.array([1, 3, 5, 7]), np.array([4.0, 2.0, 3.0, 1.0])
    curves = {"genre": (steps, losses), "sentiment": (steps[:1], losses[:1])}
    (axis,) = drawn(task_4_figures.plot_losses(curves, "finding", 2, {"genre": 0.5}))
    raw, mean, best, _, short = axis.lines
    assert raw.get_ydata().tolist() == [4, 2, 3, 1] and best.get_ydata() == [0.5, 0.5]
    np.testing.assert_allclose(mean.get_data(), [[2, 4, 6], [3, 2.5, 2]])
    assert short.get_ydata().tolist() == [4] and short.get_marker() != mean.get_marker()


def test_confusions_have_true_rows_counts_and_shares_of_each_row():
    counts, few = np.array([[1012, 4, 3], [2, 5, 1], [0, 0, 0]]), np.array([[1, 3], [0, 2]])
    matrices = {"all": (counts, TEN[:3]), "few": (few, ["no", "yes"]), "new": (few, ["no", "yes"])}
    axes = drawn(task_4_figures.plot_confusions(matrices, "finding"))
    assert len(axes) == 3 and not axes[0].images[0].get_array()[2].any()  # blue never occurs
    assert words(axes[1].texts) == ["1\n25%", "3\n75%", "0\n0%", "2\n100%"]
    assert [text.get_position() for text in axes[1].texts] == [(0, 0), (1, 0), (0, 1), (1, 1)]
    with pytest.raises(ValueError, match=r"'all' has 2 classes, got \(3, 3\)"):
        task_4_figures.plot_confusions({"all": (counts, ["no", "yes"])}, "finding")


def test_reliability_stands_where_its_numbers_say():
    probabilities = np.array([[0.9, 0.1]] * 6 + [[0.35, 0.65]] * 2)
    curves = {"before": reliability([0, 0, 0, 1, 1, 1, 1, 1], probabilities)}
    above, below = drawn(task_4_figures.plot_reliability(curves, "finding"))
    np.testing.assert_allclose(above.lines[-1].get_xydata(), [[0.65, 1], [0.9, 0.5]])
    assert [bar.get_height() for bar in below.patches] == [0] * 6 + [2, 0, 6, 0]


def test_figures_of_records_show_each_row_once():
    ladder = drawn(task_4_figures.plot_ladder("finding"))
    assert [len(axis.patches) for axis in ladder] == [4, 6]
    assert ladder[1].patches[-1].get_width() == pytest.approx(100 * task_4.human())
    rows = task_4.compared()
    for axis, task in zip(drawn(task_4_figures.plot_gains("finding")), LABELS, strict=True):
        found = [bar[0].get_xdata()[0] / 100 for bar in axis.containers]
        assert found == pytest.approx([gain(task, *pairs[task]).value for pairs in rows.values()])
    axes = drawn(task_4_figures.plot_rates("finding"))
    assert [words(axis.texts) for axis in axes] == [["alone", "joint", "alternating"]] * 2


def test_similarity_is_drawn_for_the_arms_that_are_recorded(monkeypatch):
    made = [{"config": {"arm": "published"}, "stsb": {"reporting": 0.8}}]
    for arm, stsb, score in (("base", 0.6, 0.8), ("kept-1", 0.79, 0.81), ("layers-3", 0.7, 0.7)):
        found = {task: {"macro_f1": score} for task in LABELS}
        made.append({"config": {"arm": arm}, "stsb": {"reporting": stsb}, "test": found})
    for row in made:
        row |= {"neighbours_kept": 0.25, "separation": 5.0}
    monkeypatch.setattr(similarity_table, "records", lambda: made)
    (axis,) = drawn(task_4_figures.plot_similarity("finding"))
    line = next(line for line in axis.lines if len(line.get_xdata()) == 2
                and line.get_linestyle() == "-")
    np.testing.assert_allclose(line.get_xydata(), [[80, 60], [81, 79]])
    assert {"sorting alone", "weight 1"} < set(words(axis.texts))


def test_many_classes_curves_and_tasks_differ_and_are_legible():
    assert len({tuple(figures.style(i).values()) for i in range(64)}) == 64
    points, ids = np.random.default_rng(0).normal(size=(200, 2)), np.arange(200) % 10
    drawn(figures.plot_maps([[("ten", points, ids, TEN)] * 2], "finding", "component"))
    drawn(task_4_figures.plot_losses({name: (ids, points[:, 0]) for name in TEN}, "finding"))
    cosines = {name: [0.1 * i, 0.05 * i] for i, name in enumerate(TEN)}
    (axis,) = drawn(figures.plot_pairs({"A": cosines}, "finding"))
    bars = [c.get_segments()[0][0][1] for c in axis.collections if hasattr(c, "get_segments")]
    assert bars == pytest.approx([0.075 * i for i in range(10)])  # each at its mean
    drawn(task_4_figures.plot_confusions({"twenty": (np.eye(20, dtype=int), 2 * TEN)}, "finding"))
    (axis,) = drawn(task_4_figures.plot_schedule({"a": [(name,) for name in TEN]}, "finding"))
    assert len({(bars[0].get_facecolor(), bars[0].get_hatch()) for bars in axis.containers}) == 10


def test_a_busy_figure_takes_few_bytes_in_a_notebook_and_keeps_its_colours():
    figure, ((axis,),) = figures.new_figure()
    for index, colour in enumerate(figures.COLOURS):  # bands over bands
        values = np.random.default_rng(index).normal(0, 0.1, size=11).cumsum()
        axis.fill_between(range(11), values - 0.3, values + 0.3, alpha=0.15, color=colour)
        axis.plot(values, color=colour, marker="o", markersize=4, linewidth=1.2)
    png = figure._repr_png_()
    shown = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).reshape(-1, 3).astype(int)
    for colour in figures.COLOURS:
        assert np.abs(shown - 255 * np.array(to_rgb(colour))).max(axis=1).min() < 4, colour
    assert len(png) < 40_000
