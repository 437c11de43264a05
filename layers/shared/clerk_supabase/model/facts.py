"""The facts about a kind of Clerk's objects. Light on purpose: ingest loads this module at each cold start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Kind = str
"""Name of a kind. The modules of clerk_supabase.model.kinds are the kinds, and an app may add a module."""
ReadKind = Kind
"""A kind that reconcile reads from Clerk's Backend API."""
ListKind = ReadKind
"""A kind that Clerk lists by creation only: neither the latest changes nor a window of time can be asked for."""


@dataclass(frozen=True, slots=True)
class Facts:
    """Facts about a kind, besides its columns: the model of the kind has the columns."""

    kind: Kind
    write_order: int
    """Place in the order of writing, parents before their children: the second argument of clerk_sync.register()."""
    plural: str
    """Name of the objects in reports."""
    table: str
    """Table of its rows: in the schema of the mirror, or in the schema that stands before a dot."""
    key: str
    """Column of the table with the id of the object."""
    event: str
    """Type of the events, without the verb."""
    verbs: tuple[str, ...] = ("created", "updated", "deleted")
    """Verbs of Clerk's events about the kind."""
    parents: Mapping[str, Kind] = field(default_factory=dict)
    """Kinds of its parents, by the columns that name the parents."""
    list_path: str = ""
    """Path of Clerk's Backend API that lists all objects of the instance by creation; empty: there is no such list."""
    list_filters: tuple[tuple[str, str], ...] = ()
    """Parameters of every request for the list."""
    enclosing_path: str = ""
    """Path of Clerk's Backend API that lists, the newest first, the objects around the objects of this kind, which
    Clerk lists nowhere else."""
    enclosed_in: tuple[str, ...] = ()
    """Names of the arrays on the way into such an object; the last array has the objects of this kind."""
    enclosing: str = ""
    """Name of the enclosing objects in reports."""
    again_path: str = ""
    """Request to the Backend API that reads objects again.

    {id}, {user} and {organization} stand for the ids of an object and of its parents. A parameter with such a name is
    repeated for each object with the same path, so one request reads up to 100 objects. A path that ends with /{id}
    reads a single object.
    """
    gone_path: str = ""
    """Request that proves that an object is gone: Clerk answers 404, or with a complete list without the object. Empty:
    the request of `again_path`."""
    paths_of_parents: Mapping[Kind, str] = field(default_factory=dict)
    """Requests that read the only object of a parent, by the kind of the parent."""
    carrier: Kind = ""
    """Kind of the object with which Clerk sends objects of this kind whole; empty: each is sent whole alone.

    Comparisons repair an object by its carrier, which `paths_of_parents` of the carrier's facts reads.
    """
    is_listed_newest_first: bool = False
    """True: Clerk lists the objects in one order only, the newest first."""
    is_dated: bool = True
    """False: Clerk tells no times of the objects, so every run compares the whole list."""
    is_list_whole: bool = True
    """False: the list may leave objects out, so a missing object is never deleted."""
    healed_by: str = ""
    """Words about the repair of an object without a list in Clerk after a lost event; empty: a replay of messages."""
    is_read_by_id: bool = False
    """True: Clerk's Backend API reads an object by its id, or by the ids of its parents."""
    secrets: tuple[str, ...] = ()
    """Fields with secrets, such as one-time codes: ingest removes these from an event before the event waits in a queue
    or is parked."""
    keeps_private_metadata: bool = False
    """True: the stack keeps private metadata of the kind, if its parameter says so."""
    parameter: str = ""
    """Parameter of the stack that has to be above 0 for the kind to be synced; empty: the kind is always synced."""

    @property
    def is_in_mirror(self) -> bool:
        """Tells whether the table lies in the schema of the mirror. A table of the app's kind may lie elsewhere."""
        return "." not in self.table

    def relation(self, mirror: str) -> str:
        """The table with its schema. *mirror*: name of the mirror's schema."""
        return f"{mirror}.{self.table}" if self.is_in_mirror else self.table

    @property
    def repaired_as(self) -> Kind:
        """Kind of the object by which reconcile repairs an object of this kind."""
        return self.carrier or self.kind

    @property
    def whole(self) -> str:
        """Type of an event that carries the whole object, whatever has changed."""
        return f"{self.event}.{'updated' if 'updated' in self.verbs else 'created'}"
