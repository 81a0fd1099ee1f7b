"""Tables in every format, and documents of tables, figures and texts as HTML and as Markdown.

A document is a list of blocks, each a dictionary: heading, paragraph, verdict, facts (pairs), plot (with its svg),
table, or folded (a title) with a table. The files in `templates` say how a block looks; whatever they are given is
escaped.
"""

import base64
import hashlib
import re
import textwrap
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from msd_sweeps.report.formats import for_html, for_latex, for_markdown, short

Column = tuple[str, bool, str | int | Callable[[Any], str]]
"""A title, whether the column aligns to the right as numbers do, and the text of a row in it: a function, or the key
of a value that is shown as it is."""
Block = dict[str, Any]


class Link(str):
    """A text of a table that leads on a page to a file of the report."""

    href: str

    @classmethod
    def to(cls, href: str, text: str) -> "Link":
        """href: a path in the report's folder."""
        link = cls(text)
        link.href = href
        return link


def _linked(text: str) -> str:
    return Markup('<a href="{}">{}</a>').format(text.href, text) if isinstance(text, Link) else text


def _script() -> tuple[Markup, str]:
    """The page's script, which sorts tables, and the hash that lets a browser run it and no other."""
    text = Path(__file__).with_name("templates").joinpath("sort.js").read_text(encoding="utf-8")
    return Markup(text), "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _unbroken(text: str) -> Markup:
    """A number with its interval: a narrow screen may break the interval off its mean, but neither in two."""
    return Markup(re.sub(" (± |of )|, ", lambda found: found[0].replace(" ", "&nbsp;"), for_html(text)))


def rendered(template: str, **content: Any) -> str:
    """The text of a template of `templates`. What it is given is escaped for its format unless it is Markup."""
    escape = for_html if template.endswith(".html") else for_markdown

    def finalize(value: Any) -> str:
        return value if isinstance(value, Markup) else escape(str(value))

    folder = FileSystemLoader(Path(__file__).with_name("templates"))
    environment = Environment(loader=folder, finalize=finalize, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"unbroken": _unbroken, "link": _linked}
    environment.globals["script"], environment.globals["script_hash"] = _script()
    return environment.get_template(template).render(**content)


def drawing(svg: str, slug: str, title: str) -> Markup:
    """A figure's SVG as a page has it: with ids of its own, and a name for those who cannot see it."""
    inside = re.sub(r'\bid="', f'id="{slug}-', svg[svg.index("<svg") :])
    inside = re.sub(r'(href="|url\()#', rf"\g<1>#{slug}-", inside)
    inside = re.sub(r"<metadata>.*?</metadata>", "", inside, flags=re.DOTALL)
    return Markup(inside.replace("<svg ", f'<svg role="img" aria-label="{for_html(title)}" ', 1))


class Table:
    """A table as shown: texts in rows.

    rows: such as the dictionaries of a frame. notes: lines below the table. bold: the cells (row, column) to emphasise.
    """

    def __init__(
        self,
        rows: Iterable[Any],
        columns: Sequence[Column],
        notes: Iterable[str] = (),
        bold: Collection[tuple[int, int]] = (),
    ) -> None:
        self.columns = [title for title, _, _ in columns]
        self.kinds = ["n" if is_number else "t" for _, is_number, _ in columns]
        self.rows = [[text(row) if callable(text) else str(row[text]) for *_, text in columns] for row in rows]
        self.notes, self.bold = list(notes), bold

    def markdown(self) -> str:
        """The table in Markdown, notes below it."""
        return rendered("table.md", table=self).rstrip("\n")

    def latex(self, width: float = 343.0) -> str:
        """The table and its notes, to \\input into a paper; `width` in points: the article class has lines of 345.

        Widths are estimated from numbers of characters: figures keep theirs, texts share what is left and are broken.
        """
        columns = list(zip(*[self.columns, *self.rows], strict=True))
        for size, point in (("small", 4.8), ("footnotesize", 4.3), ("scriptsize", 3.8)):  # noqa: B007 - used below
            # A column has to be wide enough for its texts, and for the words of its title.
            widths = [point * max(map(len, (*title.split(), *texts))) for title, *texts in columns]
            texts = [place for place, kind in enumerate(self.kinds) if kind == "t"]
            left = width - 6 * len(columns) - sum(w for w, kind in zip(widths, self.kinds, strict=True) if kind == "n")
            if left >= 70 * len(texts):
                break
        for place in texts:
            widths[place] = max(40.0, left / len(texts))
        spec = "".join(
            "r" if kind == "n" else f"p{{{wide:.0f}pt}}" for kind, wide in zip(self.kinds, widths, strict=True)
        )
        heads = [
            for_latex(name) if kind == "t" else f"\\parbox[b]{{{wide:.0f}pt}}{{\\raggedleft {for_latex(name)}}}"
            for name, kind, wide in zip(self.columns, self.kinds, widths, strict=True)
        ]
        lines = [
            "% needs \\usepackage{booktabs,threeparttable} and \\usepackage[T1]{fontenc}",
            "\\begin{threeparttable}",
        ]
        lines += [f"\\{size}\\setlength{{\\tabcolsep}}{{3pt}}", f"\\begin{{tabular}}{{{spec}}}", "\\toprule"]
        lines += [" & ".join(heads) + r" \\", "\\midrule"]
        for index, row in enumerate(self.rows):
            cells = list(map(for_latex, row))
            for column in [column for at, column in self.bold if at == index]:
                cells[column] = f"\\textbf{{{cells[column]}}}"
            # A row that begins with [ would be read as an option of the row before.
            lines.append("{}" * cells[0].startswith("[") + " & ".join(cells) + r" \\")
        notes = [f"\\item {{}}{for_latex(note)}" for note in self.notes]
        told = ["\\begin{tablenotes}\\footnotesize", *notes, "\\end{tablenotes}"] if notes else []
        return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", *told, "\\end{threeparttable}"])

    def text(self, width: int = 100) -> str:
        """The table in plain text, notes below it; the first column gives way where the width is short."""
        rows = [self.columns, *self.rows]
        first, *others = (max(map(len, column)) for column in zip(*rows, strict=True))
        first = max(12, min(first, width - sum(others) - 2 * len(others)))
        lines = []
        for row in rows:
            texts = [short(row[0], first).ljust(first)]
            for text, wide, kind in zip(row[1:], others, self.kinds[1:], strict=True):
                texts.append(text.rjust(wide) if kind == "n" else text.ljust(wide))
            lines.append("  ".join(texts).rstrip())
        lines.insert(1, "-" * min(width, max(map(len, lines))))
        for note in self.notes:
            lines += textwrap.wrap(note, width, subsequent_indent="  ")
        return "\n".join(lines)
