"""A report written block by block, in two formats at once: HTML that needs nothing else, and Markdown. Its tables."""

import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from string import Template
from typing import Any

from msd_sweeps.report.escaping import for_html, for_latex, for_markdown, short

Column = tuple[str, bool, str | Callable[[Any], str]]
"""A title, whether the column aligns to the right as numbers do, and the text of a row in it: a function, or the key
of a value that is shown as it is."""


class Table:
    """A table as shown: texts in rows, in every format.

    rows: such as the dictionaries of a frame. notes: lines below the table. bold: cells (row, column) to emphasise.
    """

    def __init__(
        self, rows: Iterable[Any], columns: Sequence[Column], notes: Iterable[str] = (), bold: tuple[int, int] = (-1, 0)
    ) -> None:
        self.columns = [title for title, _, _ in columns]
        self.numeric = [is_number for _, is_number, _ in columns]
        self.rows = [[text(row) if callable(text) else str(row[text]) for *_, text in columns] for row in rows]
        self.notes, self.bold = list(notes), bold

    @classmethod
    def of_pairs(cls, first: str, second: str, pairs: Iterable[tuple[str, str]]) -> "Table":
        """Two columns of words."""
        return cls(pairs, [(first, False, lambda pair: pair[0]), (second, False, lambda pair: pair[1])])

    def _escaped(self, escape: Callable[[str], str], emphasise: Callable[[str], str]) -> Iterator[list[str]]:
        for index, row in enumerate(self.rows):
            texts = map(escape, row)
            yield [emphasise(text) if (index, at) == self.bold else text for at, text in enumerate(texts)]

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
                    text = re.sub(" (± |of )|, ", lambda found: found[0].replace(" ", "&nbsp;"), text)
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


class Document:
    """A titled page; each method adds a block at its end. All texts are escaped here."""

    def __init__(self, title: str) -> None:
        self.title = title
        self._html: list[str] = []
        self._markdown = [f"# {for_markdown(title)}"]

    def _add(self, html: str, markdown: str) -> None:
        self._html.append(html)
        self._markdown.append(markdown)

    def heading(self, text: str) -> None:
        """A section begins."""
        self._add(f"<h2>{for_html(text)}</h2>", f"## {for_markdown(text)}")

    def paragraph(self, text: str) -> None:
        self._add(f"<p>{for_html(text)}</p>", for_markdown(text))

    def verdict(self, text: str) -> None:
        """The paragraph that stands out."""
        self._add(f'<p class="verdict">{for_html(text)}</p>', f"**{for_markdown(text)}**")

    def facts(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Names with what is known about them."""
        html, lines = "", []
        for name, what in pairs:
            html += f"<dt>{for_html(name)}</dt><dd>{for_html(what)}</dd>"
            lines.append(f"- {for_markdown(name)}: {for_markdown(what)}")
        self._add(f"<dl>{html}</dl>", "\n".join(lines))

    def table(self, table: Table) -> None:
        """A table; of one without rows only the notes."""
        if table.rows:
            self._add(table.html(), table.markdown())
        else:
            for note in table.notes:
                self.paragraph(note)

    def folded(self, title: str, table: Table, is_open: bool = False) -> None:
        """A table under its title. A screen may fold it; print and Markdown have it open."""
        summary = f"<summary>{for_html(title)}</summary>"
        html = f"<details{' open' * is_open}>{summary}{table.html()}</details>"
        self._add(html, f"{for_markdown(title)}\n\n{table.markdown()}")

    def figure(self, slug: str, title: str, caption: str, svg: str) -> None:
        """A figure inside the page; Markdown links to its files, which are `figures/<slug>` with their endings."""
        files = f"figures/{slug}"
        # Ids are made the figure's own, and the image is named for those who cannot see it.
        drawing = re.sub(r'\bid="', f'id="{slug}-', svg[svg.index("<svg") :])
        drawing = re.sub(r'(href="|url\()#', rf"\g<1>#{slug}-", drawing)
        drawing = re.sub(r"<metadata>.*?</metadata>", "", drawing, flags=re.DOTALL)
        drawing = drawing.replace("<svg ", f'<svg role="img" aria-label="{for_html(title)}" ', 1)
        html = f"<figure><h3>{for_html(title)}</h3>\n{drawing}\n"
        html += f"<figcaption>{for_html(f'{caption} Numbers: {files}.csv.')}</figcaption></figure>"
        title, caption = for_markdown(title), for_markdown(caption)
        self._add(html, f"### {title}\n\n![{title}]({files}.svg)\n\n{caption} [Numbers]({files}.csv).")

    def html(self) -> str:
        """One self-contained page, for screens of any width and for print.

        It has no script and loads nothing; its policy lets a browser refuse both even if a name slipped through.
        """
        page = Template(Path(__file__).with_name("page.html").read_text(encoding="utf-8").rstrip("\n"))
        return page.substitute(title=for_html(self.title), body="\n".join(self._html))

    def markdown(self) -> str:
        """The page in Markdown."""
        return "\n\n".join(self._markdown)
