"""A report as a sequence of blocks, and the two pages it becomes: HTML that needs nothing else, and Markdown."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from msd_sweeps.report.escaping import for_html, for_markdown
from msd_sweeps.report.figures.plot import Plot
from msd_sweeps.report.table_formats import Table

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""No script, no network: a browser refuses both even if a name slipped through."""


class Block(Protocol):
    """A part of a page, such as a `Table`."""

    def html(self) -> str: ...
    def markdown(self) -> str: ...


@dataclass(frozen=True)
class Heading:
    """A section begins."""

    text: str

    def html(self) -> str:
        return f"<h2>{for_html(self.text)}</h2>"

    def markdown(self) -> str:
        return f"## {for_markdown(self.text)}"


@dataclass(frozen=True)
class Paragraph:
    """Plain text; `strong` for the verdict."""

    text: str
    strong: bool = False

    def html(self) -> str:
        return f"<p{' class="verdict"' * self.strong}>{for_html(self.text)}</p>"

    def markdown(self) -> str:
        stars = "**" * self.strong
        return f"{stars}{for_markdown(self.text)}{stars}"


@dataclass(frozen=True)
class Facts:
    """Names with what is known about them."""

    pairs: list[tuple[str, str]]

    def html(self) -> str:
        return "<dl>" + "".join(f"<dt>{for_html(a)}</dt><dd>{for_html(b)}</dd>" for a, b in self.pairs) + "</dl>"

    def markdown(self) -> str:
        return "\n".join(f"- {for_markdown(name)}: {for_markdown(what)}" for name, what in self.pairs)


@dataclass(frozen=True)
class Folded:
    """A table under its title. A screen may fold it; print and Markdown have it open."""

    title: str
    table: Table
    open: bool = False

    def html(self) -> str:
        title = f"<summary>{for_html(self.title)}</summary>"
        return f"<details{' open' * self.open}>{title}{self.table.html()}</details>"

    def markdown(self) -> str:
        return f"{for_markdown(self.title)}\n\n{self.table.markdown()}"


@dataclass(frozen=True)
class Drawing:
    """A figure; Markdown links to its files."""

    plot: Plot
    svg: str

    def html(self) -> str:
        text = f"{self.plot.caption} Numbers: figures/{self.plot.slug}.csv."
        title = f"<h3>{for_html(self.plot.title)}</h3>"
        return f"<figure>{title}\n{self._inline_svg()}\n<figcaption>{for_html(text)}</figcaption></figure>"

    def _inline_svg(self) -> str:
        """The svg element for use inside a page: its ids made its own, named for those who cannot see it."""
        text = re.sub(r'\bid="', f'id="{self.plot.slug}-', self.svg[self.svg.index("<svg") :])
        text = re.sub(r'(href="|url\()#', rf"\g<1>#{self.plot.slug}-", text)
        text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
        return text.replace("<svg ", f'<svg role="img" aria-label="{for_html(self.plot.title)}" ', 1)

    def markdown(self) -> str:
        title, files = for_markdown(self.plot.title), f"figures/{self.plot.slug}"
        caption = f"{for_markdown(self.plot.caption)} [Numbers]({files}.csv)."
        return f"### {title}\n\n![{title}]({files}.svg)\n\n{caption}"


@dataclass(frozen=True)
class Document:
    """A titled page."""

    title: str
    blocks: Sequence[Block]

    def html(self) -> str:
        """One self-contained page, for screens of any width and for print."""
        style = Path(__file__).with_name("style.css").read_text(encoding="utf-8")
        title, body = for_html(self.title), "\n".join(block.html() for block in self.blocks)
        return (
            f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
            f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
            f"<title>{title}</title>\n<style>\n{style}</style></head>\n"
            f"<body><main><h1>{title}</h1>\n{body}\n</main></body></html>"
        )

    def markdown(self) -> str:
        """The page in Markdown; figures are links to files beside it."""
        return f"# {for_markdown(self.title)}\n\n" + "\n\n".join(block.markdown() for block in self.blocks)
