"""The training core: networks, losses, data, the one training loop. It needs torch and pydantic, and no Ray."""

import os

# Threads that spin at the end of a parallel loop slow a machine several times that does anything else; read once, by
# the OpenMP library that torch loads.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
