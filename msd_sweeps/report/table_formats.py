"""A table of texts in every format: terminal, Markdown, HTML, LaTeX."""

import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from msd_sweeps.report.escaping import for_html, for_latex, for_markdown, short

Column = tuple[str, bool, Callable[[Any], str]]
"""A title, whether the column aligns to the right as numbers do, and the text of a row in it."""


@dataclass
class Table:
    """A table as shown: texts in rows, and what is to be known about it."""

    columns: list[str]
    rows: list[list[str]]
    numeric: list[bool]
    """Which columns align to the right."""
    bold: set[tuple[int, int]] = field(default_factory=set)
    """Cells (row, column) to emphasise."""
    notes: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, rows: Iterable[Any], columns: Sequence[Column], notes: Iterable[str] = ()) -> Self:
        """The table of some rows, such as the dictionaries of a frame."""
        texts = [[text(row) for _, _, text in columns] for row in rows]
        return cls([title for title, _, _ in columns], texts, [number for _, number, _ in columns], notes=list(notes))

    def _escaped(self, escape: Callable[[str], str], emphasise: Callable[[str], str]) -> Iterator[list[str]]:
        for index, row in enumerate(self.rows):
            texts = map(escape, row)
            yield [emphasise(text) if (index, at) in self.bold else text for at, text in enumerate(texts)]

    def markdown(self) -> str:
        """The table in Markdown, notes below it."""
        rows = [list(map(for_markdown, self.columns)), *self._escaped(for_markdown, "**{}**".format)]
        lines = [f"| {' | '.join(texts)} |" for texts in rows]
        lines.insert(1, f"|{'|'.join('---:' if number else '---' for number in self.numeric)}|")
        return "\n".join(lines + [""] * bool(self.notes) + [for_markdown(note) + "  " for note in self.notes])

    def html(self) -> str:
        """The table in HTML, notes below it."""
        kinds = ["n" if number else "t" for number in self.numeric]
        titles = zip(kinds, map(for_html, self.columns), strict=True)
        head = "".join(f'<th scope="col" class="{kind}">{title}</th>' for kind, title in titles)
        rows = []
        for first, *others in self._escaped(for_html, "<b>{}</b>".format):
            cells = [f'<th scope="row">{first}</th>']
            for kind, text in zip(kinds[1:], others, strict=True):
                if kind == "n":
                    # A narrow screen may break an interval off its mean, but neither in two.
                    for words in (" ± ", " of ", ", "):
                        text = text.replace(words, words.replace(" ", "&nbsp;"))
                cells.append(f'<td class="{kind}">{text}</td>')
            rows.append(f"<tr>{''.join(cells)}</tr>")
        notes = "".join(f"<p class='note'>{for_html(note)}</p>" for note in self.notes)
        body = "\n".join(rows)
        table = f"<table><thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table>"
        return f'<div class="wide">{table}</div>\n{notes}'

    def latex(self) -> str:
        """A booktabs tabular to \\input; it needs no package but booktabs."""
        spec = "".join("r" if number else "l" for number in self.numeric)
        lines = ["% needs \\usepackage{booktabs} and \\usepackage[T1]{fontenc}", f"\\begin{{tabular}}{{{spec}}}"]
        lines += ["\\toprule", " & ".join(map(for_latex, self.columns)) + r" \\", "\\midrule"]
        for texts in self._escaped(for_latex, "\\textbf{{{}}}".format):
            # A row that begins with [ would be read as an option of the row before.
            lines.append("{}" * texts[0].startswith("[") + " & ".join(texts) + r" \\")
        return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", *(f"% {for_latex(note)}" for note in self.notes)])

    def text(self, width: int = 100) -> str:
        """The table in plain text, notes below it; the first column gives way where the width is short."""
        rows = [self.columns, *self.rows]
        first, *others = (max(map(len, column)) for column in zip(*rows, strict=True))
        first = max(12, min(first, width - sum(others) - 2 * len(others)))
        lines = []
        for row in rows:
            texts = [short(row[0], first).ljust(first)]
            for text, wide, number in zip(row[1:], others, self.numeric[1:], strict=True):
                texts.append(text.rjust(wide) if number else text.ljust(wide))
            lines.append("  ".join(texts).rstrip())
        lines.insert(1, "-" * min(width, max(map(len, lines))))
        for note in self.notes:
            lines += textwrap.wrap(note, width, subsequent_indent="  ")
        return "\n".join(lines)
