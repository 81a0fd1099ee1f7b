"""`python -m msd_sweeps.report NAME`."""

import sys

from msd_sweeps.report.command import main

sys.exit(main())
