"""URIs without the secrets that they may hold: in records, pages, messages and job environments."""

import re
from urllib.parse import unquote

_NAME = re.compile(
    r"([\w.-]*(?:key|secret|token|passw|passphrase|pwd|signature|sas|credential)[\w.-]*)\s*=", re.IGNORECASE
)
"""A named value that is a secret, in a query, a fragment, or an ODBC string inside one."""


def _parts(uri: str) -> tuple[str, str, str]:
    """What stands before the user, user and password, and the rest.

    A password with a bare `/`, `?`, `#` or `@` in it makes the URI invalid; all up to the last `@` counts as password.
    """
    scheme, slashes, rest = uri.partition("://")
    if not slashes:
        return "", "", uri
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    if "@" not in rest or not ("@" in authority or ":" in authority):
        return scheme + slashes, "", rest
    user, _, rest = rest.rpartition("@") if ":" in authority else rest.partition("@")
    return scheme + slashes, user, rest


def without_secrets(uri: str) -> str:
    """A URI without user, password, parameters, query and fragment."""
    scheme, _, rest = _parts(uri)
    return scheme + re.split("[?#;]", rest, maxsplit=1)[0]


def holds_user(uri: str) -> bool:
    """Whether a URI names a user, with or without a password."""
    return bool(_parts(uri)[1])


def secrets_in(uri: str) -> list[str]:
    """The names of the secrets that a URI holds, none of their values."""
    found = ["a password"] if ":" in _parts(uri)[1] else []
    return [*found, *dict.fromkeys(_NAME.findall(unquote(unquote(uri))))]


def hidden(text: str, uri: str) -> str:
    """A text, such as an error that quotes a URI, with *** for the secrets of that URI."""
    _, user, rest = _parts(uri)
    query = re.split("[?#;]", rest, maxsplit=1)[1:]
    values = [value for part in query for value in re.findall(r"=([^&;#]+)", part)]
    text = text.replace(uri, without_secrets(uri))
    for secret in filter(None, [user, user.partition(":")[2], *query, *values]):
        for written in {secret, unquote(secret)}:
            text = text.replace(written, "***")
    return text
