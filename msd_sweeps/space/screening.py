"""Screening designs: few cells in which the effect of each of many factors can be told from those of the others.

Every design here is an orthogonal array of strength two: any two factors have each pair of their levels equally often,
so main effects do not disturb each other. What main effects and interactions of two factors share is computed from the
array itself. Sources: Box, Hunter and Hunter, Statistics for Experimenters (2005), chapter 6, for fractions of two
levels; Plackett and Burman (Biometrika 1946); Addelman (Technometrics 1962) for four levels in a fraction of two;
Bose and Bush (Annals of Mathematical Statistics 1952) for two and three levels from difference matrices.
"""

import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

Pair = tuple[int, int]
"""Two factors, by their places; their interaction."""
MOST_LEVELS = 4
_PLACKETT_BURMAN = {12: "++-+++---+-", 20: "++--++++-+-+----++-", 24: "+++++-+-++--++--+-+----"}
"""The first row by the number of cells; the others are its rotations and a row of minus signs."""
_DIFFERENCES = {
    18: "000000 001122 010212 012021 021201 022110",
    36: "000000000000 000011112222 020110221012 012021021021 021112000221 012120102210 "
    "022211120100 002102211120 001202122011 010222010112 021020212101 011201201202",
}
"""Rows of difference matrices over the integers modulo 3, by the cells of the array that they give."""
_BEST_FRACTIONS = {(32, 7): (15, 27), (32, 8): (7, 11, 30), (64, 8): (15, 51)}
"""Generators of fractions with fewer aliases than `_generators` finds, by cells and factors: bits are basic factors."""
_TWO_LEVEL_CELLS = (4, 8, 16, 32, 64)
_THREE_LEVEL_CELLS = (9, 27, 81)


@dataclass(frozen=True)
class Layout:
    """A screening design: the level of each factor in each cell, and what it cannot tell apart."""

    levels: tuple[int, ...]
    """How many levels each factor has."""
    cells: tuple[tuple[int, ...], ...]
    """The place of each factor's level, a row a cell."""

    @functools.cached_property
    def shared(self) -> dict[tuple[int, Pair], float]:
        """By factor and interaction of two others: the share of the interaction that looks like the main effect."""
        main = [self._contrasts(factor) for factor in range(len(self.levels))]
        return {
            (factor, pair): share
            for pair in self._pairs()
            for factor in range(len(self.levels))
            if factor not in pair and (share := _overlap(main[factor], self._products(pair))) > 1e-9
        }

    @functools.cached_property
    def alike(self) -> list[list[Pair]]:
        """The interactions of two factors in groups that share something with each other."""
        products = {pair: self._products(pair) for pair in self._pairs()}
        groups: list[list[Pair]] = []
        for pair in products:
            near = [group for group in groups if any(_overlap(products[one], products[pair]) > 1e-9 for one in group)]
            groups = [group for group in groups if group not in near] + [[one for g in near for one in g] + [pair]]
        return sorted(sorted(group) for group in groups)

    @functools.cached_property
    def estimable(self) -> list[list[Pair]]:
        """Groups of interactions of which the sum can be estimated: apart from all main effects and other groups.

        Their factors have two levels. A group of one is an interaction that the design shows by itself.
        """
        disturbed = {pair for _, pair in self.shared}
        return [
            group
            for group in self.alike
            if not disturbed & set(group)
            and all(self.levels[factor] == 2 for pair in group for factor in pair)
            and all(_overlap(self._products(group[0]), self._products(pair)) > 1 - 1e-9 for pair in group)
        ]

    @property
    def effects(self) -> int:
        """How many effects the design estimates: a main effect for each level beyond the first, and interactions."""
        return sum(self.levels) - len(self.levels) + len(self.estimable)

    @property
    def resolution(self) -> str:
        """III: main effects are aliased with interactions of two factors; IV: these with each other; V: neither."""
        return "III" if self.shared else "IV" if any(len(group) > 1 for group in self.alike) else "V or more"

    def aliases(self, names: Sequence[str]) -> list[str]:
        """What the design cannot tell apart, in lines; names: of the factors."""
        lines = []
        for factor, name in enumerate(names):
            shares = {pair: share for (one, pair), share in self.shared.items() if one == factor}
            whole = [interaction([pair], names) for pair, share in shares.items() if share > 1 - 1e-9]
            if whole:
                lines.append(f"{name} = {' = '.join(whole)}")
            if some := [share for share in shares.values() if share <= 1 - 1e-9]:
                lines.append(f"{name} is mixed with up to {max(some):.0%} of each of {len(some)} interactions")
        lines += [interaction(group, names) for group in self.estimable if len(group) > 1]
        lost = [pair for group in self.alike if group not in self.estimable for pair in group]
        if lost:
            lines.append(f"{len(lost)} of {math.comb(len(names), 2)} interactions of two cannot be estimated")
        return lines

    def _pairs(self) -> Iterator[Pair]:
        return itertools.combinations(range(len(self.levels)), 2)

    def _contrasts(self, factor: int) -> list[list[float]]:
        """Orthogonal contrasts of a factor's levels (Helmert), each with a value a cell and length 1."""
        found = []
        for place in range(1, self.levels[factor]):
            values = [1.0 if row[factor] < place else -place * (row[factor] == place) for row in self.cells]
            found.append(_unit(values))
        return found

    def _products(self, pair: Pair) -> list[list[float]]:
        first, second = map(self._contrasts, pair)
        return [_unit([a * b for a, b in zip(x, y, strict=True)]) for x in first for y in second]


def interaction(group: Sequence[Pair], names: Sequence[str]) -> str:
    """Interactions that are estimated together, `a × b = c × d`."""
    return " = ".join(f"{names[one]} × {names[other]}" for one, other in group)


def _unit(values: list[float]) -> list[float]:
    length = math.sqrt(sum(value * value for value in values))
    return [value / length for value in values] if length else values


def _overlap(ours: list[list[float]], theirs: list[list[float]]) -> float:
    """The share of the second set of contrasts that lies in the space of the first, 0 to 1."""
    return sum(sum(a * b for a, b in zip(x, y, strict=True)) ** 2 for x in ours for y in theirs) / len(theirs)


def lay_out(levels: Sequence[int], cells: int | None = None) -> Layout:
    """The design of factors with so many levels each, in so many cells.

    cells: None for the fewest in which no main effect is aliased with an interaction of two factors, or the fewest
    at all where no design here has that. Raises ValueError that says which numbers of cells there are.
    """
    if unfit := [count for count in levels if not 2 <= count <= MOST_LEVELS]:
        raise ValueError(f"a factor of a screening design has 2 to {MOST_LEVELS} levels, found {unfit[0]}")
    known = {}
    for count in sorted({*_TWO_LEVEL_CELLS, *_THREE_LEVEL_CELLS, *_PLACKETT_BURMAN, *_DIFFERENCES}):
        if (rows := _array(tuple(levels), count)) is not None and len(set(rows)) == count:
            known[count] = Layout(tuple(levels), rows)
    if not known:
        kinds = ", ".join(f"{levels.count(count)} of {count} levels" for count in sorted(set(levels)))
        hint = "at most 63 factors of two levels, some of four instead; or at most 40 of three, with at most 11 of two"
        if math.prod(levels) < 100:
            hint = f"a grid has no more than {math.prod(levels)} cells here: use design: grid"
        raise ValueError(f"no screening design here has {kinds}; {hint}")
    if cells is None:
        clear = [count for count, layout in known.items() if not layout.shared]
        return known[(clear or list(known))[0]]
    if cells not in known:
        raise ValueError(f"{len(levels)} factors do not fit {cells} cells; these fit: {', '.join(map(str, known))}")
    return known[cells]


def _array(levels: tuple[int, ...], cells: int) -> tuple[tuple[int, ...], ...] | None:
    """The rows of an orthogonal array; None where there is none here of this size."""
    kinds = set(levels)
    columns: list[list[int]] | None = None
    if cells in _TWO_LEVEL_CELLS and kinds <= {2, 4}:
        columns = _fraction_of_two(levels, cells)
    elif cells in _THREE_LEVEL_CELLS and kinds == {3}:
        columns = _fraction_of_three(len(levels), cells)
    elif cells in _PLACKETT_BURMAN and kinds == {2} and len(levels) < cells:
        columns = _plackett_burman(len(levels), cells)
    elif cells in _DIFFERENCES and kinds == {2, 3}:
        columns = _mixed(levels, cells)
    return None if columns is None else tuple(zip(*columns, strict=True))


def _plackett_burman(factors: int, cells: int) -> list[list[int]]:
    """Each row is the one before it turned by a cell; the last has every factor at its first level."""
    first = [int(sign == "+") for sign in _PLACKETT_BURMAN[cells]]
    rows = [first[-turn:] + first[:-turn] for turn in range(len(first))] + [[0] * len(first)]
    return [[row[place] for row in rows] for place in range(factors)]


def _fraction_of_two(levels: Sequence[int], cells: int) -> list[list[int]] | None:
    """Each column is a sum modulo 2 of basic factors; a factor of four levels takes two columns and their sum."""
    basic = cells.bit_length() - 1
    wide, factors = levels.count(4), len(levels)
    if 2 * wide > basic:
        return None
    taken = [(1 << 2 * place, 2 << 2 * place) for place in range(wide)]
    words = _generators(basic, factors) if not wide else _beside_four_levels(basic, factors - wide, taken)
    if len(words) < factors - wide:
        return None
    fours, twos = iter(taken), iter(words)

    def column(word: int) -> list[int]:
        return [(cell & word).bit_count() % 2 for cell in range(cells)]

    found = []
    for count in levels:
        if count == 4:
            one, other = next(fours)
            found.append([a + 2 * b for a, b in zip(column(one), column(other), strict=True)])
        else:
            found.append(column(next(twos)))
    return found


def _generators(basic: int, factors: int) -> list[int]:
    """Words for two-level factors, best first: bits are basic factors. factors: how many there are.

    One factor more than basic ones is the product of all. Words with an odd number of bits sum to no other such word,
    so up to half as many factors as cells have resolution IV.
    """
    alone = [1 << place for place in range(basic)]
    if factors == basic + 1:
        return [*alone, (1 << basic) - 1]
    if special := _BEST_FRACTIONS.get((1 << basic, factors)):
        return [*alone, *special]
    return sorted(range(1, 1 << basic), key=lambda word: (word.bit_count() % 2 == 0, word.bit_count(), word))


def _beside_four_levels(basic: int, factors: int, wide: Sequence[Pair]) -> list[int]:
    """Words for two-level factors, each of those left the one that is the sum of the fewest pairs of main effects."""
    effects = [{one, other, one ^ other} for one, other in wide]
    words: list[int] = []
    while len(words) < factors:
        left = [word for word in range(1, 1 << basic) if not any(word in effect for effect in effects)]
        if not left:
            break
        sums = [a ^ b for one, other in itertools.combinations(effects, 2) for a in one for b in other]
        words.append(min(left, key=lambda word: (sums.count(word), word)))
        effects.append({words[-1]})
    return words


def _fraction_of_three(factors: int, cells: int) -> list[list[int]] | None:
    """Each column is a sum modulo 3 of basic factors, of which the first counts once."""
    basic = round(math.log(cells, 3))
    words = [word for word in itertools.product(range(3), repeat=basic) if next((n for n in word if n), 0) == 1]
    words.sort(key=lambda word: (sum(map(bool, word)) % 2 == 0, sum(map(bool, word)), word))
    if factors > len(words):
        return None
    runs = list(itertools.product(range(3), repeat=basic))
    return [[sum(a * b for a, b in zip(word, run, strict=True)) % 3 for run in runs] for word in words[:factors]]


def _mixed(levels: Sequence[int], cells: int) -> list[list[int]] | None:
    """Two levels and three: the rows of a difference matrix, each with 0, 1 and 2 added to it.

    Which row it is makes further factors: 6 rows one of two levels and one of three, 12 rows eleven of two.
    """
    matrix = _DIFFERENCES[cells].split()
    runs = [(place, added) for place in range(len(matrix)) for added in range(3)]
    threes = [[(int(matrix[place][column]) + added) % 3 for place, added in runs] for column in range(len(matrix))]
    if cells == 18:
        twos = [[place // 3 for place, _ in runs]]
        threes.insert(0, [place % 3 for place, _ in runs])
    else:
        twos = [[column[place] for place, _ in runs] for column in _plackett_burman(11, 12)]
    if levels.count(2) > len(twos) or levels.count(3) > len(threes):
        return None
    left = {2: iter(twos), 3: iter(threes)}
    return [next(left[count]) for count in levels]
