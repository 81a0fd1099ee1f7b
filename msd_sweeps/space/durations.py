"""Lengths of time in words."""


def duration(seconds: float) -> str:
    """A length of time in words, such as `42 s`, `58 min` or `3 h 20 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min"
