"""The training core: networks, losses, data, the one training loop. It needs torch and pydantic, and no Ray."""

import os

# Threads that wait for each other after a parallel loop spin for a moment, because a step has hundreds of such loops
# and waking up takes longer than most; not for long, because whoever else uses the machine waits meanwhile. Read once,
# by the OpenMP library that torch loads.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
