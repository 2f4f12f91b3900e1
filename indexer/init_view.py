"""`indexer init`: prints a job file for a source, or the facts about it."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from pathlib import Path

from pydantic import ValidationError

from indexer.errors import ConfigError
from indexer.init.draft import choose, describe, draft
from indexer.init.survey import survey
from indexer.storage.address import is_s3
from indexer.views import complain, print_json


def show_init(uri: str, *, as_json: bool) -> None:
    """Raises SourceError, CredentialsError and ConfigError, as a run with this source would."""
    from indexer.infer.devices import find_gpus

    place = uri if is_s3(uri) or "://" in uri else os.path.normpath(Path(uri).expanduser().absolute())
    try:
        found = survey(place)
    except ValidationError as error:
        raise ConfigError(f"{uri}: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from None
    choices = choose(found, gpu=bool(find_gpus().names))
    text = draft(found, choices)
    if as_json:
        print_json(asdict(found) | {"choices": asdict(choices), "job": text})
        return
    sys.stdout.write(text)
    for line in describe(found):
        complain(line)
