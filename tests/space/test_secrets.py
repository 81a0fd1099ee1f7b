"""No part of a URI carries a secret into a record, a page or a message."""

import pytest

from msd_sweeps.records.object_store import StoreError, StorePath
from msd_sweeps.space.errors import InputError
from msd_sweeps.space.load import load
from msd_sweeps.space.secrets import hidden, holds_user, secrets_in, without_secrets

SECRET = [
    "postgresql://h/db?user=me&password=hunter2",
    "postgresql://h/db?sslmode=require&PASSWORD=hunter2",
    "http://h/path#token=hunter2",
    "http://h/path;access_token=hunter2/more",
    "mysql://me:hunter2@h/db",
    "mysql://me:hun/ter2@h/db",
    "mysql://me:hun?ter2@h/db",
    "mysql://me:hun#ter2@h/db",
    "mysql://me:hun@ter2@h/db",
    "mysql://me:12/hunter2@h/db",
    "mssql+pyodbc:///?odbc_connect=DRIVER%3D%7BODBC%7D%3BPWD%3Dhunter2",
    "s3://b/c?secret_key=hunter2",
]


@pytest.mark.parametrize("uri", SECRET)
def test_a_uri_with_a_secret_is_refused_in_every_part(uri):
    assert secrets_in(uri)
    for text in (str(secrets_in(uri)), without_secrets(uri)):
        assert "ter2" not in text
        assert "hun" not in text
    with pytest.raises(InputError, match=r"--set tracking\.uri: keep user and password out") as refused:
        load("scales", settings=[f"tracking.uri='{uri}'"])
    assert "ter2" not in str(refused.value)
    with pytest.raises(StoreError) as stored:
        StorePath(uri).checked()
    assert "ter2" not in str(stored.value)


@pytest.mark.parametrize("uri", SECRET)
def test_an_error_that_quotes_the_uri_or_a_part_of_it_hides_the_secret(uri):
    quoted = f"cannot reach {uri}: denied for '{uri.partition('://')[2]}'"
    assert "ter2" not in hidden(quoted, uri)
    assert hidden("no password in this", uri) == "no password in this"


def test_the_decoded_password_is_hidden_too_and_a_broken_uri_breaks_nothing():
    assert hidden("access denied for me with p@ss", "mysql://me:p%40ss@h/db") == "access denied for me with ***"
    assert hidden("no route to http://[h", "http://me:pw@[h") == "no route to http://[h"


@pytest.mark.parametrize(
    "uri", ["sqlite:////home/me@h:1/x.db", "https://h/a@b", "http://h:5000/x", "databricks", "s3://b/c?region=eu"]
)
def test_a_uri_without_secrets_is_taken_and_shown(uri):
    assert not secrets_in(uri)
    assert not holds_user(uri)
    assert without_secrets(uri) == uri.partition("?")[0]
