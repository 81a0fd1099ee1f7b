"""Lives that Hypothesis draws from a seed, and shrinks where something was lost."""

import contextlib
import itertools
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from unittest import mock

import hypothesis
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st
from hypothesis.internal.conjecture import engine

from tests.chaos.faults import BETWEEN, ENDING, INSIDE, live
from tests.chaos.lives import SPACES, Fault, Life, Outcome, References, Tried

_SHRINKING_SECONDS = 240
"""A life takes half a minute, and what depends on instants does not always fail again."""
_INSTANTS = (2, 1, 5, 9, 0, -1)


def _faults(kinds: Sequence[str], instants: Sequence[int] = _INSTANTS) -> st.SearchStrategy[Fault]:
    return st.builds(Fault, st.sampled_from(kinds), st.sampled_from(instants), st.integers(0, 300), st.integers(1, 60))


_ROUND = st.tuples(
    st.lists(_faults(INSIDE, _INSTANTS[:5]), max_size=3),
    _faults(ENDING).map(lambda fault: [fault]),
    st.lists(_faults(BETWEEN), max_size=3),
).map(lambda parts: tuple(itertools.chain(*parts)))
"""Processes die while the driver lives; the driver ends; what it left is damaged, or it goes on otherwise."""


def lives(is_real: bool) -> st.SearchStrategy[Life]:
    """A space, and up to four rounds of faults."""
    faults = st.lists(_ROUND, max_size=4).map(lambda rounds: tuple(itertools.chain(*rounds)))
    return st.builds(Life, st.sampled_from(list(SPACES)), st.just(is_real), faults, st.just(True))


def draw(seed: str, is_real: bool, count: int) -> Callable[[Path, References], Outcome]:
    """Lives that the seed decides, as one outcome. Where one fails, its smallest version is named in the problems."""

    def live_all(folder: Path, references: References) -> Outcome:
        tried: list[Tried] = []
        failed: list[tuple[Life, list[str]]] = []

        @hypothesis.seed(seed)
        @hypothesis.settings(
            max_examples=count + 1,  # the first has no fault, and is not lived
            database=None,
            deadline=None,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
            report_multiple_bugs=False,
            print_blob=False,
        )
        @hypothesis.given(lives(is_real))
        def one(life: Life) -> None:
            if not life.faults:
                return
            place = folder / "life"
            try:
                outcome = live(life, place, references)
            except Exception as error:
                outcome = Outcome(
                    [Tried("a life that could not be judged", is_real)], [f"{type(error).__name__}: {error}"]
                )
            finally:
                shutil.rmtree(place, ignore_errors=True)
            print(f"  {told(life)}: {outcome.problems or 'survived'}", flush=True)
            if not failed:
                tried.extend(outcome.tried)
            if outcome.problems:
                failed.append((life, outcome.problems))
                raise AssertionError(outcome.problems)

        # What fails may pass the second time, which Hypothesis reports as another error: both are in `failed`.
        with mock.patch.object(engine, "MAX_SHRINKING_SECONDS", _SHRINKING_SECONDS), contextlib.suppress(Exception):
            one()
        if not failed:
            return Outcome(tried, [])
        life, problems = min(failed, key=lambda one: len(one[0].faults))
        return Outcome(tried, [f"seed {seed!r}: `--life '{told(life)}'`: {problem}" for problem in problems])

    return live_all


def told(life: Life) -> str:
    """A life as `--life` takes it."""
    return json.dumps(life)
