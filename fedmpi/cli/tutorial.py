"""The tutorial on real MNIST: federated averaging of softmax regression, each number next to the published one.

    fedmpi tutorial
    mpirun -n 3 fedmpi tutorial --plot pictures

runs fedmpi/tutorial.py.  Published are the numbers of TensorFlow Federated's tutorial "Custom Federated Algorithms,
Part 2: Implementing Federated Averaging"; the exit code is 1 if one of them, or a type, differs.  They belong to its
data, batches and clients: with other ones there is nothing to compare with.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from fedmpi.cli import published
from fedmpi.cli.errors import UsageError
from fedmpi.cli.output import Progress, write
from fedmpi.cli.run import add_log, open_log
from fedmpi.local.jit.debugging import compiler_problem

if TYPE_CHECKING:
    from fedmpi.data import Mnist
    from fedmpi.runtime.mpi.comm import Communicator

SUMMARY = "the tutorial on real MNIST, its numbers next to the published ones"
STEPS_BESIDE_ROUNDS = 13
NAME_WIDTH = max(len(name) for name in published.NUMBERS) + 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command to its parser."""
    parser.add_argument(
        "--rounds",
        type=_at_least(1),
        default=published.ROUNDS,
        metavar="N",
        help="rounds of federated training (default: %(default)s)",
    )
    parser.add_argument(
        "--batch-size",
        type=_at_least(1),
        default=published.BATCH_SIZE,
        metavar="N",
        help="examples in a batch (default: %(default)s)",
    )
    parser.add_argument(
        "--clients",
        type=_at_least(10),
        default=published.CLIENTS,
        metavar="K",
        help="clients, at least 10; digit d goes to the clients d, d + 10, ... (default: %(default)s)",
    )
    parser.add_argument(
        "--data",
        metavar="FOLDER",
        help="train and test on all of MNIST, read from its four IDX files (gzipped or not) in this folder; "
        "default: the tutorial's 1,000 images of each digit, which are in the package",
    )
    parser.add_argument(
        "--plot",
        metavar="DIR",
        help="write sample_digit.png and loss_curve.png into this folder, which is made if it is missing",
    )
    add_log(parser)


def _at_least(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least:
            raise argparse.ArgumentTypeError(f"expected a whole number, at least {least}, found {text!r}")
        return value

    return number


def run(options: argparse.Namespace) -> int:
    """Run the tutorial on the ranks of this job; raises CommandError if something is missing, damaged or different."""
    from fedmpi.cli.agreement import agree
    from fedmpi.runtime.mpi.comm import Communicator

    comm = Communicator.open()
    server = comm.is_server
    agree(comm, open_log(options), UsageError)
    agree(comm, _prepare_plot(options.plot) if server else "")
    mnist, problem = _read(options.data)
    agree(comm, problem)
    assert mnist is not None
    train, test = _clients(mnist, options)
    agree(comm, compiler_problem())
    agree(comm, "" if train[0] and train[5] else f"{mnist.source}: expected training images of the digits 0 and 5")

    from fedmpi import tutorial

    if server:
        _write_setting(comm, mnist.source, train, test, options)
    wrong = _compare_types(tutorial) if server else []
    with _observed(tutorial, "federated_train", hashed=server) as training:
        numbers = _compute(tutorial, train, test, options, training, shown=server)
    problem = ""
    if server:
        wrong += _write_verdict(numbers, comparable(options))
        _write_times(training.seconds, comm.size)
        problem = _plot(options, train, numbers) if options.plot is not None else ""
    agree(comm, "\n".join(filter(None, [_difference(wrong), problem])))
    return 0


def comparable(options: argparse.Namespace) -> bool:
    """Tell whether published numbers belong to these options; other numbers of rounds only add some without."""
    tutorial = options.batch_size == published.BATCH_SIZE and options.clients == published.CLIENTS
    return tutorial and options.data is None


def _read(folder: str | None) -> tuple[Mnist | None, str]:
    """Return the images, or what is wrong with them."""
    from fedmpi.data import mnist

    try:
        return mnist(folder), ""
    except (ValueError, OSError) as error:
        return None, str(error)


def _clients(mnist: Mnist, options: argparse.Namespace) -> tuple[Any, Any]:
    from fedmpi.data import by_digit

    examples = 1000 if options.data is None else None
    train, test = (by_digit(part, examples, options.batch_size, options.clients) for part in (mnist.train, mnist.test))
    return train, test


def _write_setting(comm: Communicator, source: str, train: Any, test: Any, options: argparse.Namespace) -> None:
    counts = [sum(len(batch["y"]) for batches in clients for batch in batches) for clients in (train, test)]
    alone = "which is the server and hosts the clients" if comm.size == 1 else "rank 0 is the server"
    write(f"fedmpi tutorial on {comm.size} {'rank' if comm.size == 1 else 'ranks'}, {alone}")
    write(f"data: {source}")
    write(
        f"{options.clients} clients, {counts[0]:,} training and {counts[1]:,} test images, "
        f"batches of {options.batch_size}\n"
    )


def _compare_types(tutorial: ModuleType) -> list[str]:
    """Print the tutorial's types; return the names of those that are not the published ones."""
    different = []
    write("types")
    for name, expected in published.TYPES.items():
        defined = getattr(tutorial, name)
        found = str(getattr(defined, "type_signature", defined))
        write(f"  {name}: {found}")
        if found != expected:
            different.append(name)
            write(f"  {'published':>{len(name)}}: {expected}")
    total = len(published.TYPES)
    write(f"{total - len(different)} of {total} types equal the published ones")
    return different


def _compute(
    tutorial: ModuleType, train: Any, test: Any, options: argparse.Namespace, training: Training, *, shown: bool
) -> dict[str, float]:
    """Run the tutorial's steps and return what they yield by name; empty on ranks other than the server."""
    numbers: dict[str, float] = {}
    total = STEPS_BESIDE_ROUNDS + options.rounds
    progress = Progress(total, shown=shown)
    if shown:
        write(heading(comparable(options)))
    progress.show(0)
    steps = itertools.chain(tutorial.local_steps(train), tutorial.federated_steps(train, test, options.rounds))
    for name, number in steps:
        if shown:
            numbers[name] = float(number)
            progress.clear()
            write(row(name, number, comparable(options), training.model if name.startswith("round ") else ""))
            progress.show(len(numbers))
    progress.clear()
    return numbers


def heading(compared: bool) -> str:
    """Return the line above the numbers."""
    columns = f"{'published':>20}{'rel. difference':>17}" if compared else ""
    return f"\n{'numbers':<{NAME_WIDTH + 2}}{'fedmpi':>11}{columns}{'model (sha256)':>18}"


def row(name: str, number: Any, compared: bool, model: str = "") -> str:
    """Return the line of one number: its name, as few digits as tell it from its neighbours, the published one.

    ``model`` is the hash of the model that a round of training gave.
    """
    text = f"  {name:<{NAME_WIDTH}}{number!s:>11}"
    if compared and name in published.NUMBERS:
        expected = published.NUMBERS[name]
        text += f"{expected!s:>20}{relative_difference(float(number), expected):>17.1e}"
    elif compared:
        text += f"{'-':>20}{'-':>17}"
    return f"{text}  {model}" if model else text


def relative_difference(number: float, expected: float) -> float:
    """Return |number - expected| / |expected|."""
    return abs(number - expected) / abs(expected)


def _write_verdict(numbers: dict[str, float], compared: bool) -> list[str]:
    """Print how many numbers agree with the published ones; return the names of the others."""
    if not compared:
        write("\nThe published numbers belong to other data, batches or clients, and are left out.")
        return []
    differences = {
        name: relative_difference(number, published.NUMBERS[name])
        for name, number in numbers.items()
        if name in published.NUMBERS
    }
    wrong = [name for name, difference in differences.items() if not difference <= published.TOLERANCE]  # NaN is wrong
    agreeing = len(differences) - len(wrong)
    write(
        f"\n{agreeing} of {len(differences)} numbers agree with the published ones within {published.TOLERANCE:.0e}"
        f" (relative); the largest difference is {max(differences.values()):.1e}"
    )
    return wrong


def _write_times(seconds: list[float], ranks: int) -> None:
    """Print the time of a round of training; the first compiles or loads code."""
    text = f"training: {1e3 * seconds[0]:.1f} ms for the first round"
    if len(seconds) > 1:
        text += f", then {1e3 * statistics.median(seconds[1:]):.1f} ms a round (median)"
    write(f"{text}, on {ranks} {'rank' if ranks == 1 else 'ranks'}")


def _difference(wrong: list[str]) -> str:
    return f"not as published: {'; '.join(wrong)}" if wrong else ""


@dataclass
class Training:
    """What is known of the rounds of training: the seconds of each, the hash of the last one's model."""

    seconds: list[float] = field(default_factory=list)
    model: str = ""


@contextlib.contextmanager
def _observed(module: ModuleType, name: str, *, hashed: bool) -> Iterator[Training]:
    """Let the module's computation note the seconds, and the hash of the result, of each call in what this gives."""
    from fedmpi.runtime import watch

    computation, training = getattr(module, name), Training()

    def observed(*args: Any) -> Any:
        started = time.perf_counter()
        result = computation(*args)
        training.seconds.append(time.perf_counter() - started)
        if hashed:
            training.model = watch.sha256(result, computation.type_signature.result)[: watch.HEX_DIGITS]
        return result

    setattr(module, name, observed)
    try:
        yield training
    finally:
        setattr(module, name, computation)


def _prepare_plot(folder: str | None) -> str:
    """Make the folder and load matplotlib; return what is in the way, before an hour of training is spent."""
    if folder is None:
        return ""
    try:
        from fedmpi.cli import pictures  # noqa: F401
    except ImportError as error:
        return f'--plot needs matplotlib ({error}); install it with  pip install "fedmpi[plot]"'
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        probe = Path(folder, ".fedmpi-probe")
        probe.touch()
        probe.unlink()
    except OSError as error:
        return f"--plot {folder}: {error.strerror or error}"
    return ""


def _plot(options: argparse.Namespace, train: Any, numbers: dict[str, float]) -> str:
    """Write the pictures and print where they are; return what is in the way."""
    from fedmpi.cli import pictures

    folder = Path(options.plot)
    sample = train[5][-1]
    try:
        written = [
            pictures.sample_digit(folder, sample["x"][-1].reshape(28, 28), int(sample["y"][-1])),
            pictures.loss_curve(folder, numbers, options.rounds, published.NUMBERS if comparable(options) else {}),
        ]
    except OSError as error:
        return f"--plot {folder}: {error.strerror or error}"
    for path in written:
        write(f"wrote {path}")
    return ""
