"""A report written block by block, in two formats at once: HTML that needs nothing else, and Markdown."""

import re
from pathlib import Path

from msd_sweeps.report.escaping import for_html, for_markdown
from msd_sweeps.report.figures.plot import Plot
from msd_sweeps.report.table_formats import Table

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""No script, no network: a browser refuses both even if a name slipped through."""


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

    def facts(self, pairs: list[tuple[str, str]]) -> None:
        """Names with what is known about them."""
        html = "".join(f"<dt>{for_html(name)}</dt><dd>{for_html(what)}</dd>" for name, what in pairs)
        markdown = "\n".join(f"- {for_markdown(name)}: {for_markdown(what)}" for name, what in pairs)
        self._add(f"<dl>{html}</dl>", markdown)

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

    def figure(self, plot: Plot, svg: str) -> None:
        """A figure inside the page; Markdown links to its files."""
        files, title = f"figures/{plot.slug}", for_html(plot.title)
        # Ids are made the figure's own, and the image is named for those who cannot see it.
        drawing = re.sub(r'\bid="', f'id="{plot.slug}-', svg[svg.index("<svg") :])
        drawing = re.sub(r'(href="|url\()#', rf"\g<1>#{plot.slug}-", drawing)
        drawing = re.sub(r"<metadata>.*?</metadata>", "", drawing, flags=re.DOTALL)
        drawing = drawing.replace("<svg ", f'<svg role="img" aria-label="{title}" ', 1)
        caption = for_html(f"{plot.caption} Numbers: {files}.csv.")
        html = f"<figure><h3>{title}</h3>\n{drawing}\n<figcaption>{caption}</figcaption></figure>"
        title, caption = for_markdown(plot.title), for_markdown(plot.caption)
        self._add(html, f"### {title}\n\n![{title}]({files}.svg)\n\n{caption} [Numbers]({files}.csv).")

    def html(self) -> str:
        """One self-contained page, for screens of any width and for print."""
        style = Path(__file__).with_name("style.css").read_text(encoding="utf-8")
        title, body = for_html(self.title), "\n".join(self._html)
        return (
            f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
            f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
            f"<title>{title}</title>\n<style>\n{style}</style></head>\n"
            f"<body><main><h1>{title}</h1>\n{body}\n</main></body></html>"
        )

    def markdown(self) -> str:
        """The page in Markdown."""
        return "\n\n".join(self._markdown)
