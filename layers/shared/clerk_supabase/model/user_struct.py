"""The user of users.py, read in less than half the time: for reconcile, which reads users by the thousand.

The struct is derived from the lenient model, with the fields, limits, defaults and methods of User. The struct reads
only an object in the usual form; an object with a missing, null or odd value is left to the lenient model. No input or
output.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable
from types import FunctionType, GenericAlias, UnionType
from typing import Annotated, Any, Final, Union, cast, get_args, get_origin

import msgspec
from msgspec import Meta, Struct

from clerk_supabase.model.clerk_object import Lenient, is_usual, may_hold_nul
from clerk_supabase.model.users import User

_LIMITS: Final = ("min_length", "max_length", "ge", "le")


@functools.cache
def _struct(model: type[Lenient]) -> type[Struct]:
    """The struct with the fields and methods of a model."""
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = [
        (name, hint) if field.is_required() else (name, hint, field.default)
        for name, field in model.model_fields.items()
        for hint in [_strict(field.annotation, field.metadata)]
    ]
    methods = {
        name: each
        for base in reversed(model.__mro__[: model.__mro__.index(Lenient)])
        for name, each in vars(base).items()
        if isinstance(each, FunctionType | property) and not name.startswith("__")
    }
    return msgspec.defstruct(model.__name__, fields, namespace=methods, kw_only=True, gc=False)


def _strict(hint: Any, metadata: Iterable[Any] = ()) -> Any:
    """The type of msgspec for a field of a model, with the limits of the model and without any conversion."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _strict(arguments[0], [one for each in arguments[1:] for one in getattr(each, "metadata", [each])])
    if origin in (Union, UnionType):
        return functools.reduce(operator.or_, map(_strict, arguments))
    if origin is list:
        # Not a list: Python's garbage collector would search the thousands of lists of a page, most of them empty.
        return GenericAlias(tuple, (_strict(arguments[0]), ...))
    if origin is None and issubclass(hint, Lenient):
        return _struct(hint)
    limits = {name: getattr(each, name) for each in metadata for name in _LIMITS if hasattr(each, name)}
    return Annotated[hint, Meta(**limits)] if limits else hint


UserStruct: Final = _struct(User)
_DECODER: Final = msgspec.json.Decoder(UserStruct)
_ARRAY_DECODER: Final = msgspec.json.Decoder(list[UserStruct])  # type: ignore[valid-type] # a class made at run time
_ENCODER: Final = msgspec.json.Encoder()
_OF_ANOTHER_FORM: Final = (msgspec.DecodeError, ValueError, RecursionError)


def read_user(json: bytes) -> User | None:
    """A user in the usual form; None: the lenient model has to read the user, or to name the fault."""
    if may_hold_nul(json):
        return None
    try:
        user = cast("User", _DECODER.decode(json))
    except _OF_ANOTHER_FORM:
        return None
    return user if _has_usual_metadata(user) else None


def read_users(json: bytes) -> list[User | None]:
    """The users of an array, each as read_user() returns it, in one call of the parser.

    Empty if the array, or a single user in it, has another form: then each user has to be read alone.
    """
    if may_hold_nul(json):
        return []
    try:
        users = cast("list[User]", _ARRAY_DECODER.decode(json))
    except _OF_ANOTHER_FORM:
        return []
    return [user if _has_usual_metadata(user) else None for user in users]


def _has_usual_metadata(user: User) -> bool:
    return is_usual(user.public_metadata) and is_usual(user.unsafe_metadata)


def as_json_of_usual(value: object) -> str:
    """The JSON text of a value made from a user in the usual form, in a third of the time.

    Such a user has no text and no number that JSON cannot hold.
    """
    return _ENCODER.encode(value).decode()
