"""What pydantic found wrong, in the words of the job file: key, value, what is allowed."""

from __future__ import annotations

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticCustomError

from indexer.fields import did_you_mean
from indexer.jobfile import JobFile, Place, Problem
from indexer.quantities import shown

_MEANT = {
    **dict.fromkeys(("every", "interval", "stride", "window", "length", "duration", "seconds"), "segment"),
    **dict.fromkeys(("frame_rate", "rate"), "fps"),
    **dict.fromkeys(("path", "url", "folder", "dir", "directory", "bucket"), "uri"),
    **dict.fromkeys(("database", "db", "sql"), "catalog"),
    **dict.fromkeys(("workers", "cpus", "num_workers"), "decode_cpus"),
    **dict.fromkeys(("gpus", "num_gpus"), "gpus_per_actor"),
    **{"threshold": "min_score", "checkpoint": "weights", "dtype": "precision", "classes": "labels"},
    **{"timezone": "time_zone", "tz": "time_zone", "zone": "time_zone", "at": "cron", "expression": "cron"},
    **{"reader": "backend", "decoder": "backend", "input": "source", "videos": "source"},
}
"""Words that people write -> the key that they mean, where the spelling alone does not tell."""


def fault(key: str, sentence: str) -> PydanticCustomError:
    """A problem of one key of a section, found when the section is compared with another one."""
    return PydanticCustomError("fault", "{sentence}", {"key": key, "sentence": sentence})


def complaints(error: ValidationError, job: type[BaseModel], file: JobFile) -> list[Problem]:
    """One problem for each thing that is wrong. A value that already has a problem of its own gets no second one."""
    known = {problem.place for problem in file.problems}
    problems = []
    for details in error.errors(include_url=False):
        place: Place = details["loc"]
        if details["type"] == "fault":
            place = (*place, details["ctx"]["key"])
        if details["type"] == "too_short" and details["input"]:
            continue  # the list is not empty: its items were refused, each with a problem of its own
        if details["type"] == "extra_forbidden" or place not in known:
            problems.append(Problem(file.line_of(place), place, _sentence(details, place, job)))
    return problems


def _sentence(details: ErrorDetails, place: Place, job: type[BaseModel]) -> str:
    value, field, section = details["input"], _field(job, place), _section(job, place)
    match details["type"]:
        case "extra_forbidden":
            return _unknown_key(place, job)
        case "missing":
            return f"is required, with {', '.join(_required(section))}" if section else "is required"
        case _ if value is None:
            has_default = field is not None and not field.is_required()
            return "has no value; write one" + (", or leave the key out to get the default" if has_default else "")
        case "value_error":
            return str(details["ctx"]["error"])
        case "model_type":
            return f"must hold keys; allowed: {', '.join(section.model_fields if section else ())}"
        case "string_type":
            return (
                f'{shown(value)} is not text; write "{value}"'
                if isinstance(value, (int, float))
                else f"{shown(value)} is not text"
            )
        case "tuple_type":
            return f"{shown(value)} is not a list; write [{shown(value)}]"
        case "too_short":
            return "is an empty list; name at least one, or leave the key out to get the default"
    return details["msg"]


def _unknown_key(place: Place, job: type[BaseModel]) -> str:
    *above, key = (str(key) for key in place)
    section = _section(job, place[:-1]) or job
    keys = list(section.model_fields)
    meant = _MEANT.get(key.lower())
    question = f"did you mean '{meant}'? " if meant in keys else did_you_mean(key, keys)
    homes = [name for name in job.model_fields if key in getattr(_section(job, (name,)), "model_fields", ())]
    if not question and homes:
        question = f"it belongs in {' or '.join(homes)}; "
    return f"not a key of {above[0] if above else 'a job'}; {question}allowed: {', '.join(keys)}"


def _field(job: type[BaseModel], place: Place) -> FieldInfo | None:
    """The declaration of the key at `place`, if it is a key."""
    model = _section(job, place[:-1]) if len(place) > 1 else job
    return model.model_fields.get(str(place[-1])) if model and place else None


def _section(job: type[BaseModel], place: Place) -> type[BaseModel] | None:
    """The model of the section at `place`, if it is a section."""
    field = job.model_fields.get(str(place[0])) if len(place) == 1 else None
    kind = field.annotation if field else None
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _required(section: type[BaseModel]) -> list[str]:
    return [key for key, field in section.model_fields.items() if field.is_required()]
