"""Sync talks only to the configured database, and nobody between the two can listen."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from clerk_supabase.credentials import Fixed
from clerk_supabase.errors import DatabaseUnavailable
from clerk_supabase.postgres.store import Outcome, Store
from tests.kit.databases import Database, at_port
from tests.kit.histories import alone, upsert
from tests.kit.tls import Authority, TlsTerminator


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def apply_over_tls(
    database: Database, authority: Authority, ca_file: Path | str, *, address: str = "127.0.0.1", options: str = ""
) -> list[Outcome]:
    """Applies a change through a server with a certificate for *address*; the URL says nothing about TLS."""
    with TlsTerminator(database.server.port, authority.server(address)) as server:
        url = at_port(database.worker_url, server.port).removesuffix("?sslmode=disable")
        with closing(Store(Fixed(url + options), str(ca_file))) as store:
            [answer] = store.apply(alone(upsert()))
    assert isinstance(answer, str)
    return [answer]


def test_a_server_that_the_ca_file_vouches_for_is_trusted(database: Database, authority: Authority) -> None:
    assert apply_over_tls(database, authority, authority.file) == ["created"]


def test_a_server_of_an_unknown_authority_is_refused(database: Database, authority: Authority, tmp_path: Path) -> None:
    stranger = Authority(tmp_path, "Stranger")
    with pytest.raises(DatabaseUnavailable, match="certificate verify failed"):
        apply_over_tls(database, stranger, authority.file)


def test_a_certificate_for_another_address_is_refused(database: Database, authority: Authority) -> None:
    with pytest.raises(DatabaseUnavailable, match="does not match host name"):
        apply_over_tls(database, authority, authority.file, address="127.0.0.2")


def test_a_missing_ca_file_is_reported_without_its_path(
    database: Database, authority: Authority, tmp_path: Path
) -> None:
    with pytest.raises(DatabaseUnavailable, match="root certificate file is not there"):
        apply_over_tls(database, authority, tmp_path / "missing.pem")


def test_the_ca_file_of_the_settings_wins_over_that_of_the_url(database: Database, authority: Authority) -> None:
    options = "?sslrootcert=/nowhere/else.pem"
    assert apply_over_tls(database, authority, authority.file, options=options) == ["created"]


def test_the_url_may_ask_for_less_on_purpose(database: Database, authority: Authority) -> None:
    answer = apply_over_tls(database, authority, "", address="127.0.0.2", options="?sslmode=require")
    assert answer == ["created"]
