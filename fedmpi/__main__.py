"""``python -m fedmpi`` is ``fedmpi``."""

import sys

from fedmpi.cli.main import main

sys.exit(main())
