"""The course's figures: one style, one size, colors that keep their meaning, and views of tokens in plain HTML.

The title of a figure is its finding. Colors are those of Okabe and Ito (2008), told apart with any kind of color
vision; matrices use `cividis`. Views need no JavaScript and carry a text twin, which terminals and readers aloud show.
"""

import html
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes

SIZE = (7.0, 3.6)  # inches, every figure
COLORS = {
    "train": "#0072B2",  # blue
    "validation": "#D55E00",  # vermilion, always dashed
    "q": "#0072B2",
    "k": "#E69F00",  # orange
    "v": "#009E73",  # green
    "floor": "#000000",
    "baseline": "#999999",
    "accent": "#CC79A7",  # purple, what the sentence below the figure points at
    "light": "#56B4E9",  # sky blue
    "yellow": "#F0E442",
}
_CYCLE = ["#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#000000"]
_STYLE: Any = {  # matplotlib's stubs ask for each name as a type of its own
    "figure.figsize": SIZE,
    "figure.dpi": 100,
    "figure.constrained_layout.use": True,
    "axes.prop_cycle": plt.cycler(color=_CYCLE),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 12,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.grid": True,
    "grid.color": "#E5E5E5",
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "font.size": 10,
    "image.cmap": "cividis",
    "legend.frameon": False,
    "lines.linewidth": 2.0,
    "svg.hashsalt": "course",
}


def use_style() -> None:
    """Give every following figure the course's size, colors and grid."""
    plt.rcParams.update(_STYLE)


def new_axes(title: str, xlabel: str = "", ylabel: str = "", columns: int = 1) -> Any:
    """Open a figure of the course's size and return its axes (an array of them when there are several columns).

    Args:
        title: the finding, in one short sentence.
        xlabel: what the horizontal axis counts, with its unit.
        ylabel: what the vertical axis counts, with its unit.
        columns: number of axes side by side; with several, `title` stands above them all.
    """
    use_style()
    figure, axes = plt.subplots(1, columns, figsize=SIZE, squeeze=False)
    if columns > 1:
        figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=12)
    else:
        axes[0, 0].set_title(title)
    for ax in axes[0]:
        ax.set(xlabel=xlabel, ylabel=ylabel)
    return axes[0] if columns > 1 else axes[0, 0]


def heatmap(
    matrix: Any,
    *,
    title: str,
    rows: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    xlabel: str = "",
    ylabel: str = "",
    mask: Any = None,
    numbers: bool | None = None,
    limits: tuple[float, float] | None = None,
    unit: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Draw a matrix in `cividis`; masked and non-finite cells stay blank.

    Args:
        matrix: (rows, columns) numbers.
        title: the finding.
        rows: labels down the side, for instance the tokens that read.
        columns: labels along the bottom, for instance the tokens that are read.
        mask: (rows, columns), True where a cell is shown; None shows all that are finite.
        numbers: write the value into each cell; None does so for up to 64 cells.
        limits: values of the darkest and the brightest color; None takes the smallest and largest shown.
        unit: label of the color bar, left out when empty.
        ax: axes to draw into; None opens a figure.

    Shape:
        matrix (R, C) -> the axes it was drawn into.
    """
    values = _array(matrix).astype(float)
    if values.ndim != 2:
        raise ValueError(f"heatmap draws a matrix of 2 dimensions, found {values.ndim}: pick one head or one batch row")
    # a masked score is -inf: a color for it would stretch the scale until nothing else can be told apart
    shown = np.isfinite(values) if mask is None else _array(mask).astype(bool) & np.isfinite(values)
    values = np.ma.masked_array(values, ~shown)
    ax = new_axes(title) if ax is None else ax
    low, high = limits if limits else (None, None)
    image = ax.imshow(values, cmap="cividis", vmin=low, vmax=high, aspect="equal")
    ax.set(title=title, xlabel=xlabel, ylabel=ylabel)
    ax.grid(False)
    _label_cells(ax, rows, columns)
    if numbers if numbers is not None else values.size <= 64:
        _write_numbers(ax, values, image)
    if unit:
        ax.figure.colorbar(image, ax=ax, label=unit)
    return ax


def _label_cells(ax: Axes, rows: Sequence[str] | None, columns: Sequence[str] | None) -> None:
    if columns is not None:
        turned = max(map(len, columns), default=0) > 3
        columns = [_visible(label) for label in columns]
        ax.set_xticks(range(len(columns)), columns, rotation=60 if turned else 0, ha="right" if turned else "center")
    if rows is not None:
        ax.set_yticks(range(len(rows)), [_visible(label) for label in rows])


def _write_numbers(ax: Axes, values: np.ma.MaskedArray, image: Any) -> None:
    for (row, column), value in np.ndenumerate(values):
        if value is np.ma.masked or np.ma.getmaskarray(values)[row, column]:
            continue
        ink = "black" if image.norm(value) > 0.55 else "white"
        label = f"{value:,.0f}" if abs(value) >= 10 else f"{value:.2g}"
        ax.text(column, row, label, ha="center", va="center", color=ink, fontsize=9)


def lines(
    series: Mapping[str, Any],
    *,
    title: str,
    xlabel: str,
    ylabel: str,
    colors: Mapping[str, str] | None = None,
    log: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Draw one curve a name.

    Args:
        series: name -> y values, or name -> (x values, y values). The names "train" and "validation" get their colors.
        title: the finding.
        xlabel: quantity and unit.
        ylabel: quantity and unit.
        colors: name -> a color or a key of `COLORS`, where another than the next one is meant.
        log: "x", "y" or "xy" for logarithmic axes.
        ax: axes to draw into; None opens a figure.
    """
    ax = new_axes(title) if ax is None else ax
    chosen = {**{name: COLORS[name] for name in ("train", "validation")}, **(colors or {})}
    for name, values in series.items():
        x, y = values if isinstance(values, tuple) else (range(len(values)), values)
        # a name without a color of its own takes the next of matplotlib's cycle
        style: dict[str, Any] = {"color": COLORS.get(chosen[name], chosen[name])} if name in chosen else {}
        ax.plot(_array(x), _array(y), label=name, linestyle="--" if name == "validation" else "-", **style)
    ax.set(title=title, xlabel=xlabel, ylabel=ylabel)
    if "x" in log:
        ax.set_xscale("log")
    if "y" in log:
        ax.set_yscale("log")
    if len(series) > 1:
        ax.legend()
    return ax


def losses(
    history: Any,
    *,
    title: str,
    floor: float | None = None,
    references: Mapping[str, float] | None = None,
    ylabel: str = "loss (nats per token)",
    smooth: int | None = None,
    scale: float = 1.0,
    ax: Axes | None = None,
) -> Axes:
    """Draw a training: train blue, validation vermilion and dashed, the floor and other references as level lines.

    Args:
        history: what `train` returned: lists `steps`, `losses`, `val_steps`, `val_losses`.
        title: the finding.
        floor: the best loss any model could reach, in the axis's unit.
        references: name -> loss of another model, for instance a bigram's, in the axis's unit.
        ylabel: quantity and unit.
        smooth: steps of the running mean of the training loss; None takes one percent of them.
        scale: factor from nats per token to the axis's unit.
        ax: axes to draw into; None opens a figure.
    """
    ax = new_axes(title) if ax is None else ax
    steps, values = _array(history.steps), _array(history.losses) * scale
    width = smooth if smooth is not None else max(1, len(values) // 100)
    ax.plot(steps[width - 1 :], _running_mean(values, width), color=COLORS["train"], label="train")
    if len(history.val_steps):
        at, heights = _array(history.val_steps), _array(history.val_losses) * scale
        ax.plot(at, heights, "--o", markersize=4, color=COLORS["validation"], label="validation")
    for name, level in (references or {}).items():
        just_above = 0 < values[-1] - level < 0.1 * np.ptp(values)  # the curve ends where the name would stand
        _level(ax, level, name, COLORS["baseline"], "-", below=just_above)
    if floor is not None:
        _level(ax, floor, "floor: what no model can beat", COLORS["floor"], ":", below=True)
    ax.set(title=title, xlabel="step", ylabel=ylabel)
    ax.margins(y=0.09)
    ax.legend()
    return ax


def _level(ax: Axes, height: float, name: str, color: str, style: str, below: bool = False) -> None:
    ax.axhline(height, color=color, linestyle=style, linewidth=1.4)
    place: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
    side: dict[str, Any] = {"xytext": (0, -3), "va": "top"} if below else {"xytext": (0, 3), "va": "bottom"}
    ax.annotate(name, (0.995, height), ha="right", fontsize=9, color="#444444", **side, **place)


def _running_mean(values: np.ndarray, width: int) -> np.ndarray:
    if width <= 1 or len(values) < width:
        return values
    return np.convolve(values, np.ones(width) / width, mode="valid")


def bars(
    values: Mapping[str, float],
    *,
    title: str,
    xlabel: str,
    errors: Mapping[str, tuple[float, float]] | None = None,
    colors: Mapping[str, str] | None = None,
    reference: tuple[str, float] | None = None,
    digits: int = 2,
    ax: Axes | None = None,
) -> Axes:
    """Draw one horizontal bar a name, its value written at its end.

    Args:
        values: name -> length.
        title: the finding.
        xlabel: quantity and unit.
        errors: name -> (lower end, upper end) of an interval around the value.
        colors: name -> a color or a key of `COLORS`; the others are blue.
        reference: (name, value) of an upright line to compare with.
        digits: decimals of the written values.
        ax: axes to draw into; None opens a figure.
    """
    ax = new_axes(title) if ax is None else ax
    names = list(values)
    shades = [(colors or {}).get(name, "train") for name in names]
    ax.barh(names, [values[n] for n in names], height=0.65, color=[COLORS.get(shade, shade) for shade in shades])
    for row, name in enumerate(names):
        # the number is written behind the end of the interval
        low, high = (errors or {}).get(name, (values[name], values[name]))
        if errors and name in errors:
            ax.plot([low, high], [row, row], color="#000000", linewidth=1.5)
        ax.annotate(f" {values[name]:,.{digits}f}", (max(high, values[name], 0), row), va="center", fontsize=9)
    if reference:
        ax.axvline(reference[1], color=COLORS["floor"], linestyle=":", linewidth=1.4, label=reference[0])
        ax.legend(loc="best")
    ax.invert_yaxis()  # the first name on top, as one reads
    ax.grid(axis="y", visible=False)
    ax.margins(x=0.12)
    ax.set(title=title, xlabel=xlabel)
    return ax


class View:
    """A view in plain HTML with a text twin: notebooks show the one, terminals and readers aloud the other."""

    def __init__(self, html_text: str, text: str):
        self.html, self.text = html_text, text

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return self.text


def token_view(tokens: Sequence[str], values: Any = None, *, title: str = "", unit: str = "", digits: int = 2) -> View:
    """Show a text cut into its tokens, each on its own ground; with values, the brighter the higher.

    Args:
        tokens: the pieces of text, in order; spaces are drawn as a small dot, line ends as a turned arrow.
        values: one number a token (a loss, a weight), or None to tell neighbors apart by two grays.
        title: a line above.
        unit: unit of the values.
        digits: decimals of the values in the text twin.
    """
    tokens = list(tokens)
    numbers = None if values is None else _array(values).astype(float)
    if numbers is not None and len(numbers) != len(tokens):
        raise ValueError(f"{len(tokens)} tokens came with {len(numbers)} values; give one value a token")
    grounds = ["#E8E8E8" if i % 2 else "#CFE3F2" for i in range(len(tokens))] if numbers is None else _shades(numbers)
    notes = [str(i) if numbers is None else f"{numbers[i]:.{digits}f} {unit}".strip() for i in range(len(tokens))]
    spans = "".join(_span(*row) for row in zip(tokens, grounds, notes))
    head = f"<div style='font-weight:bold'>{html.escape(title)}</div>" if title else ""
    if numbers is None:
        twin = " | ".join(map(_visible, tokens))
    else:
        twin = "  ".join(f"{_visible(token)} {value:.{digits}f}" for token, value in zip(tokens, numbers))
    return View(f"<div style='{_BOX}'>{head}{spans}</div>", f"{title}\n{twin}" if title else twin)


def attention_view(tokens: Sequence[str], weights: Any, *, title: str = "", heads: Sequence[str] | None = None) -> View:
    """Show where each token looks: open a token to see the sentence shaded by its attention weights, a line a head.

    The last token, which reads all others, comes first and is open.

    Args:
        tokens: the pieces of text, T of them.
        weights: (T, T) or (H, T, T) attention weights, the first of the two T axes reads.
        title: a line above.
        heads: names of the heads; None numbers them.
    """
    maps = _array(weights).astype(float)
    maps = maps[None] if maps.ndim == 2 else maps
    if maps.shape[1:] != (len(tokens), len(tokens)):
        raise ValueError(f"{len(tokens)} tokens came with weights of shape {maps.shape}; expected (heads, T, T)")
    names = list(heads) if heads is not None else [f"head {h}" for h in range(len(maps))]
    parts, twin = [], []
    for t, token in sorted(enumerate(tokens), key=lambda pair: pair[0] != len(tokens) - 1):
        rows = "".join(
            f"<div><small style='color:#444'>{html.escape(name)}</small> {_attention_row(tokens, head[t], t)}</div>"
            for name, head in zip(names, maps)
        )
        opened = " open" if t == len(tokens) - 1 else ""
        parts.append(f"<details{opened}><summary>{t} <b>{html.escape(_visible(token))}</b></summary>{rows}</details>")
        looks = "; ".join(f"{name}: {_most(tokens, head[t])}" for name, head in zip(names, maps))
        twin.append(f"{t} {_visible(token)} -> {looks}")
    head_line = f"<div style='font-weight:bold'>{html.escape(title)}</div>" if title else ""
    text = "\n".join(([title] if title else []) + twin)
    return View(f"<div style='{_BOX}'>{head_line}{''.join(parts)}</div>", text)


_BOX = "font-family:monospace;line-height:1.9;max-width:60em"


def _attention_row(tokens: Sequence[str], weights: np.ndarray, reader: int) -> str:
    grounds = _shades(weights, 0.0, max(float(weights.max()), 1e-9))
    spans = (_span(*row) for row in zip(tokens, grounds, (f"{w:.2f}" for w in weights)))
    return "".join(span for t, span in enumerate(spans) if t <= reader or weights[t] > 0)


def _most(tokens: Sequence[str], weights: np.ndarray, k: int = 3) -> str:
    best = sorted(range(len(weights)), key=lambda i: (-round(float(weights[i]), 2), i))[:k]
    return ", ".join(f"{_visible(tokens[i])} {weights[i]:.2f}" for i in best if weights[i] >= 0.005)


def _shades(values: np.ndarray, low: float | None = None, high: float | None = None) -> list[str]:
    low = float(np.nanmin(values)) if low is None else low
    high = float(np.nanmax(values)) if high is None else high
    span = (high - low) or 1.0
    levels = [(float(v) - low) / span if np.isfinite(v) else 0.0 for v in values]
    rgb = [colormaps["cividis"](round(level, 2))[:3] for level in levels]
    return ["#" + "".join(f"{round(255 * c):02x}" for c in color) for color in rgb]


def _span(token: str, ground: str, note: str) -> str:
    red, green, blue = (int(ground[i : i + 2], 16) for i in (1, 3, 5))
    ink = "#000" if 0.299 * red + 0.587 * green + 0.114 * blue > 118.5 else "#fff"  # the one that stands out more
    style = f"background:{ground};color:{ink};padding:2px 3px;margin:1px;border-radius:3px;white-space:pre"
    return f"<span style='{style}' title='{html.escape(note, quote=True)}'>{html.escape(_visible(token))}</span><wbr>"


def _visible(token: str) -> str:
    """Mark the spaces at the ends, where tokens have them; "block 1" keeps its own."""
    return re.sub(r"^ +| +$", lambda spaces: "·" * len(spaces[0]), token).replace("\n", "↵")


def _array(values: Any) -> np.ndarray:
    if isinstance(values, torch.Tensor):
        return values.detach().cpu().float().numpy() if values.dtype != torch.bool else values.cpu().numpy()
    if isinstance(values, (list, tuple)) and values and isinstance(values[0], torch.Tensor):
        return np.array([float(v) for v in values])
    return np.asarray(values if isinstance(values, (np.ndarray, np.ma.MaskedArray)) else list(values))
