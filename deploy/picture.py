"""The demo's picture: quality over votes, with the adapter that served at each point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.quality import Quality

INK, SOFT, LINE, BAND = "#1f2933", "#7b8794", "#2563eb", "#93b4f5"


@dataclass(frozen=True)
class Point:
    """One measurement."""

    votes: int  # acknowledged when it was taken
    adapter: str  # what served then: an adapter id or "base"
    quality: Quality
    freshness: float | None = None  # seconds from the wave's last vote until a new adapter was live


def draw(points: Sequence[Point], title: str, file: Path) -> None:
    """Write a PNG of the win rates with their intervals; swaps bear the new adapter's short name."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 5), dpi=160)
    votes = [point.votes for point in points]
    rates = [100 * point.quality.win_rate for point in points]
    axes.fill_between(
        votes,
        [100 * point.quality.lower for point in points],
        [100 * point.quality.upper for point in points],
        color=BAND,
        alpha=0.35,
        linewidth=0,
        label="95 % interval",
    )
    axes.plot(
        votes, rates, color=LINE, linewidth=2.4, marker="o", markersize=7, label="live adapter against base"
    )
    axes.axhline(50, color=SOFT, linewidth=1, linestyle=(0, (4, 4)))
    axes.annotate(
        "base", (votes[-1], 50), xytext=(0, -12), textcoords="offset points", color=SOFT, ha="right"
    )
    before = "base"
    for point, rate in zip(points, rates, strict=True):
        if point.adapter != before:
            axes.axvline(point.votes, color=SOFT, linewidth=0.8, alpha=0.5)
            place = {"xytext": (6, 10), "textcoords": "offset points"}
            axes.annotate(short(point.adapter), (point.votes, rate), color=INK, fontsize=9, **place)
        before = point.adapter
    _dress(axes, title)
    figure.tight_layout()
    figure.savefig(file)
    plt.close(figure)


def _dress(axes: object, title: str) -> None:
    """Titles, limits and a quiet frame."""
    from matplotlib.axes import Axes

    assert isinstance(axes, Axes)  # noqa: S101 - tells the type checker
    axes.set_title(title, loc="left", fontsize=12, color=INK, pad=14)
    axes.set_xlabel("votes given", color=INK)
    axes.set_ylabel("held-out prompts won against the base, %", color=INK)
    axes.set_ylim(30, 100)
    axes.margins(x=0.06)
    axes.grid(axis="y", color="#e4e7eb", linewidth=0.8)
    axes.tick_params(colors=SOFT, length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color("#cbd2d9")
    axes.legend(frameon=False, loc="upper left", labelcolor=INK)


def short(adapter: str) -> str:
    """``a-000012-9f…`` as "v12"; anything else as it is."""
    parts = adapter.split("-")
    return f"v{int(parts[1])}" if len(parts) == 3 and parts[1].isdigit() else adapter
