"""A report as a sequence of blocks, and the two pages it becomes: HTML that needs nothing else, and Markdown."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from msd_sweeps.report.escaping import for_html, for_markdown
from msd_sweeps.report.table_formats import Table


@dataclass(frozen=True)
class Heading:
    """A section begins."""

    text: str


@dataclass(frozen=True)
class Paragraph:
    """Plain text; `strong` for the verdict."""

    text: str
    strong: bool = False


@dataclass(frozen=True)
class Facts:
    """Names with what is to be said about them."""

    pairs: list[tuple[str, str]]


@dataclass(frozen=True)
class Drawing:
    """A figure in place."""

    slug: str
    title: str
    caption: str
    svg: str


@dataclass(frozen=True)
class Folded:
    """A table under its title, which a screen may fold; print and Markdown have it open."""

    title: str
    table: Table
    open: bool = False


Block = Heading | Paragraph | Facts | Drawing | Folded | Table


@dataclass(frozen=True)
class Document:
    """A titled page."""

    title: str
    blocks: Sequence[Block] = field(default_factory=list)

    def html(self) -> str:
        """One self-contained page, for screens of any width and for print."""
        body = "\n".join(_html(block) for block in self.blocks)
        title = for_html(self.title)
        return (
            f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
            f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
            f"<title>{title}</title>\n<style>{_STYLE}</style></head>\n"
            f"<body><main><h1>{title}</h1>\n{body}\n</main></body></html>"
        )

    def markdown(self) -> str:
        """The page in Markdown; figures are links to files beside it."""
        return f"# {for_markdown(self.title)}\n\n" + "\n\n".join(_markdown(block) for block in self.blocks)


_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""No script, no network: a browser refuses both even if a name slipped through."""

_STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0; background: #fff; color: #1a1a1a; font: 16px/1.5 system-ui, "Segoe UI", Roboto, sans-serif; }
main { max-width: 54rem; margin: 0 auto; padding: 1rem 1.25rem 4rem; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 1rem 0; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem; border-bottom: 1px solid #d8d8d8; padding-bottom: .2rem; }
.verdict { font-size: 1.1rem; background: #eef4f9; border-left: 4px solid #0072b2; padding: .7rem 1rem; }
.wide { overflow-x: auto; margin: .8rem 0; background: linear-gradient(to right, #fff 30%, #fff0) 0 0,
  linear-gradient(to left, #fff 30%, #fff0) 100% 0, linear-gradient(to right, #0003, #0000) 0 0,
  linear-gradient(to left, #0003, #0000) 100% 0; background-repeat: no-repeat; background-size: 3rem 100%, 3rem 100%,
  .6rem 100%, .6rem 100%; background-attachment: local, local, scroll, scroll; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; width: 100%; }
th, td { padding: .3rem .55rem; border-bottom: 1px solid #e6e6e6; vertical-align: top; text-align: left; }
thead th { border-bottom: 2px solid #555; vertical-align: bottom; }
th.n, td.n { text-align: right; white-space: nowrap; }
thead th.n { white-space: normal; }
tbody th { font-weight: 500; min-width: 6.5rem; position: sticky; left: 0; background: #fff; }
th, td { overflow-wrap: break-word; }
td.t { min-width: 6.5rem; }
.note, figcaption { font-size: .85rem; color: #4a4a4a; margin: .25rem 0; }
figure { margin: 1.4rem 0; }
figure h3 { font-size: 1rem; margin: 0 0 .3rem; }
figure svg { width: 100%; height: auto; max-width: 37rem; display: block; }
dl { display: grid; grid-template-columns: minmax(7rem, 13rem) 1fr; gap: .25rem 1rem; font-size: .92rem; }
dt { color: #4a4a4a; } dd { margin: 0; }
summary { cursor: pointer; color: #0072b2; margin: .6rem 0; }
@media (max-width: 34rem) { body { font-size: 15px; } main { padding: .5rem .8rem 3rem; }
  table { font-size: .76rem; } th, td { padding: .25rem .3rem; } td.n { white-space: normal; }
  dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: .5rem; } }
@media print { body { font-size: 10pt; } main { max-width: none; padding: 0; } .wide { overflow: visible; }
  .wide { background: none; } figure { margin: .8rem 0; } figure svg { max-width: 12.5cm; } h2 { margin-top: 1.4rem; }
  figure, tr, dl, .verdict { break-inside: avoid; } h2 { break-after: avoid; }
  summary { color: inherit; list-style: none; }
  details::details-content { content-visibility: visible; block-size: auto; } }
"""


def _html(block: Block) -> str:
    if isinstance(block, Heading):
        return f"<h2>{for_html(block.text)}</h2>"
    if isinstance(block, Paragraph):
        kind = ' class="verdict"' if block.strong else ""
        return f"<p{kind}>{for_html(block.text)}</p>"
    if isinstance(block, Facts):
        return "<dl>" + "".join(f"<dt>{for_html(a)}</dt><dd>{for_html(b)}</dd>" for a, b in block.pairs) + "</dl>"
    if isinstance(block, Drawing):
        return (
            f"<figure><h3>{for_html(block.title)}</h3>\n{inline_svg(block)}\n"
            f"<figcaption>{for_html(block.caption)} Numbers: figures/{block.slug}.csv.</figcaption></figure>"
        )
    if isinstance(block, Folded):
        shown = " open" * block.open
        return f"<details{shown}><summary>{for_html(block.title)}</summary>{block.table.html()}</details>"
    return block.html()


def inline_svg(drawing: Drawing) -> str:
    """The drawing's svg element for use inside a page: ids made its own, named for those who cannot see it."""
    start = drawing.svg.index("<svg")
    text = drawing.svg[start:]
    text = re.sub(r'\bid="', f'id="{drawing.slug}-', text)
    text = re.sub(r'(href="|url\()#', rf"\g<1>#{drawing.slug}-", text)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    return text.replace("<svg ", f'<svg role="img" aria-label="{for_html(drawing.title)}" ', 1)


def _markdown(block: Block) -> str:
    if isinstance(block, Heading):
        return f"## {for_markdown(block.text)}"
    if isinstance(block, Paragraph):
        return f"**{for_markdown(block.text)}**" if block.strong else for_markdown(block.text)
    if isinstance(block, Facts):
        return "\n".join(f"- {for_markdown(name)}: {for_markdown(what)}" for name, what in block.pairs)
    if isinstance(block, Drawing):
        picture = f"![{for_markdown(block.title)}](figures/{block.slug}.svg)"
        numbers = f"[Numbers](figures/{block.slug}.csv)."
        return f"### {for_markdown(block.title)}\n\n{picture}\n\n{for_markdown(block.caption)} {numbers}"
    if isinstance(block, Folded):
        return f"{for_markdown(block.title)}\n\n{block.table.markdown()}"
    return block.markdown()
