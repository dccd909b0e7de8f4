"""Each figure function: what it draws for known values, and with a class or a gradient missing."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from mtl_helpers import plots

LABELS = ["red", "green", "blue"]


def drawn(figure: Figure, title: str) -> list:
    """The axes of a figure that can be drawn and carries its title."""
    assert isinstance(figure, Figure)
    figure.canvas.draw()
    assert figure.get_suptitle() == title
    return figure.axes


def legend(axis) -> list[str]:
    return [text.get_text() for text in axis.get_legend().get_texts()]


def texts(axis) -> list[str]:
    return [text.get_text() for text in axis.texts]


def ticks(axis, which: str) -> list[str]:
    return [label.get_text() for label in getattr(axis, f"get_{which}ticklabels")()]


def test_colours_and_markers_are_as_many_and_all_different() -> None:
    assert len(set(plots.COLOURS)) == len(set(plots.MARKERS)) == 8


def test_new_figure_has_the_grid_asked_for_and_one_width() -> None:
    figure, axes = plots.new_figure(2, 3, height=2.0)
    assert axes.shape == (2, 3)
    assert tuple(figure.get_size_inches()) == (7.2, 4.0)
    assert not axes[1, 2].spines["top"].get_visible()


def test_scatter_classes_draws_each_point_once_under_its_class() -> None:
    points, ids = np.random.default_rng(0).normal(size=(30, 2)), np.arange(30) % 3
    axis = plots.new_figure()[1][0, 0]
    plots.scatter_classes(axis, points, ids, LABELS)
    assert [collection.get_label() for collection in axis.collections] == LABELS
    for index, collection in enumerate(axis.collections):
        found = {tuple(point) for point in np.asarray(collection.get_offsets())}
        assert found == {tuple(point) for point in points[ids == index]}
        assert to_hex(collection.get_facecolor()[0]) == plots.COLOURS[index].lower()


def test_scatter_classes_keeps_colours_and_legend_when_a_class_is_missing() -> None:
    axis = plots.new_figure()[1][0, 0]
    plots.scatter_classes(axis, np.ones((4, 2)), np.array([0, 2, 2, 0]), LABELS)
    sizes = [len(collection.get_offsets()) for collection in axis.collections]
    assert sizes == [2, 0, 2]
    assert to_hex(axis.collections[2].get_facecolor()[0]) == plots.COLOURS[2].lower()


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
