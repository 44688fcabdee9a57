"""What the tutorial and random programs return, as SHA-256: equal before and after a change that moves code.

    mpiexec -n 3 python -m tests.bits           # one hash of all
    mpiexec -n 3 python -m tests.bits each      # a line for each result, to find the first that differs

The hashes hold for one machine and one NumPy: elementary functions have other last bits elsewhere.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import sys
import tempfile
import warnings
from pathlib import Path

PROGRAMS = 300
COMPILED = 30  # one program in so many runs its clients in compiled loops, which take seconds to compile


def results_of_programs():
    """Run random programs; give the class of the error for each that is refused, None for the others."""
    import numpy as np

    import fedmpi as fm
    from tests.random_programs import program_of

    np.seterr(all="ignore")
    for number in range(PROGRAMS):
        data = np.random.default_rng(number).bytes(150 + number % 500)
        program, argument, clients = program_of(data)
        fm.set_default_context(
            fm.MpiContext(num_clients=clients, fuse=True if number % COMPILED == 0 else None, on_client_error="drop")
        )
        try:
            program(argument)
            yield None
        except (ValueError, OverflowError) as error:
            yield type(error).__name__
    fm.set_default_context(None)


def main():
    """Print the hash of all results, or what is hashed; rank 0 alone."""
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder, "record")
        record.touch()
        os.environ["FEDMPI_RECORD"] = str(record)  # before fedmpi is imported, which reads it once

        from fedmpi import tutorial
        from fedmpi.runtime.watch import is_first

        with contextlib.redirect_stdout(io.StringIO()):
            tutorial.main()
        with record.open() as file:  # what rank 0 adds to it is read piece by piece
            lines = [f"tutorial {json.loads(line)['sha256']}" for line in file.readlines()]
            for number, refused in enumerate(results_of_programs()):
                found = [json.loads(line)["sha256"] for line in file.readlines()]
                lines.append(f"program {number} {refused or ' '.join(found)}")
    if is_first():
        text = "\n".join(lines) + "\n"
        print(text if "each" in sys.argv[1:] else hashlib.sha256(text.encode()).hexdigest(), flush=True)


if __name__ == "__main__":
    main()
