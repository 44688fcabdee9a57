"""What is reported: a figure, its yardstick, their ratio, and what was to be reached."""

from __future__ import annotations

import dataclasses
import statistics
from dataclasses import dataclass
from typing import Any, Literal

NAME_WIDTH = 58


@dataclass(frozen=True)
class Times:
    """The repeats of one measurement, in seconds (or another unit that its row names)."""

    samples: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle of the repeats."""
        return statistics.median(self.samples)

    @property
    def minimum(self) -> float:
        """The repeat that was disturbed least."""
        return min(self.samples)

    def scaled(self, factor: float) -> Times:
        """Return every repeat times `factor`."""
        return Times(tuple(sample * factor for sample in self.samples))

    def minus(self, other: Times) -> Times:
        """Return the differences of repeats made one right after the other."""
        return Times(tuple(a - b for a, b in zip(self.samples, other.samples, strict=True)))


@dataclass(frozen=True)
class Target:
    """What is to be reached on two cores.

    At most `limit` is to be the ratio, the figure, or what the figure has beyond the yardstick ("excess"); a "speedup"
    is to be at least that.  `then` is the next aim, once the first is reached.
    """

    limit: float
    of: Literal["ratio", "figure", "excess", "speedup"] = "ratio"
    then: float | None = None

    def met(self, figure: float, yardstick: float) -> bool:
        """Tell whether it is reached."""
        if self.of == "speedup":
            return figure * self.limit <= yardstick
        found = {"ratio": figure / yardstick, "figure": figure, "excess": figure - yardstick}[self.of]
        return found <= self.limit

    def text(self, unit: str) -> str:
        """Return it as it is printed."""
        if self.of == "speedup":
            return f">= {self.limit:g}x faster"
        limit = f"{self.limit:g}" if self.of == "ratio" else quantity(self.limit, unit)
        beyond = " beyond it" if self.of == "excess" else ""
        return f"<= {limit}{beyond}" + ("" if self.then is None else f" (then {self.then:g})")


@dataclass(frozen=True)
class Row:
    """One line of the report.

    `ratio` is figure over yardstick: of the medians, or of the minima where `by` says so.  `difference` is the largest
    relative difference between what the two sides have computed, None where they do not compute the same.
    """

    group: str
    name: str
    setting: str
    figure: Times
    against: str
    yardstick: Times
    target: Target | None = None
    unit: Literal["s", "B", "1"] = "s"
    by: Literal["median", "minimum"] = "median"
    difference: float | None = None
    slowly: tuple[str, ...] = ()  # what ran client by client, unasked

    @property
    def value(self) -> float:
        """The figure as one number."""
        return float(getattr(self.figure, self.by))

    @property
    def base(self) -> float:
        """The yardstick as one number."""
        return float(getattr(self.yardstick, self.by))

    @property
    def ratio(self) -> float:
        """Figure over yardstick."""
        return self.value / self.base

    @property
    def met(self) -> bool | None:
        """Whether the target is reached; None without one."""
        return None if self.target is None else self.target.met(self.value, self.base)

    def as_json(self) -> dict[str, Any]:
        """Return everything about the row: its numbers, the repeats of both sides, the target."""
        times = {
            side: {"median": part.median, "minimum": part.minimum, "repeats": list(part.samples)}
            for side, part in (("figure", self.figure), ("yardstick", self.yardstick))
        }
        return {
            "group": self.group,
            "name": self.name,
            "setting": self.setting,
            "unit": self.unit,
            "against": self.against,
            **times,
            "ratio": self.ratio,
            "ratio_of": f"{self.by}s".replace("minimums", "minima"),
            "target": None if self.target is None else dataclasses.asdict(self.target),
            "met": self.met,
            "difference": self.difference,
            "slowly": list(self.slowly),
        }

    def lines(self) -> list[str]:
        """Return the row as it is printed."""
        ratio = f"{1 / self.ratio:.2f}x faster" if self.target and self.target.of == "speedup" else f"{self.ratio:.2f}"
        first = f"  {self.name:<{NAME_WIDTH}}{quantity(self.value, self.unit):>11}"
        first += f"{quantity(self.base, self.unit):>11}{ratio:>14}"
        if self.target is not None:
            first += f"   {self.target.text(self.unit)}: {'reached' if self.met else 'missed'}"
        details = [f"against {self.against}"]
        details += ["minima of repeats"] if self.by == "minimum" else []
        details += [] if self.difference is None else [f"results differ by {self.difference:.0e}"]
        return [first, *(f"      {text}" for text in (self.setting, "; ".join(details), *self.slowly))]


HEADING = f"{'':{NAME_WIDTH + 2}}{'figure':>11}{'yardstick':>11}{'ratio':>14}   target on two cores"


def quantity(value: float, unit: str) -> str:
    """Return a number with its unit: seconds as s, ms or us, bytes with a decimal prefix."""
    if unit == "1":
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    scales = [(1.0, "s"), (1e-3, "ms"), (1e-6, "us")] if unit == "s" else [(1e9, "GB"), (1e6, "MB"), (1e3, "kB")]
    for scale, name in scales:
        if abs(value) >= scale:
            return f"{value / scale:.3g} {name}"
    return f"{value / 1e-6:.2g} us" if unit == "s" else f"{value:.3g} B"
