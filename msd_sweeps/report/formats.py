"""Names and numbers as files can carry them: a name is never markup, code or a formula; equal numbers, equal bytes."""

import html
import io
import math
import re
import unicodedata

import pandas as pd
import pyarrow
import pyarrow.parquet

SIGNIFICANT = 10
"""Digits of computed numbers that are kept, so that the last bits of another processor do not show."""
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
_MARKDOWN = re.compile(r"[\\`*\[\]|~$#!]|(?<![^\W_])_|_(?![^\W_])")
"""What is markup in Markdown; an underscore inside a word is none."""
_FORMULA = re.compile(r"[=@\t]|[+-](?!(\d+\.?\d*|\.\d+)(e[+-]?\d+)?\Z)", re.IGNORECASE)
"""How a text begins that a spreadsheet would compute; a number may have a sign."""


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
    line, tail = clean(text), longest // 4
    return line if len(line) <= longest else f"{line[: longest - tail - 1]}…{line[-tail:]}"


def counted(count: int, what: str) -> str:
    """`1 pair`, `2 pairs`."""
    return f"{count} {what}{'s' * (count != 1)}"


def capital(text: str) -> str:
    """The text as a sentence begins."""
    return text[:1].upper() + text[1:]


def for_html(text: str) -> str:
    """Text for HTML's content and attributes."""
    return html.escape(clean(text))


def for_markdown(text: str) -> str:
    """Text for a cell of a Markdown table or a line of prose: no markup, no HTML, no column break."""
    return _MARKDOWN.sub(r"\\\g<0>", html.escape(clean(text), quote=False))


def for_latex(text: str) -> str:
    """Text for LaTeX; a character that plain pdfLaTeX has no glyph for is written as its code point."""
    return "".join(
        _LATEX.get(one) or (one if one.isascii() or "\u00c0" <= one <= "\u00ff" else f"(U+{ord(one):04X})")
        for one in clean(text)
    )


def for_csv(text: str) -> str:
    """Text for a CSV field: a spreadsheet shows it and never computes it."""
    line = text.replace("\r\n", "\n").replace("\r", "\n").encode("utf-8", "replace").decode()
    line = "".join(one for one in line if one in "\n\t" or unicodedata.category(one) != "Cc")  # ESC among them
    return "'" + line if _FORMULA.match(line) else line


def rounded(value: float) -> float:
    """A number with its first `SIGNIFICANT` digits; NaN and infinity as they are."""
    return float(f"{value:.{SIGNIFICANT}g}") if math.isfinite(value) else value


def rounded_frame(frame: pd.DataFrame) -> pd.DataFrame:
    """A frame whose float columns are rounded by `rounded`."""
    return frame.assign(**{name: frame[name].map(rounded) for name in frame.select_dtypes("float")})


def text_bytes(text: str) -> bytes:
    """A text in UTF-8 with a line feed at its end."""
    return (text.rstrip("\n") + "\n").encode("utf-8", "replace")


def parquet_bytes(frame: pd.DataFrame) -> bytes:
    """A frame as Parquet without its index; zstd, no metadata that changes between runs."""
    table = pyarrow.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def csv_bytes(frame: pd.DataFrame) -> bytes:
    """A frame as CSV (RFC 4180) without its index; missing values are empty, texts made safe by `for_csv`."""
    safe = frame.rename(columns=for_csv)
    for name in safe.select_dtypes(["object", "str"]):
        safe[name] = pd.Series([for_csv(v) if isinstance(v, str) else v for v in safe[name]], safe.index, object)
    return safe.to_csv(index=False, lineterminator="\n").encode()
