"""Names as every format can carry them: nothing in a name is ever read as markup, code or a formula."""

import html
import unicodedata

LONGEST = 72
"""Characters of a name that tables and pages show; data files keep it whole."""

_COMMANDS = (
    "textbackslash textasciicircum textasciitilde textbar textless textgreater textquotedbl textquotesingle "
    "textasciigrave dots"
)
_SYMBOLS = "pm to times tau leq geq"
_LATEX = {
    **{character: "\\" + character for character in "{}$&#%_"},
    **{character: f"{{{character}}}" for character in "[]*"},
    **{character: f"\\{name}{{}}" for character, name in zip("\\^~|<>\"'`…", _COMMANDS.split(), strict=True)},
    **{character: f"$\\{name}$" for character, name in zip("±→×τ≤≥", _SYMBOLS.split(), strict=True)},
    **dict(zip("−–—", ("$-$", "--", "---"), strict=True)),
}
_MARKDOWN = "\\`*_[]|~$#!"


def clean(text: str) -> str:
    """One line without control characters, bidirectional overrides and lone surrogates."""
    return " ".join("".join(map(_visible, text)).split())


def _visible(character: str) -> str:
    category = unicodedata.category(character)
    if category in ("Cc", "Zl", "Zp"):
        return " "
    return "\ufffd" if category in ("Cs", "Cf", "Co", "Cn") and character != "\u200d" else character


def short(text: str, longest: int = LONGEST) -> str:
    """`clean` text with its middle left out where it is too long."""
    line = clean(text)
    if len(line) <= longest:
        return line
    tail = longest // 4
    return f"{line[: longest - tail - 1]}…{line[-tail:]}"


def for_html(text: str) -> str:
    """Text for HTML's content and attributes."""
    return html.escape(clean(text))


def for_markdown(text: str) -> str:
    """Text for a cell of a Markdown table or a line of prose: no markup, no HTML, no column break."""
    line = clean(text)
    escaped = []
    for index, character in enumerate(line):
        inside_word = line[index - 1 : index].isalnum() and line[index + 1 : index + 2].isalnum()
        if character in _MARKDOWN and not (character == "_" and inside_word):
            escaped.append("\\" + character)
        else:
            escaped.append({"<": "&lt;", ">": "&gt;", "&": "&amp;"}.get(character, character))
    return "".join(escaped)


def for_latex(text: str) -> str:
    """Text for LaTeX; a character that plain pdfLaTeX has no glyph for is written as its code point."""
    return "".join(_LATEX.get(character) or _in_latin_1(character) for character in clean(text))


def _in_latin_1(character: str) -> str:
    is_known = character.isascii() or "\u00c0" <= character <= "\u00ff"
    return character if is_known else f"(U+{ord(character):04X})"


def for_csv(text: str) -> str:
    """Text for a CSV field: a spreadsheet shows it and never computes it."""
    line = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")
    line = line.encode("utf-8", "replace").decode()
    return "'" + line if line[:1] in ("=", "+", "-", "@", "\t") and not _is_number(line) else line


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
