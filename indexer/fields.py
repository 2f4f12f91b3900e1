"""The kinds of values that a job file holds: how each is read, and what an editor may accept for it (its JSON Schema).

Used inside `Annotated[...]` by the models in `config`. What is read wrongly raises ValueError with a sentence for the user.
Relative paths are relative to the folder of the job file, which travels as the pydantic validation context.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import unquote

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationInfo, WithJsonSchema

from indexer import quantities
from indexer.quantities import shown
from indexer.storage.address import S3_PATTERN, is_s3, parse_s3

Form = dict[str, Any]
"""A piece of JSON Schema."""

ADDRESS = r"[A-Za-z][A-Za-z0-9+.\-]+:/"
"""How s3://, https:// and the like begin. One letter before the colon is no scheme."""
VARIABLE: Form = {"type": "string", "pattern": r"\$\{"}
"""In an editor, a text with a ${VAR} in it may become anything."""
CATALOG = r"sqlite:///.*[^/]|(postgresql(\+psycopg)?|postgres)://([^/@:]*@)?[^/@]*/[^/]+"
_POSTGRESQL = re.compile(r"//([^/@]*@)?(\[[^\]/@]+\]|[^/@:\[\]]*)(:[0-9]{1,5})?/[^/?#]+(\?[^#]*)?")


class Section(BaseModel):
    """A mapping of keys in a job file."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


def reads(parse: Callable[..., object], *forms: Form) -> BeforeValidator:
    """A value that `parse` reads; `forms` are the JSON Schemas of what it accepts."""
    form = {"anyOf": [*forms, VARIABLE]}
    return BeforeValidator(parse, json_schema_input_type=Annotated[Any, WithJsonSchema(form)])


def text(pattern: str) -> Form:
    return {"type": "string", "pattern": f"^({pattern})$"}


def duration(least: str, most: str) -> BeforeValidator:
    """Float seconds."""
    return reads(partial(quantities.duration_seconds, least=least, most=most), text(quantities.DURATION_TEXT))


def pixels(least: str, most: str) -> BeforeValidator:
    """Whole number of pixels."""
    return reads(partial(quantities.pixels, least=least, most=most), {"type": "integer"}, text(quantities.PIXELS_TEXT))


def size(least: str, most: str) -> BeforeValidator:
    """Bytes."""
    return reads(partial(quantities.size_bytes, least=least, most=most), text(quantities.SIZE_TEXT))


def share(*, zero: bool = True) -> BeforeValidator:
    """0 to 1; `zero` says whether 0 itself is allowed."""
    form = {"type": "number", "minimum" if zero else "exclusiveMinimum": 0, "maximum": 1}
    return reads(partial(quantities.share, zero=zero), form, text(quantities.SHARE_TEXT))


def whole(least: int, most: int) -> BeforeValidator:
    form = {"type": "integer", "minimum": least, "maximum": most}
    return reads(partial(quantities.whole_number, least=least, most=most), form, text(quantities.WHOLE_TEXT))


def number(least: float, most: float) -> BeforeValidator:
    form = {"type": "number", "minimum": least, "maximum": most}
    return reads(partial(quantities.number, least=least, most=most), form, text(quantities.NUMBER_TEXT))


def gpus() -> BeforeValidator:
    """auto, or a number that Ray takes: 0 to 1, or whole GPUs."""

    def read(value: object) -> object:
        if value == "auto":
            return value
        try:
            amount = quantities.number(value, least=0, most=64)
        except ValueError as error:
            raise ValueError(f"{error}; write auto, or for example 1, 0.5 or 0") from None
        if amount > 1 and amount % 1:
            raise ValueError(f"{shown(value)} is not possible: a copy gets a part of one GPU (0.5), or whole GPUs (2)")
        return amount

    return reads(read, {"enum": ["auto"]}, {"type": "number", "minimum": 0, "maximum": 64}, text(quantities.NUMBER_TEXT))


def fewest_and_most(most: int) -> BeforeValidator:
    """Two whole numbers, [fewest, most], from 1 up."""
    item = {"anyOf": [{"type": "integer", "minimum": 1, "maximum": most}, text(quantities.WHOLE_TEXT), VARIABLE]}

    def read(value: object) -> object:
        if not isinstance(value, (list, tuple)) or len(value) != 2:
            raise ValueError(f"{shown(value)} is not a pair; write [fewest, most], for example [1, 4]")
        low, high = (quantities.whole_number(count, least=1, most=most) for count in value)
        if low > high:
            raise ValueError(f"[{low}, {high}] is the wrong way round; write [{high}, {low}]")
        return low, high

    form = {"type": "array", "items": item, "minItems": 2, "maxItems": 2}
    return BeforeValidator(read, json_schema_input_type=Annotated[Any, WithJsonSchema(form)])


def one_of(words: tuple[str, ...]) -> BeforeValidator:
    """One of a few words."""

    def read(value: object) -> object:
        if value not in words:
            raise ValueError(f"{shown(value)} is not allowed; {did_you_mean(value, words)}allowed: {', '.join(words)}")
        return value

    return reads(read, {"enum": list(words)})


def job_name() -> BeforeValidator:
    pattern = "[A-Za-z0-9][A-Za-z0-9._-]{0,63}"

    def read(value: object) -> object:
        if isinstance(value, str) and not re.fullmatch(pattern, value):
            raise ValueError(
                f"{shown(value)} is not a name; write up to 64 letters, digits, dots, - and _, for example archive"
            )
        return value

    return reads(read, text(pattern))


def ray_address() -> BeforeValidator:
    pattern = r"auto|[^/]+:[0-9]{1,5}"

    def read(value: object) -> object:
        if isinstance(value, str) and value.startswith("ray://"):
            raise ValueError(
                "leads to Ray's client, which cannot pass on what decoders yield; write auto, or host:6379 for the head, and"
                " run on a machine of the cluster"
            )
        if isinstance(value, str) and not re.fullmatch(pattern, value):
            raise ValueError(f"{shown(value)} is not allowed; write auto, or host:6379 for the head of a cluster")
        return value

    return reads(read, text(pattern))


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """A question to put before the list of allowed words; nothing if no known word is near."""
    lower = {name.lower(): name for name in known}
    near = get_close_matches(str(word).lower(), lower, n=1)
    return f"did you mean '{lower[near[0]]}'? " if near else ""


def absolute_path(value: str, info: ValidationInfo) -> str:
    """`value` as an absolute path: ~ expanded, `..` folded, symbolic links kept as they are."""
    if scheme := re.match(ADDRESS, value):
        raise ValueError(f"{scheme[0]}/ addresses are not allowed; write a path such as ./videos, or s3://bucket/folder")
    if not value.strip() or "\0" in value:
        raise ValueError(f"{shown(value)} is not a path")
    try:
        path = os.path.normpath(job_path(info.context).parent / Path(value).expanduser())
    except RuntimeError:
        raise ValueError(f"{shown(value)} names a user without a home folder") from None
    return "/" + path.lstrip("/")  # POSIX keeps a double slash in front; we want one name per file


def path_or_s3(value: str, info: ValidationInfo) -> str:
    """`value` as an absolute path, or as an s3:// address without a slash at its end."""
    if not is_s3(value):
        return absolute_path(value, info)
    parse_s3(value)
    return value.rstrip("/")


def place(uri: str) -> str:
    """The same for two uris that lead to the same folder."""
    return uri if is_s3(uri) else os.path.realpath(uri)


def catalog_url(value: object, info: ValidationInfo) -> str:
    """The catalog's URL, of a file with an absolute path; without a value, catalog.db in output.uri, or nothing if that is
    in S3.

    A database URL may hold a password, so no message shows it.
    """
    if value is None:
        folder = str(info.data.get("uri"))
        return "" if is_s3(folder) else _url_of(f"{folder}/catalog.db")
    scheme, colon, rest = value.partition(":") if isinstance(value, str) else ("", "", "")
    if scheme in ("postgresql+psycopg", "postgresql", "postgres"):
        if not _POSTGRESQL.fullmatch(rest):
            raise ValueError(
                "is not the address of a PostgreSQL database; write for example postgresql+psycopg://indexer@host/archive, and"
                " in a password %40 for @, %3A for :, %2F for / and %25 for %"
            )
        return f"postgresql+psycopg:{rest}"
    if colon and scheme != "sqlite" and rest.startswith("/"):
        raise ValueError(
            f"{scheme}:// is not allowed; write for example sqlite:///index/catalog.db, or postgresql+psycopg://user@host/name"
        )
    if not rest.startswith("///") or rest.endswith("/") or len(rest) == 3:
        raise ValueError("is not the address of an SQLite file; write for example sqlite:///index/catalog.db")
    if "?" in rest or rest == "///:memory:":
        raise ValueError("must name a file, without options; write for example sqlite:///index/catalog.db")
    return _url_of(absolute_path(unquote(rest[3:]), info))


def job_path(context: object) -> Path:
    """Absolute path of the job file. A Job that is built in code counts as a file job.yaml in the working folder."""
    return Path(os.path.normpath((context if isinstance(context, Path) else Path("job.yaml")).absolute()))


def _url_of(path: str) -> str:
    """% and ? mean something in a database URL; in this path they are plain characters."""
    return "sqlite:///" + path.replace("%", "%25").replace("?", "%3F")


def _relative_pattern(value: str) -> str:
    if not value or value.startswith("/"):
        raise ValueError(f"{shown(value)} never matches: patterns are relative to source.uri; write for example **/*.mp4")
    return value


PathOrS3 = Annotated[
    str,
    AfterValidator(path_or_s3),
    WithJsonSchema({"type": "string", "pattern": f"^({S3_PATTERN}$|(?!{ADDRESS}).)"}),
]
"""A path becomes absolute."""

Pattern = Annotated[str, AfterValidator(_relative_pattern), WithJsonSchema({"type": "string", "pattern": "^[^/]"})]
"""Of paths below source.uri."""
