"""``python -m fedmpi.cli`` is the command `fedmpi` where its script is not in the PATH."""

import sys

from fedmpi.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
