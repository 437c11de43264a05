"""The mirror as models of Prisma."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from clerk_supabase_cli.operate.typings.mirror import Column, ForeignKey, Mirror, Table
from clerk_supabase_cli.operate.typings.names import camel, in_camel, pascal, quoted, unique

_ACTIONS: Final = {"a": "NoAction", "r": "Restrict", "c": "Cascade", "n": "SetNull", "d": "SetDefault"}
_TYPES: Final = {
    "bool": "Boolean",
    "bpchar": "String @db.Char(1)",
    "bytea": "Bytes",
    "citext": "String @db.Citext",
    "date": "DateTime @db.Date",
    "float4": "Float @db.Real",
    "float8": "Float",
    "inet": "String @db.Inet",
    "int2": "Int @db.SmallInt",
    "int4": "Int",
    "int8": "BigInt",
    "json": "Json @db.Json",
    "jsonb": "Json",
    "numeric": "Decimal",
    "text": "String",
    "time": "DateTime @db.Time(6)",
    "timestamp": "DateTime @db.Timestamp(6)",
    "timestamptz": "DateTime @db.Timestamptz(6)",
    "uuid": "String @db.Uuid",
    "varchar": "String @db.VarChar",
}

_HEAD: Final = """\
// Models of Clerk's users and organizations in the schema {schema}, read from the database. Only add relations to
// models of your own; print the file anew after each migration:
//
//   clerk-supabase types --prisma > prisma/clerk.prisma
//
// `clerk-supabase migrate` creates and changes these tables. In prisma/schema.prisma, name both schemas:
//
//   datasource db {{
//     provider = "postgresql"
//     schemas  = ["public", {schema}]
//   }}
//
// In prisma.config.ts, keep `prisma migrate` and `prisma db push` away (external tables, Prisma 6.13 or later):
//
//   export default defineConfig({{
//     schema: "prisma",
//     experimental: {{ externalTables: true }},
//     tables: {{
//       external: [
{external}
//       ],
//     }},
//   }})
//
// A foreign key of yours to one of these tables also needs the table in the shadow database: migrations.initShadowDb.
"""


@dataclass(frozen=True)
class _Relation:
    """A field on one side of a foreign key."""

    name: str
    type: str


def prisma(mirror: Mirror) -> str:
    """The content of a file of Prisma."""
    external = "\n".join(f"//         {quoted(f'{mirror.schema}.{table.name}')}," for table in mirror.tables)
    models = _model_names(mirror)
    fields = {table.name: in_camel(column.name for column in table.columns) for table in mirror.tables}
    relations = _relations(mirror, models, fields)
    lines = [line for table in mirror.tables for line in _model(table, mirror, models, fields[table.name], relations)]
    return "\n".join([_HEAD.format(schema=quoted(mirror.schema), external=external), *lines])


def _model_names(mirror: Mirror) -> Mapping[str, str]:
    """A model's name begins with the name of the schema: the app has a model `User` of its own."""
    names: dict[str, str] = {}
    for table in mirror.tables:
        names[table.name] = unique(pascal(f"{mirror.schema}_{table.name}"), names.values())
    return names


def _relations(
    mirror: Mirror, models: Mapping[str, str], fields: Mapping[str, Mapping[str, str]]
) -> Mapping[str, Sequence[_Relation]]:
    """The fields of each table for its foreign keys, and for the foreign keys that point to it."""
    columns = {(table.name, column.name): column for table in mirror.tables for column in table.columns}
    found: dict[str, list[_Relation]] = {table.name: [] for table in mirror.tables}

    def add(table: str, wanted: str, kind: str) -> None:
        taken = [*fields[table].values(), *(relation.name for relation in found[table])]
        found[table].append(_Relation(unique(wanted, taken), kind))

    for table in mirror.tables:
        for key in table.foreign_keys:
            if key.to not in models:
                continue
            wanted = camel(re.sub(r"^clerk_|_id$", "", key.columns[0]))
            may_be_missing = any(columns[table.name, name].is_nullable for name in key.columns)
            kind = f"{models[key.to]}{'?' if may_be_missing else ''}"
            add(table.name, wanted, f"{kind} {_relation(key, fields[table.name], fields[key.to])}")
            many = "?" if table.is_unique(key.columns) else "[]"
            add(key.to, camel(table.name), f"{models[table.name]}{many} @relation({quoted(key.name)})")
    return found


def _relation(key: ForeignKey, fields: Mapping[str, str], foreign: Mapping[str, str]) -> str:
    own, others = (", ".join(map(side.__getitem__, names)) for side, names in _sides(key, fields, foreign))
    return (
        f"@relation({quoted(key.name)}, fields: [{own}], references: [{others}], "
        f"onDelete: {_ACTIONS[key.on_delete]}, onUpdate: {_ACTIONS[key.on_update]}, map: {quoted(key.name)})"
    )


def _sides(
    key: ForeignKey, fields: Mapping[str, str], foreign: Mapping[str, str]
) -> Iterator[tuple[Mapping[str, str], Sequence[str]]]:
    yield fields, key.columns
    yield foreign, key.foreign_columns


def _model(
    table: Table,
    mirror: Mirror,
    models: Mapping[str, str],
    fields: Mapping[str, str],
    relations: Mapping[str, Sequence[_Relation]],
) -> Iterator[str]:
    yield from _documented(table.comment)
    yield f"model {models[table.name]} {{"
    for column in table.columns:
        yield from _documented(column.comment, "  ")
        yield f"  {_field(column, table, fields[column.name])}"
    for relation in relations[table.name]:
        yield f"  {relation.name} {relation.type}"
    yield ""
    yield from _attributes(table, fields)
    yield f"  @@map({quoted(table.name)})"
    yield f"  @@schema({quoted(mirror.schema)})"
    yield "}"
    yield ""


def _field(column: Column, table: Table, name: str) -> str:
    sign = "[]" if column.is_array else "?" if column.is_nullable else ""
    parts = [name, f"{_type(column)}{sign}"]
    if table.primary_key == [column.name]:
        parts.append("@id")
    if column.default_ is not None:
        parts.append(f"@default(dbgenerated({quoted(column.default_)}))")
    elif column.is_always_identity or column.is_default_identity:
        parts.append("@default(autoincrement())")
    if name != column.name:
        parts.append(f"@map({quoted(column.name)})")
    if native := _native(column):
        parts.append(native)
    return " ".join(parts)


def _type(column: Column) -> str:
    """Prisma's type; `Unsupported` keeps a column out of Prisma's client."""
    if column.base in _TYPES and not column.labels:
        return _TYPES[column.base].partition(" ")[0]
    return f"Unsupported({quoted(column.written.removesuffix('[]'))})"


def _native(column: Column) -> str:
    """The attribute with the type of Postgres; empty for Prisma's default."""
    native = "" if column.labels else _TYPES.get(column.base, "").partition(" ")[2]
    length = re.search(r"\(([0-9]+)\)", column.written)
    if column.base == "varchar" and length is None:
        return ""
    return f"{native.partition('(')[0]}({length[1]})" if native and length else native


def _attributes(table: Table, fields: Mapping[str, str]) -> Iterator[str]:
    if len(table.primary_key) > 1:
        yield f"  @@id([{_list(table.primary_key, fields)}])"
    # Prisma knows no index of a part of the rows.
    plain = [index for index in table.indexes if not index.predicate and index.columns and index.method == "btree"]
    for index in plain:
        if not index.is_primary:
            kind = "unique" if index.is_unique else "index"
            yield f"  @@{kind}([{_list(index.columns, fields)}], map: {quoted(index.name)})"
    if not any(index.is_unique for index in plain):
        # No key names a row, so Prisma's client cannot read the table.
        yield "  @@ignore"


def _list(columns: Sequence[str], fields: Mapping[str, str]) -> str:
    return ", ".join(fields[name] for name in columns)


def _documented(text: str, indent: str = "") -> Iterator[str]:
    if words := " ".join(text.split()):
        yield f"{indent}/// {words}"
