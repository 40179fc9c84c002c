"""How many cases a test tries: few at every change, many in a long run (`COURSE_LONG=1`)."""

import os

LONG_RUN = os.environ.get("COURSE_LONG", "") not in ("", "0")


def n(per_change: int, long_run: int) -> int:
    """Return the number of cases for this run: `from tests.sizes import n`."""
    return long_run if LONG_RUN else per_change
