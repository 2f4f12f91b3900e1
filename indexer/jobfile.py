"""From the text of a job file to plain values, with the line of every key. What the keys mean is not known here.

A job file is read as a careful subset of YAML: one document of mappings, lists and words. Anchors and aliases are refused
(a few lines of them can stand for gigabytes), so are tags, and no guess is made where YAML versions disagree about a word.
`${VAR}` and `${VAR:-default}` are filled in from the environment, inside values only; `$${` stands for `${`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from indexer.errors import ConfigError

Place = tuple[str | int, ...]
"""Where a value stands: ("sampling", "segment"), or ("source", "include", 0)."""

_MOST_BYTES = 1_000_000
_MOST_LEVELS = 20

_SECRET = re.compile(r"secret|passw(or)?d|passphrase|token|access_?key|api_?key|private_?key|credential", re.IGNORECASE)
_PASSWORD = re.compile(r"postgres[^/]*://([^/@:]*:[^@]+@|.*[?&][a-z]*password=[^&])")
"""In the address of a database, without what the environment puts into it."""
_REFERENCE = re.compile(r"\$\$\{|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(:-(?P<default>((?!\$\{)[^}])*))?\}|\$\{[^}]*\}?")

# Words without quotes. Numbers are those of JSON and a little more; 010, 0x10, 1_000 and 1:30 are numbers in some YAML only,
# so they stay text, and whoever wanted a number there says what to write.
_NULL = re.compile(r"~|null|Null|NULL|")
_BOOLEAN = re.compile(r"(?i:true|false|yes|no|on|off)")
_WHOLE = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")
_DECIMAL = re.compile(r"[-+]?(\.[0-9]{1,18}|[0-9]{1,18}(\.[0-9]{0,18})?)([eE][-+]?[0-9]{1,2})?")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with the job file."""

    line: int
    """Counted from 1."""
    place: Place
    """Empty if the problem is no single key's."""
    sentence: str


@dataclass(frozen=True, slots=True)
class JobFile:
    """What one job file says. A value with a problem is None."""

    values: dict[str, object]
    lines: dict[Place, int]
    problems: list[Problem]

    def line_of(self, place: Place) -> int:
        """The line of this key, or of the nearest key above it that is in the file."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place, 1)


def read_job_file(path: Path, environment: Mapping[str, str]) -> JobFile:
    """Read the file; raise ConfigError where it cannot be read at all. Problems of single values are collected."""
    text = _read_text(path)
    try:
        _refuse_what_no_job_needs(path, text)
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise report(
            path, [Problem(line, (), f"the character U+{ord(text[error.position]):04X} is not allowed in YAML")]
        ) from None
    except yaml.MarkedYAMLError as error:
        raise report(path, [_syntax_problem(error, text)]) from None
    if root is None:
        raise ConfigError(f"{path}: is empty; a job needs at least name, source and model")
    if not isinstance(root, yaml.MappingNode):
        raise report(path, [Problem(_line(root), (), "a job file is a mapping of keys, such as name: archive")])
    reader = _Reader(environment)
    return JobFile(reader.mapping(root, ()), reader.lines, reader.problems)


def report(path: Path, problems: list[Problem]) -> ConfigError:
    """All problems as one error, one a line, from the top of the file to its end: `jobs/a.yaml:7 source.uri: sentence`."""
    ordered = sorted(problems, key=lambda problem: problem.line)
    return ConfigError("\n".join(f"{path}:{p.line}{_spelled(p.place)}: {p.sentence}" for p in ordered))


def _spelled(place: Place) -> str:
    """` source.include[0]`; nothing for the file as a whole."""
    keys = [f"[{key}]" if isinstance(key, int) else f".{key if key.isprintable() else json.dumps(key)}" for key in place]
    return " " + "".join(keys).removeprefix(".") if keys else ""


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            data = stream.read(_MOST_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file") from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: is a folder, not a job file") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    if len(data) > _MOST_BYTES:
        raise ConfigError(f"{path}: is larger than 1 MB, so it is hardly a job file")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise report(path, [Problem(line, (), "is not UTF-8 text; save the file as UTF-8")]) from None


def _refuse_what_no_job_needs(path: Path, text: str) -> None:
    """Looks at the stream of YAML events: nothing is built, so nothing can blow up."""
    documents = level = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        documents += isinstance(event, yaml.DocumentStartEvent)
        level += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        sentence = None
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            sentence = "anchors (&) and aliases (*) are not allowed in a job file; write the value out, or put it in quotes"
        elif isinstance(event, yaml.NodeEvent) and getattr(event, "tag", None):
            sentence = "tags (!) are not allowed in a job file; if the value begins with !, put it in quotes"
        elif level > _MOST_LEVELS:
            sentence = "is nested too deeply"
        elif documents > 1:
            sentence = "a second document begins here; one file holds one job"
        if sentence:
            line = event.start_mark.line + 1 if event.start_mark else 1
            raise report(path, [Problem(line, (), sentence)])


def _syntax_problem(error: yaml.MarkedYAMLError, text: str) -> Problem:
    mark = error.problem_mark
    line = mark.line + 1 if mark else 1
    sentence = f"is not valid YAML: {error.problem}"
    begin = error.context_mark
    if begin and error.context:
        sentence += f" ({error.context} that begins on line {begin.line + 1})"
    here = (text.splitlines() or [""])[min(line, len(text.splitlines())) - 1]
    if begin and error.context == "while scanning an alias":
        sentence += "; put a word that begins with * in quotes"
    elif "\\t" in str(error.problem):
        sentence += "; indent with spaces, not with tabs"
    elif "${" in here:
        sentence += '; inside [ ] and { } a "${VAR}" needs quotes'
    return Problem(line, (), sentence)


def _line(node: yaml.Node) -> int:
    return node.start_mark.line + 1


class _Reader:
    """Walks the YAML nodes of one file, once."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.lines: dict[Place, int] = {}
        self.problems: list[Problem] = []
        self._environment = environment

    def mapping(self, node: yaml.MappingNode, place: Place) -> dict[str, object]:
        values: dict[str, object] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self._complain(_line(key_node), place, "a key must be one word")
                continue
            here, line = (*place, key_node.value), _line(key_node)
            if here in self.lines:
                self._complain(line, here, f"is written twice; the first is on line {self.lines[here]}")
                continue
            self.lines[here] = line
            value = self._value(value_node, here)
            if _SECRET.search(key_node.value):
                sentence = "secrets stay out of job files; credentials come from the environment or the AWS credential chain"
                self._complain(line, here, sentence)
            else:
                values[key_node.value] = value
        return values

    def _value(self, node: yaml.Node, place: Place) -> object:
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, place)
        if isinstance(node, yaml.SequenceNode):
            items: list[object] = []
            for index, item in enumerate(node.value):
                self.lines[(*place, index)] = _line(item)
                items.append(self._value(item, (*place, index)))
            return items
        return self._word(node.value, place, quoted=getattr(node, "style", None) is not None)

    def _word(self, text: str, place: Place, *, quoted: bool) -> object:
        if not quoted and _NULL.fullmatch(text):
            return None
        if not quoted and _BOOLEAN.fullmatch(text):
            sentence = f'{text} is read as a boolean, and no key takes one; if the word is meant, write "{text}"'
            self._complain(self.lines[place], place, sentence)
            return None
        if not quoted and _WHOLE.fullmatch(text):
            return int(text)
        if not quoted and _DECIMAL.fullmatch(text) and not re.match(r"[-+]?0[0-9]", text):
            return float(text)
        return self._filled_in(text, place)

    def _filled_in(self, text: str, place: Place) -> str | None:
        """The text with its ${VAR}s replaced; None if nothing is left, which is how a variable leaves a key unset."""
        sentences = []

        def fill_in(match: re.Match[str]) -> str:
            name, default = match["name"], match["default"]
            if match[0] == "$${":
                return "${"
            if name is None:
                form = json.dumps(match[0], ensure_ascii=False)
                sentences.append(f"{form} is not understood; write ${{VAR}} or ${{VAR:-default}}, or $${{ for a plain ${{")
            elif default is not None:
                return self._environment.get(name) or default
            elif name not in self._environment:
                sentences.append(f"the environment variable {name} is not set; set it, or write ${{{name}:-default}}")
            return self._environment.get(name, "") if name else ""

        filled = _REFERENCE.sub(fill_in, text)
        if _PASSWORD.search(_REFERENCE.sub(lambda match: match["default"] or "", text)):
            sentences.append(
                "holds a password, and secrets stay out of job files; write ${VAR} in its place, or leave it out and set"
                " PGPASSWORD or keep it in ~/.pgpass"
            )
        for sentence in sentences:
            self._complain(self.lines[place], place, sentence)
        return None if sentences else filled or None

    def _complain(self, line: int, place: Place, sentence: str) -> None:
        self.problems.append(Problem(line, place, sentence))
