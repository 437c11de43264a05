"""A person with a canary in every field that Clerk knows, put into every place that can hold such data."""

from __future__ import annotations

import json
from typing import Any

import psycopg
from psycopg import sql

from clerk_supabase_cli.standin import samples
from tests.kit.databases import Connection, Rows, rows
from tests.kit.histories import CREATED_AT
from tests.kit.parked import park
from tests.kit.pipeline import Pipeline

ADA = "user_ada"
NAME = "Canarylace"
ADDRESS = "Canary.Ada@example.test"
SECOND = "canary.old@example.test"
PHONE = "+491511234567890"
CANARIES = (NAME.lower(), ADDRESS.lower(), SECOND, PHONE)
# Addresses of others that contain Ada's, or begin with it.
NEARLY = ("x" + ADDRESS, ADDRESS + ".au", "o'" + ADDRESS, ADDRESS.replace("@", "+1@"))
TIMES: dict[str, Any] = {"created_at": CREATED_AT, "updated_at": CREATED_AT + 1}


def ada(**fields: Any) -> dict[str, Any]:
    """Clerk's user with a canary in every field that may hold one."""
    return samples.user(ADA, **TIMES) | {
        "first_name": NAME,
        "last_name": NAME,
        "username": NAME,
        "image_url": f"https://img.example.test/{NAME}",
        "external_id": NAME,
        "email_addresses": [
            samples.email_address("idn_1", ADDRESS, CREATED_AT),
            samples.email_address("idn_2", SECOND, CREATED_AT),
        ],
        "primary_email_address_id": "idn_1",
        "phone_numbers": [{"id": "idn_3", "phone_number": PHONE, "verification": {"status": "verified"}}],
        "primary_phone_number_id": "idn_3",
        "public_metadata": {"note": NAME},
        "unsafe_metadata": {"note": NAME},
        "private_metadata": {"note": NAME},
        **fields,
    }


def posted(pipeline: Pipeline, event_type: str, data: dict[str, Any], *, at: int = 1, svix_id: str = "") -> None:
    body = json.dumps(samples.event(event_type, data, timestamp=CREATED_AT + at))
    pipeline.post(body, svix_id or f"msg_{event_type}_{data.get('id')}_{at}")
    assert pipeline.drain() == []


def delete_ada(pipeline: Pipeline, *, at: int = 50) -> None:
    posted(pipeline, "user.deleted", samples.deleted("user", ADA), at=at)


def columns_of_everybody(admin: Connection) -> Rows:
    """Every column of every table: its table, its name and whether it holds bytes."""
    return rows(
        admin,
        """
        select c.oid::regclass::text, a.attname::text, a.atttypid = 'bytea'::regtype
        from pg_class as c inner join pg_attribute as a on a.attrelid = c.oid
        where c.relkind in ('r', 'p') and a.attnum > 0 and not a.attisdropped
        and c.relnamespace not in ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
        and c.relnamespace::regnamespace::text not like 'pg\\_%'
        """,
    )


def as_text(column: str, *, is_bytes: bool) -> sql.Composed:
    """A column's value as text; bytes as the text that they encode."""
    return sql.SQL("encode({}, 'escape')" if is_bytes else "{}::text").format(sql.Identifier(column))


def dump(admin: Connection) -> dict[tuple[str, str], list[str]]:
    """Every value of every column of every table there is."""
    found: dict[tuple[str, str], list[str]] = {}
    for table, column, is_bytes in columns_of_everybody(admin):
        query = sql.SQL("select {} from {}").format(as_text(column, is_bytes=is_bytes), sql.SQL(table))
        found[table, column] = [each for (each,) in admin.execute(query) if each is not None]
    assert len(found) > 100
    return found


def places_with(admin: Connection, *words: str) -> list[tuple[str, str]]:
    """The columns that hold one of the words, given in lower case, anywhere."""
    found = []
    for place, texts in dump(admin).items():
        plain = [text.lower().replace("\\u0040", "@").replace("\\@", "@") for text in texts]
        for near in NEARLY:
            plain = [text.replace(near.lower(), "") for text in plain]
        if any(word in text for word in words for text in plain):
            found.append(place)
    return found


def rows_without(admin: Connection, *words: str) -> dict[str, set[str]]:
    """All rows without any of the words, table by table, byte for byte."""
    columns: dict[str, list[sql.Composed]] = {}
    for table, column, is_bytes in columns_of_everybody(admin):
        columns.setdefault(table, []).append(as_text(column, is_bytes=is_bytes))
    kept: dict[str, set[str]] = {}
    for table, of_table in columns.items():
        query = sql.SQL("select concat_ws('|', {}) from {}").format(sql.SQL(", ").join(of_table), sql.SQL(table))
        kept[table] = {text for (text,) in admin.execute(query) if not any(word in text.lower() for word in words)}
    return kept


def bystanders(pipeline: Pipeline) -> None:
    """Other people: some share an organization with Ada, some have addresses nearly like hers."""
    org = samples.organization("org_labs", **TIMES)
    posted(pipeline, "organization.created", org)
    for number, address in enumerate(NEARLY):
        other = samples.user(f"user_other{number}", **TIMES) | {
            "email_addresses": [samples.email_address("idn_1", address, CREATED_AT)],
            "primary_email_address_id": "idn_1",
        }
        posted(pipeline, "user.created", other)
        member = samples.membership(f"orgmem_other{number}", org, other, **TIMES)
        posted(pipeline, "organizationMembership.created", member)
        invited = samples.invitation(f"orginv_other{number}", "org_labs", **TIMES, email_address=address)
        posted(pipeline, "organizationInvitation.created", invited)
        posted(
            pipeline,
            "organizationDomain.created",
            samples.domain(f"orgdmn_other{number}", "org_labs", **TIMES, affiliation_email_address=address),
        )
        posted(pipeline, "organizationInvitation.created", {"id": f"x{number}", "email_address": address, "role": 7})


def fill_with_canaries(pipeline: Pipeline, admin: Connection) -> None:
    """Stores all data of Clerk about Ada, in every way that brings data here."""
    org = samples.organization("org_labs", **TIMES)
    posted(pipeline, "user.created", ada())
    posted(pipeline, "user.updated", ada(first_name=f"{NAME}2", updated_at=CREATED_AT + 2), at=2)
    member = samples.membership("orgmem_ada", org, ada(), **TIMES, public_metadata={"note": NAME})
    posted(pipeline, "organizationMembership.created", member | {"private_metadata": {"note": NAME}})
    for org_id in ("org_labs", "org_elsewhere"):
        invited = samples.invitation(f"orginv_{org_id}", org_id, **TIMES, email_address=ADDRESS)
        posted(pipeline, "organizationInvitation.created", invited | {"public_metadata": {"note": NAME}})
    posted(
        pipeline,
        "organizationDomain.created",
        samples.domain("orgdmn_1", "org_elsewhere", **TIMES, affiliation_email_address=SECOND.upper()),
    )
    posted(
        pipeline,
        "organizationDomain.updated",
        samples.domain(
            "orgdmn_1", "org_elsewhere", **TIMES | {"updated_at": CREATED_AT + 3}, affiliation_email_address=ADDRESS
        ),
        at=3,
    )
    # None of these can be applied. One says whose it is by an id, the others by an address somewhere inside.
    posted(pipeline, "user.updated", ada(email_addresses=7), at=4)
    posted(pipeline, "organizationInvitation.created", {"id": "orginv_x", "email_address": ADDRESS, "note": NAME})
    escaped = json.dumps({"type": "x", "data": {"note": NAME, "at": ADDRESS}}).replace("@", "\\u0040")
    without_id = json.dumps(
        samples.event("user.updated", {"email_addresses": [{"email_address": SECOND}]}, timestamp=1)
    )
    mistyped = json.dumps({"data": {"id": 7, "by": {"said": f"{NAME} <{ADDRESS}>\nbye\n{ADDRESS}"}}})
    for number, body in enumerate(
        (
            without_id,
            mistyped,
            escaped,
            f'{{"broken": "{ADDRESS}", {NAME}',
            escaped.replace('"x"', '"\\u0000"'),
            f"\udcff {PHONE} {NAME}",
        )
    ):
        park(pipeline.store, f"msg_{number}", body.encode(errors="surrogateescape"), reason_class="unusable")


def fill_every_column(admin: Connection) -> list[tuple[str, str]]:
    """Writes a canary into each possible column of a row of every table of this schema that is no mirror.

    Returns the columns that were filled.
    """
    filled = []
    columns = rows(
        admin,
        """
        select t::text, a.attname::text, format_type(a.atttypid, null)
        from clerk_sync.other_tables() as t inner join pg_attribute as a on a.attrelid = t
        -- Written by migrations only, and read as SQL.
        where t <> 'clerk_sync.kinds'::regclass and a.attnum > 0 and not a.attisdropped
        and a.atttypid in ('text'::regtype, 'jsonb'::regtype, 'bytea'::regtype, 'text[]'::regtype)
        and not exists (
            select from pg_index as i where i.indrelid = t and i.indisunique and a.attnum = any(i.indkey::int2[])
        )
        order by 1, 2
        """,
    )
    text = f"{NAME} <{ADDRESS}>"
    canaries = {
        "text": text,
        "jsonb": json.dumps({"note": text, "deeper": [{"note": text}]}),
        "bytea": json.dumps({"note": text}).encode(),
        "text[]": [text],
    }
    for table, column, kind in columns:
        update = sql.SQL("update {table} set {column} = %s where ctid = (select min(ctid) from {table})").format(
            table=sql.SQL(table),
            column=sql.Identifier(column),
        )
        try:
            if admin.execute(update, [canaries[kind]]).rowcount:
                filled.append((table, column))
        except psycopg.errors.CheckViolation:
            continue
    return filled
