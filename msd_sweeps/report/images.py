"""Every test image counts: arrays of what was predicted, and statistics over seeds and images."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats as scipy_stats

from msd_sweeps.records.predictions import Predictions, bytes_of
from msd_sweeps.report.stats import Estimate


class Images(NamedTuple):
    """What trials and teachers predicted for the N test images, in the order of the data set."""

    trials: list[str]
    """The ids of the trials, a row each."""
    right: NDArray[np.bool_]
    """Whether each image was classified rightly: [trials, N]."""
    classes: NDArray[np.int64]
    """The predicted class of each image: [trials, N]."""
    teachers: dict[str, NDArray[np.int64]]
    """The classes [N] that each teacher predicted, by its key."""


def images_of(trials: Mapping[str, Predictions], teachers: Mapping[str, Predictions]) -> Images:
    """The arrays of recorded predictions; trials with another number of images than the first have no row."""
    count = next((found["images"] for found in trials.values()), 0)
    kept = {trial: bytes_of(found) for trial, found in trials.items() if found["images"] == count}
    right = [np.unpackbits(np.frombuffer(bits, np.uint8), count=count) for bits, _ in kept.values()]
    classes = [_classes(content) for _, content in kept.values()]
    shape = (len(kept), count)
    of_teachers = {key: _classes(bytes_of(found)[1]) for key, found in teachers.items()}
    return Images(
        list(kept), np.reshape(right, shape).astype(bool), np.reshape(classes, shape).astype(np.int64), of_teachers
    )


def _classes(content: bytes) -> NDArray[np.int64]:
    return np.frombuffer(content, "<u2").astype(np.int64)


def over_seeds_and_images(ours: ArrayLike, theirs: ArrayLike) -> Estimate:
    """The difference of two accuracies in points, for other seeds and other images of the same kind.

    ours, theirs: whether each image was classified rightly, [seeds, images], paired in both. Seeds and images are
    crossed random effects: the variance of the mean of their differences is (MS_seeds + max(MS_images - MS_rest, 0)) /
    (seeds x images), with Hillis' degrees of freedom (Dorfman, Berbaum and Metz 1992; Hillis 2014, Academic Radiology
    21, as for readers and cases). With one seed only the images vary. Raises ValueError for shapes that differ.
    """
    first, second = np.asarray(ours, dtype=float), np.asarray(theirs, dtype=float)
    if first.shape != second.shape or first.ndim != 2:
        raise ValueError(f"expected two arrays [seeds, images] of one shape, got {first.shape} and {second.shape}")
    difference = 100 * (first - second)
    seeds, images = difference.shape
    if seeds == 0 or images < 2:
        return Estimate(math.nan, math.nan, math.nan, seeds, True)
    mean = float(difference.mean())
    of_seeds, of_images = difference.mean(axis=1) - mean, difference.mean(axis=0) - mean
    between_images = seeds * float(of_images @ of_images) / (images - 1)
    if seeds == 1:
        return Estimate(mean, math.sqrt(between_images / images), images - 1, 1, True)
    between_seeds = images * float(of_seeds @ of_seeds) / (seeds - 1)
    rest = difference - mean - of_seeds[:, None] - of_images
    remaining = float((rest**2).sum()) / ((seeds - 1) * (images - 1))
    together = between_seeds + max(0.0, between_images - remaining)
    freedom = together**2 / (between_seeds**2 / (seeds - 1)) if between_seeds else math.inf
    return Estimate(mean, math.sqrt(together / (seeds * images)), freedom, seeds, True)


def mcnemar(ours: ArrayLike, theirs: ArrayLike) -> float:
    """The exact two-sided p of two single models that are right on the images [N] (McNemar 1947; binomial test)."""
    first, second = np.asarray(ours, dtype=bool), np.asarray(theirs, dtype=bool)
    only_ours, only_theirs = int((first & ~second).sum()), int((second & ~first).sum())
    if not only_ours + only_theirs:
        return 1.0
    return float(scipy_stats.binomtest(only_ours, only_ours + only_theirs).pvalue)


def agreement(classes: Sequence[NDArray[np.int64]]) -> float:
    """How often two models predict the same class, in percent: the mean over all pairs; NaN for fewer than two."""
    pairs = [float((one == other).mean()) for one, other in itertools.combinations(classes, 2)]
    return 100 * float(np.mean(pairs)) if pairs else math.nan
