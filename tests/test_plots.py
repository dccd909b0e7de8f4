"""Each figure function: what it draws for known values, and with a class or a gradient missing."""

from __future__ import annotations

import io
from itertools import combinations

import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from PIL import Image

from mtl_helpers import plots
from mtl_helpers.calibration import reliability

LABELS = ["red", "green", "blue"]
GENRES = ["movie review", "product review", "news editorial", "tweet"]


def drawn(figure: Figure, title: str) -> list:
    """The axes of a figure that can be drawn and carries its title."""
    assert isinstance(figure, Figure)
    figure.draw_without_rendering()  # the canvas of a plain figure draws nothing
    assert figure.get_suptitle() == title
    return figure.axes


def legend(axis) -> list[str]:
    return [text.get_text() for text in axis.get_legend().get_texts()]


def texts(axis) -> list[str]:
    return [text.get_text() for text in axis.texts]


def ticks(axis, which: str) -> list[str]:
    return [label.get_text() for label in getattr(axis, f"get_{which}ticklabels")()]


def assert_legible(figure: Figure) -> None:
    """No two pieces of text touch, all lie within the figure, and none is below 8 points."""
    shown = [figure._suptitle]
    for axis in figure.axes:
        shown += [axis.title, axis.xaxis.label, axis.yaxis.label, *axis.texts]
        shown += axis.get_legend().get_texts() if axis.get_legend() else []
        for side, (low, high) in ((axis.xaxis, axis.get_xlim()), (axis.yaxis, axis.get_ylim())):
            shown += [tick.label1 for tick in side.get_major_ticks()
                      if min(low, high) <= tick.get_loc() <= max(low, high)]
    shown = [text for text in shown if text.get_text()]
    boxes = {id(text): text.get_window_extent() for text in shown}
    for text in shown:
        box = boxes[id(text)]
        assert text.get_fontsize() >= 8, text
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 + 1, text
        assert figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1 + 1, text
    for one, other in combinations(shown, 2):
        assert not boxes[id(one)].overlaps(boxes[id(other)]), (one, other)


def test_colours_markers_and_hatches_are_as_many_and_all_different() -> None:
    assert len(set(plots.COLOURS)) == len(set(plots.MARKERS)) == len(set(plots.HATCHES)) == 8


def test_new_figure_has_the_grid_asked_for_and_one_width() -> None:
    figure, axes = plots.new_figure(2, 3, height=2.0)
    assert axes.shape == (2, 3)
    assert tuple(figure.get_size_inches()) == (7.2, 4.0)
    assert not axes[1, 2].spines["top"].get_visible()


def test_scatter_classes_draws_each_point_once_in_its_colour_and_no_class_on_top() -> None:
    points, ids = np.random.default_rng(0).normal(size=(300, 2)), np.arange(300) % 3
    axis = plots.new_figure()[1][0, 0]
    plots.scatter_classes(axis, points, ids, LABELS)
    assert axis.get_legend_handles_labels()[1] == LABELS
    colours = [plots.COLOURS[index].lower() for index in range(3)]
    drawn_points, order = [], []
    for collection in axis.collections:
        offsets = np.ma.filled(collection.get_offsets())
        index = colours.index(to_hex(collection.get_facecolor()[0]))
        drawn_points += [(index, *point) for point in offsets]
        order += [index] * len(offsets)
    assert sorted(drawn_points) == sorted((i, *p) for i, p in zip(ids, points, strict=True))
    assert set(order[:50]) == set(order[-50:]) == {0, 1, 2}


def test_scatter_classes_keeps_colours_and_legend_when_a_class_is_missing() -> None:
    axis = plots.new_figure()[1][0, 0]
    plots.scatter_classes(axis, np.ones((4, 2)), np.array([0, 2, 2, 0]), LABELS)
    handles, names = axis.get_legend_handles_labels()
    assert names == LABELS
    assert to_hex(handles[2].get_facecolor()[0]) == plots.COLOURS[2].lower()


def test_plot_maps_has_a_panel_a_map_and_a_legend_a_task_in_each_row() -> None:
    points, ids = np.zeros((6, 2)), np.arange(6) % 3
    row = [("one", points, ids, LABELS), ("two", points, ids, LABELS),
           ("three", points, ids % 2, ["yes", "no"])]
    axes = drawn(plots.plot_maps([row, row], "finding", "component"), "finding")
    assert [axis.get_title() for axis in axes] == ["one", "two", "three"] * 2
    assert axes[0].get_xlabel() == "component 1" and axes[0].get_ylabel() == "component 2"
    assert [axis.get_legend() is None for axis in axes[:3]] == [True, False, False]
    assert legend(axes[1]) == LABELS and legend(axes[2]) == ["yes", "no"]


def test_plot_maps_refuses_rows_of_different_length() -> None:
    one = ("one", np.zeros((2, 2)), np.array([0, 1]), LABELS)
    with pytest.raises(ValueError, match="zip"):
        plots.plot_maps([[one, one], [one]], "finding", "component")


def test_plot_cosines_writes_every_cosine_in_its_place() -> None:
    cosines = np.array([[1.0, 0.25], [-0.5, 1.0]])
    axes = drawn(plots.plot_cosines(cosines, ["first", "second"], "finding"), "finding")
    assert texts(axes[0]) == ["1.00", "0.25", "-0.50", "1.00"]
    assert [text.get_color() for text in axes[0].texts] == ["black", "white", "white", "black"]
    assert ticks(axes[0], "y") == ["first", "second"] and ticks(axes[0], "x") == ["1", "2"]
    assert axes[0].images[0].get_clim() == (-0.5, 1)
    assert axes[1].get_ylabel() == "cosine"


def test_plot_pairs_draws_points_and_a_bar_at_each_mean() -> None:
    cosines = {"A": {"same": [0.8, 1.0], "other": [0.0, 0.1]},
               "B": {"same": [0.5, 0.7], "other": [0.3, 0.3]}}
    (axis,) = drawn(plots.plot_pairs(cosines, "finding"), "finding")
    assert legend(axis) == ["same", "other"] and ticks(axis, "x") == ["A", "B"]
    bars = [c.get_segments()[0] for c in axis.collections if hasattr(c, "get_segments")]
    assert [float(bar[0][1]) for bar in bars] == pytest.approx([0.9, 0.05, 0.6, 0.3])
    points = [c for c in axis.collections if not hasattr(c, "get_segments")]
    assert [len(c.get_offsets()) for c in points] == [2, 2, 2, 2]


def test_plot_gradients_says_where_there_is_no_gradient() -> None:
    norms = np.array([[1.0, 2.0], [0.0, 0.5]])
    figure = plots.plot_gradients(norms, ["encoder", "head"], ["one", "two"], "finding")
    axes = drawn(figure, "finding")
    assert texts(axes[0]) == ["1.00", "2.00", "none", "0.50"]
    colours = [text.get_color() for text in axes[0].texts]
    assert colours == ["white", "black", "black", "white"]
    assert axes[0].images[0].get_array().mask.tolist() == [[False, False], [True, False]]
    assert ticks(axes[0], "y") == ["encoder", "head"] and ticks(axes[0], "x") == ["one", "two"]
    assert axes[1].get_ylabel() == "norm of the gradient"


def test_plot_series_shows_means_and_two_standard_errors() -> None:
    series = {"A": np.array([[1.0, 0.0], [3.0, 0.0]]), "B": np.array([[5.0, 2.0], [5.0, 4.0]])}
    figure = plots.plot_series(series, ["here", "there"], ["place", "value"], "finding")
    (axis,) = drawn(figure, "finding")
    assert legend(axis) == ["A", "B"] and ticks(axis, "x") == ["here", "there"]
    assert axis.get_xlabel() == "place" and axis.get_ylabel() == "value"
    means = [container[0].get_ydata().tolist() for container in axis.containers]
    assert means == [[2.0, 0.0], [5.0, 3.0]]
    bars = [container[2][0].get_segments() for container in axis.containers]
    ends = [[float(end[1]) for end in bar] for found in bars for bar in found]
    np.testing.assert_allclose(ends, [[0, 4], [0, 0], [5, 5], [1, 5]])
    places = [container[0].get_xdata() for container in axis.containers]
    assert not np.isin(*places).any()  # the series stand side by side


def test_plot_series_refuses_places_without_a_name() -> None:
    with pytest.raises(ValueError, match="same size"):
        plots.plot_series({"A": np.zeros((2, 3))}, ["here"], ["place", "value"], "finding")


def test_plot_schedule_colours_each_step_and_divides_joint_ones() -> None:
    schedules = {"joint": [("genre", "sentiment")] * 2,
                 "in turn": [("genre",), ("sentiment",), ("genre",)]}
    figure = plots.plot_schedule(schedules, "finding")
    (axis,) = drawn(figure, "finding")
    assert legend(axis) == ["genre", "sentiment"] and ticks(axis, "y") == ["joint", "in turn"]
    assert axis.get_xlabel() == "step" and axis.yaxis_inverted()
    cells = {container.get_label(): [(bar.get_x() + 0.5, bar.get_y(), bar.get_height())
                                     for bar in container] for container in axis.containers}
    upper, lower = (pytest.approx(cell) for cell in ((1, -0.4, 0.4), (1, 0.0, 0.4)))
    assert cells["genre"][0] == upper and cells["sentiment"][0] == lower
    assert cells["genre"][2:] == [pytest.approx((step, 0.6, 0.8)) for step in (1, 3)]
    assert cells["sentiment"][2:] == [pytest.approx((2, 0.6, 0.8))]
    bars = [container[0] for container in axis.containers]
    assert bars[0].get_hatch() != bars[1].get_hatch()
    assert_legible(figure)


def test_plot_schedule_refuses_a_task_that_is_not_in_a_tuple() -> None:
    with pytest.raises(TypeError, match="tuple of tasks for each step, got 'genre'"):
        plots.plot_schedule({"joint": [("genre",), "genre"]}, "finding")


def test_plot_losses_draws_steps_means_and_floors() -> None:
    steps, losses = np.array([1, 3, 5, 7]), np.array([4.0, 2.0, 3.0, 1.0])
    figure = plots.plot_losses({"genre": (steps, losses), "sentiment": (steps[:1], losses[:1])},
                               "finding", smooth=2, floors={"genre": 0.5})
    (axis,) = drawn(figure, "finding")
    raw, mean, floor, *other = axis.lines
    assert raw.get_xdata().tolist() == steps.tolist() and raw.get_ydata().tolist() == [4, 2, 3, 1]
    assert raw.get_alpha() < 0.5
    np.testing.assert_allclose(mean.get_data(), [[2, 4, 6], [3, 2.5, 2]])
    assert floor.get_ydata() == [0.5, 0.5] and floor.get_linestyle() != "-"
    assert len(other) == 2 and other[1].get_ydata().tolist() == [4]  # fewer steps than `smooth`
    assert other[1].get_marker() != mean.get_marker()
    assert legend(axis) == ["genre, mean of 2 steps", "genre, best possible 0.50",
                            "sentiment, mean of 1 steps"]
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("step", "cross-entropy (nats)")
    assert axis.get_ylim()[0] == 0
    assert_legible(figure)


@pytest.mark.parametrize(("wrong", "message"), [
    ({"smooth": 0}, "smooth must be at least 1, got 0"),
    ({"floors": {"topic": 0.5}}, r"tasks of curves, got \['topic'\]"),
    ({"curves": {"genre": (np.array([]), np.array([]))}}, "a step for each task.*'genre'"),
])
def test_plot_losses_refuses_what_it_cannot_draw(wrong: dict, message: str) -> None:
    curves = {"genre": (np.arange(3), np.ones(3))}
    with pytest.raises(ValueError, match=message):
        plots.plot_losses(**{"curves": curves, "title": "finding", **wrong})


def test_plot_confusions_has_true_rows_counts_and_shares_of_each_row() -> None:
    counts = np.array([[1012, 40, 5, 3], [61, 290, 10, 9], [8, 6, 498, 7], [0, 0, 0, 0]])
    few = np.array([[1, 3], [0, 2]])
    matrices = {"genre": (counts, GENRES), "few": (few, ["no", "yes"]), "again": (counts, GENRES)}
    figure = plots.plot_confusions(matrices, "finding")
    axes = drawn(figure, "finding")
    assert [axis.get_title() for axis in axes] == ["genre", "few", "again"]
    np.testing.assert_allclose(axes[1].images[0].get_array(), [[0.25, 0.75], [0, 1]])
    np.testing.assert_array_equal(axes[0].images[0].get_array()[3], 0)  # a class that never occurs
    assert texts(axes[1]) == ["1\n25%", "3\n75%", "0\n0%", "2\n100%"]
    assert texts(axes[0])[0] == "1,012\n95%"
    assert [text.get_position() for text in axes[1].texts] == [(0, 0), (1, 0), (0, 1), (1, 1)]
    assert axes[0].get_xlabel() == "predicted" and axes[0].get_ylabel().startswith("true")
    wrapped = [name.replace(" ", "\n") for name in GENRES]
    assert ticks(axes[0], "x") == ticks(axes[0], "y") == wrapped
    assert_legible(figure)


def test_plot_confusions_refuses_a_class_without_a_name() -> None:
    with pytest.raises(ValueError, match=r"got \(3, 3\) for 2 in 'genre'"):
        plots.plot_confusions({"genre": (np.eye(3, dtype=int), ["no", "yes"])}, "finding")


def test_plot_reliability_draws_the_filled_bins_with_areas_by_count() -> None:
    probabilities = np.array([[0.9, 0.1]] * 6 + [[0.35, 0.65]] * 2)
    curves = {"before": reliability([0, 0, 0, 1, 1, 1, 1, 1], probabilities),
              "after": reliability([0, 0, 0, 0, 0, 1, 1, 0], probabilities)}
    figure = plots.plot_reliability({"genre": curves, "sentiment": curves}, "finding")
    axes = drawn(figure, "finding")
    assert [axis.get_title() for axis in axes] == ["genre", "sentiment"]
    points = [np.asarray(found.get_offsets()) for found in axes[0].collections]
    np.testing.assert_allclose(points, [[[0.65, 1], [0.9, 0.5]], [[0.65, 0.5], [0.9, 5 / 6]]])
    small, large = axes[0].collections[0].get_sizes()
    assert large - small == pytest.approx(300 * (6 - 2) / 8)
    diagonal = axes[0].lines[0]
    assert list(diagonal.get_xdata()) == list(diagonal.get_ydata()) == [0, 1]
    assert legend(axes[1]) == ["calibrated", "before", "after"]
    assert "confidence" in axes[0].get_xlabel() and "accuracy" in axes[0].get_ylabel()
    for low, high in (axes[0].get_xlim(), axes[1].get_ylim()):
        assert low < 0.5 and high > 1  # every point is inside
    assert_legible(figure)


def test_plot_intervals_puts_every_arm_on_its_row_in_every_panel() -> None:
    alone = "one task alone, equal labels"
    panels = {"genre": {"joint": (0.94, 0.93, 0.96), alone: (0.9, 0.9, 0.92)},
              "sentiment": {alone: (0.7, 0.65, 0.72)}}
    references = {"sentiment": {"linear probe": 0.5, "majority": 0.22, "human": 0.52}}
    figure = plots.plot_intervals(panels, "finding", "macro F1", references)
    axes = drawn(figure, "finding")
    assert ticks(axes[0], "y") == ["joint", alone]
    assert axes[0].get_ylim() == axes[1].get_ylim() and axes[0].yaxis_inverted()
    found = [[(c[0].get_xdata()[0], c[0].get_ydata()[0], c[2][0].get_segments()[0][:, 0].tolist())
              for c in axis.containers] for axis in axes]
    assert found == [[(0.94, 0, pytest.approx([0.93, 0.96])), (0.9, 1, pytest.approx([0.9, 0.92]))],
                     [(0.7, 1, pytest.approx([0.65, 0.72]))]]
    assert texts(axes[1]) == ["linear probe 0.5", "majority 0.22", "human 0.52"]
    lines = [line for line in axes[1].lines if line.get_linestyle() in plots.DASHES]
    assert [line.get_xdata()[0] for line in lines] == [0.5, 0.22, 0.52]
    assert [axis.get_xlabel() for axis in axes] == ["macro F1", "macro F1"]
    assert_legible(figure)


def test_plot_intervals_refuses_a_value_outside_its_interval_and_an_unknown_panel() -> None:
    with pytest.raises(ValueError, match="got 0.5, 0.6, 0.7 for 'joint' in 'genre'"):
        plots.plot_intervals({"genre": {"joint": (0.5, 0.6, 0.7)}}, "finding", "macro F1")
    with pytest.raises(ValueError, match=r"references must have panels among \['genre'\]"):
        plots.plot_intervals({"genre": {"joint": (0.6, 0.5, 0.7)}}, "finding", "macro F1",
                             {"topic": {"human": 0.8}})


def test_a_noisy_figure_takes_few_bytes_in_a_notebook() -> None:
    steps = np.arange(2000)
    noise = np.random.default_rng(0).normal(1, 0.1, size=2000)
    assert len(plots.plot_losses({"genre": (steps, noise)}, "finding")._repr_png_()) < 40_000


def test_colours_stay_what_they_are_in_a_notebook() -> None:
    figure, axes = plots.new_figure(1, 2)
    for index, colour in enumerate(plots.COLOURS):  # bands over bands, as in a busy figure
        for axis in axes.flat:
            values = np.random.default_rng(index).normal(0, 0.1, size=11).cumsum()
            axis.fill_between(range(11), values - 0.3, values + 0.3, alpha=0.15, color=colour)
            axis.plot(values, color=colour, marker="o", markersize=4, linewidth=1.2)
    with Image.open(io.BytesIO(figure._repr_png_())) as picture:
        shown = np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3).astype(int), axis=0)
    for colour in plots.COLOURS:
        wanted = 255 * np.array(to_rgb(colour))
        assert np.abs(shown - wanted).max(axis=1).min() < 4, colour
