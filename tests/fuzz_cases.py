"""What all fuzz tests share: how many cases, and which errors are ours."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings
from jaxtyping import TypeCheckError

OURS = (ValueError, TypeError, OSError)
fuzz = settings(
    max_examples=int(os.environ.get("FUZZ_CASES", "100")),  # take thousands before a release
    derandomize="FUZZ_CASES" not in os.environ,  # the same cases each time, new ones on request
    suppress_health_check=[HealthCheck.too_slow],
)


def attempt(work):
    """What came of it; None where an error of ours came, with a message for a person.

    Shapes and types in signatures are checked while tests run, ahead of our own checks.
    """
    message = "checked by jaxtyping"
    try:
        return work()
    except TypeCheckError:
        pass
    except OURS as error:
        message = str(error)
    assert 5 < len(message) < 3000
    return None
