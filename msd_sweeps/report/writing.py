"""The contents of a report's files: the same bytes for the same numbers."""

import io
import math

import pandas as pd
import pyarrow
import pyarrow.parquet

from msd_sweeps.report.escaping import for_csv

SIGNIFICANT = 10
"""Digits of computed numbers that are kept, so that the last bits of another processor do not show."""


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
