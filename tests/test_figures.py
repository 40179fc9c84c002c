"""What a figure promises: its finding as title, blank masked cells, fixed colors, and a text twin for every view."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex

from shared.figures import COLORS, SIZE, attention_view, bars, heatmap, lines, losses, token_view


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def test_masked_and_infinite_cells_of_a_heatmap_are_blank():
    scores = torch.zeros(3, 3).masked_fill(torch.ones(3, 3, dtype=torch.bool).triu(1), -torch.inf)
    mask = torch.tensor([[True] * 3, [True, False, True], [True] * 3])
    shown = heatmap(scores, title="blank", mask=mask).images[0].get_array()
    assert shown.mask.tolist() == [[False, True, True], [False, True, True], [False, False, False]]


def test_a_heatmap_has_the_courses_size_map_and_title():
    ax = heatmap(np.eye(3), title="The finding", rows="abc", columns="abc", unit="weight")
    assert ax.get_title(loc="left") == "The finding" and tuple(ax.figure.get_size_inches()) == SIZE
    assert ax.images[0].get_cmap().name == "cividis"


def test_a_heatmap_wants_one_matrix():
    with pytest.raises(ValueError, match="2 dimensions, found 3"):
        heatmap(torch.zeros(2, 3, 3), title="too many")


def test_train_is_blue_and_validation_dashed_vermilion():
    history = SimpleNamespace(steps=[1, 2, 3], losses=[3.0, 2.0, 1.0], val_steps=[2, 3], val_losses=[2.5, 1.5])
    drawn = {line.get_label(): line for line in losses(history, title="falls", floor=0.9).lines}
    assert to_hex(drawn["train"].get_color()).upper() == COLORS["train"] == "#0072B2"
    assert to_hex(drawn["validation"].get_color()).upper() == COLORS["validation"] == "#D55E00"
    assert drawn["validation"].get_linestyle() == "--" and drawn["train"].get_linestyle() == "-"


def test_the_running_mean_stands_at_the_step_where_it_is_known():
    history = SimpleNamespace(
        steps=list(range(1, 11)), losses=[float(k) for k in range(1, 11)], val_steps=[], val_losses=[]
    )
    train = losses(history, title="mean", smooth=4).lines[0]
    assert train.get_xdata()[0] == 4 and train.get_ydata()[0] == pytest.approx(2.5)


@pytest.mark.parametrize(("level", "side"), [(1.0, "bottom"), (1.9, "top"), (2.5, "bottom")])
def test_the_name_of_a_level_stands_below_it_when_the_curve_ends_just_above(level, side):
    history = SimpleNamespace(steps=[1, 2, 3], losses=[8.0, 4.0, 2.0], val_steps=[], val_losses=[])
    assert losses(history, title="t", references={"trigram": level}).texts[0].get_va() == side


def test_bars_write_their_values():
    ax = bars({"bigram": 3.25, "GPT": 1.5}, title="shorter is better", xlabel="bits", errors={"GPT": (1.4, 1.6)})
    assert [text.get_text().strip() for text in ax.texts] == ["3.25", "1.50"]


def test_a_heatmap_marks_the_spaces_of_tokens_and_leaves_those_of_names():
    ax = heatmap([[1.0, 2.0]], rows=["block 1"], columns=[" cat", "\n"], title="t")
    assert [label.get_text() for label in [*ax.get_yticklabels(), *ax.get_xticklabels()]] == ["block 1", "·cat", "↵"]


def test_lines_take_curves_with_and_without_x():
    ax = lines({"a": [1, 2], "b": ([0, 5], torch.tensor([3.0, 4.0]))}, title="t", xlabel="x", ylabel="y", log="y")
    assert ax.lines[1].get_xdata().tolist() == [0, 5] and ax.get_yscale() == "log"


def test_a_token_view_has_a_text_twin_and_escapes_what_it_shows():
    view = token_view(["<b>", " cat", "\n"], [0.5, 1.0, 2.0], title="loss", unit="nats")
    assert repr(view) == "loss\n<b> 0.50  ·cat 1.00  ↵ 2.00"
    html = view._repr_html_()
    assert "&lt;b&gt;" in html and "<b>" not in html and "<script" not in html and "2.00 nats" in html


def test_a_token_view_wants_a_value_for_each_token():
    with pytest.raises(ValueError, match="2 tokens came with 3 values"):
        token_view(["a", "b"], [1, 2, 3])


def test_on_every_shade_a_token_can_be_read():
    def light(color: str) -> float:
        parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return sum(share * part for share, part in zip((0.2126, 0.7152, 0.0722), linear))

    html = token_view(["x"] * 101, torch.linspace(0, 1, 101))._repr_html_()
    pairs = re.findall(r"background:(#\w{6});color:(#\w{3});", html)
    assert len({ground for ground, _ in pairs}) > 90
    for ground, ink in pairs:
        less, more = sorted([light(ground), light(ink[0] + "".join(2 * letter for letter in ink[1:]))])
        assert (more + 0.05) / (less + 0.05) >= 4.5, ground


def test_an_attention_view_tells_in_words_where_each_token_looks():
    weights = torch.tensor([[1.0, 0.0], [0.25, 0.75]])
    view = attention_view(["The", " cat"], weights, title="looks")
    assert repr(view) == "looks\n1 ·cat -> head 0: ·cat 0.75, The 0.25\n0 The -> head 0: The 1.00"
    assert re.findall(r"<details( open)?><summary>(\d)", view._repr_html_()) == [(" open", "1"), ("", "0")]


def test_an_attention_view_wants_the_right_shape():
    with pytest.raises(ValueError, match=r"expected \(heads, T, T\)"):
        attention_view(["a"], torch.zeros(2, 2))
