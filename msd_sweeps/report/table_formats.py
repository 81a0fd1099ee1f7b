"""A table of texts in every format: terminal, Markdown, HTML, LaTeX."""

import textwrap
from dataclasses import dataclass, field

from msd_sweeps.report.escaping import for_html, for_latex, for_markdown, short


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

    def markdown(self) -> str:
        """The table in Markdown, notes below it."""
        lines = [
            "| " + " | ".join(map(for_markdown, self.columns)) + " |",
            "|" + "|".join("---:" if number else "---" for number in self.numeric) + "|",
        ]
        for index, row in enumerate(self.rows):
            texts = [
                f"**{for_markdown(text)}**" if (index, place) in self.bold else for_markdown(text)
                for place, text in enumerate(row)
            ]
            lines.append("| " + " | ".join(texts) + " |")
        return "\n".join(lines + [""] * bool(self.notes) + [for_markdown(note) + "  " for note in self.notes])

    def html(self) -> str:
        """The table in HTML, notes below it."""
        kinds = ["n" if number else "t" for number in self.numeric]
        head = "".join(
            f'<th scope="col" class="{kind}">{for_html(name)}</th>'
            for kind, name in zip(kinds, self.columns, strict=True)
        )
        body = []
        for index, row in enumerate(self.rows):
            cells = []
            for place, (kind, text) in enumerate(zip(kinds, row, strict=True)):
                shown = for_html(text)
                if kind == "n":
                    # A narrow screen may break an interval off its mean, but neither in two.
                    for words in (" ± ", " of ", ", "):
                        shown = shown.replace(words, words.replace(" ", "&nbsp;"))
                shown = f"<b>{shown}</b>" if (index, place) in self.bold else shown
                cells.append(f'<th scope="row">{shown}</th>' if place == 0 else f'<td class="{kind}">{shown}</td>')
            body.append(f"<tr>{''.join(cells)}</tr>")
        notes = "".join(f"<p class='note'>{for_html(note)}</p>" for note in self.notes)
        rows = "\n".join(body)
        table = f"<table><thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody></table>"
        return f'<div class="wide">{table}</div>\n{notes}'

    def latex(self) -> str:
        """A booktabs tabular to \\input; it needs no package but booktabs."""
        spec = "".join("r" if number else "l" for number in self.numeric)
        lines = [
            "% needs \\usepackage{booktabs} and \\usepackage[T1]{fontenc}",
            f"\\begin{{tabular}}{{{spec}}}",
            "\\toprule",
            " & ".join(map(for_latex, self.columns)) + r" \\",
            "\\midrule",
        ]
        for index, row in enumerate(self.rows):
            texts = [
                f"\\textbf{{{for_latex(text)}}}" if (index, place) in self.bold else for_latex(text)
                for place, text in enumerate(row)
            ]
            # A row that begins with [ would be read as an option of the row before.
            lines.append("{}" * texts[0].startswith("[") + " & ".join(texts) + r" \\")
        lines += ["\\bottomrule", "\\end{tabular}"]
        lines += [f"% {for_latex(note)}" for note in self.notes]
        return "\n".join(lines)

    def text(self, width: int = 100) -> str:
        """The table in plain text, notes below it; the first column gives way where the width is short."""
        others = [max(len(row[place]) for row in [self.columns, *self.rows]) for place in range(1, len(self.columns))]
        first = max(len(row[0]) for row in [self.columns, *self.rows])
        first = max(12, min(first, width - sum(others) - 2 * len(others)))
        lines = []
        for row in [self.columns, *self.rows]:
            texts = [short(row[0], first).ljust(first)]
            for text, wide, number in zip(row[1:], others, self.numeric[1:], strict=True):
                texts.append(text.rjust(wide) if number else text.ljust(wide))
            lines.append("  ".join(texts).rstrip())
        lines.insert(1, "-" * min(width, max(map(len, lines))))
        for note in self.notes:
            lines += textwrap.wrap(note, width, subsequent_indent="  ")
        return "\n".join(lines)
