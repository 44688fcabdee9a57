"""The tutorial's pictures, as PNG files; importing this module needs matplotlib."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

DPI = 150
BLUE, ORANGE, GREY = "#1f5fa8", "#d9730d", "#5f6670"


def sample_digit(folder: Path, image: NDArray[np.float32], label: int) -> Path:
    """Draw one image (float32[28, 28] in 0..1) with its label."""
    figure = Figure(figsize=(4.6, 4.2), layout="constrained")
    axes = figure.add_subplot()
    shown = axes.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_title(f"MNIST: last image of client {label}, a “{label}”", fontsize=11)
    axes.set_xlabel("column (pixels)")
    axes.set_ylabel("row (pixels)")
    axes.set_xticks(range(0, 28, 7))
    axes.set_yticks(range(0, 28, 7))
    bar = figure.colorbar(shown, ax=axes, fraction=0.046)
    bar.set_label("intensity (0 black, 1 white)")
    return _save(figure, folder / "sample_digit.png")


def loss_curve(folder: Path, numbers: Mapping[str, float], rounds: int, published: Mapping[str, float]) -> Path:
    """Draw the loss on the training data after each round, on the test data at both ends, and the published losses.

    `numbers` are those of `fedmpi.tutorial`, by its names.
    """
    figure = Figure(figsize=(7, 4.4), layout="constrained")
    axes = figure.add_subplot()
    names = ["federated_eval(initial_model, train)", *(f"round {n}, loss" for n in range(rounds))]
    marker: dict[str, Any] = {"marker": "o", "markersize": 5} if rounds <= 30 else {}
    axes.plot(range(rounds + 1), [numbers[name] for name in names], color=BLUE, linewidth=2, label="training", **marker)
    ends = ["federated_eval(initial_model, test)", f"federated_eval(model after {rounds} rounds, test)"]
    axes.plot([0, rounds], [numbers[name] for name in ends], "s", color=ORANGE, markersize=5, label="test")
    known = [(n, published[name]) for n, name in enumerate(names) if name in published]
    if known:
        style: dict[str, Any] = {"markersize": 11, "markerfacecolor": "none", "color": GREY}
        axes.plot(*zip(*known, strict=True), "o", label="training, as published", **style)
    axes.set_title("Federated averaging of softmax regression on MNIST", fontsize=12)
    axes.set_xlabel("rounds of training")
    axes.set_ylabel("loss (nats): sum over a client's\nbatches, mean over clients")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return _save(figure, folder / "loss_curve.png")


def _save(figure: Figure, path: Path) -> Path:
    """Write the file whole or not at all."""
    FigureCanvasAgg(figure)
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".png")
    try:
        with os.fdopen(handle, "wb") as file:
            figure.savefig(file, format="png", dpi=DPI)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    return path
