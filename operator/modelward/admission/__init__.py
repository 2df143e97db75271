"""The admission server: refuses with every reason at once, and puts the sidecar into pods."""

import sys

# httpx imports its own command line where rich and click are installed, as they are for `modelward`: a third of the
# time that this server takes to start, and 4 MiB. It takes an ImportError here for "not installed".
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
