"""The reference of config keys: types from `distilspark.config`, defaults and meanings from there and from `conf/`."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from distilspark import config
from distilspark.paths import CONF

COMMANDS: Mapping[str, type[Any]] = {
    "train": config.TrainConfig,
    "evaluate": config.EvaluateConfig,
    "promote": config.PromoteConfig,
    "predict": config.PredictConfig,
    "compare": config.CompareConfig,
    "server": config.ServerConfig,
}
CHOICES = {"train": ["model=distilbert"]}  # `auto` sets no values itself
NAMES = {int: "whole number", float: "number", str: "text", bool: "`true` \\| `false`", Any: "anything"}
BOUNDS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
RECIPE = re.compile(r"model\.recipe\.\$\{task\.head\}\.(\w+)")
NOTES = {
    "task": "Defaults are those of `task=cola`. A file `conf/task/NAME.yaml` sets them all.",
    "data": "`data=NAME` chooses the source.",
    "model": "Defaults are those of `model=distilbert`. A file `conf/model/NAME.yaml` sets them all.",
    "spark": "Defaults are those of `spark=local`. A file `conf/spark/NAME.yaml` sets them all.",
}


@dataclass
class Key:
    """A key of the config."""

    type: str
    meaning: str
    default: str
    commands: list[str] = field(default_factory=list)


def write() -> str:
    """Write a table of keys for each section, then one for each command that has keys outside of sections."""
    keys = read_keys()
    parts = []
    for section in dict.fromkeys(key.partition(".")[0] for key in keys if "." in key):
        rows = {key: each for key, each in keys.items() if key.startswith(f"{section}.")}
        used = dict.fromkeys(f"`{name}`" for each in rows.values() for name in each.commands)
        parts += [
            f"## `{section}`",
            f"Read by {', '.join(used)}. {NOTES.get(section, '')}",
            choices(section),
            _table(rows),
        ]
    for command in COMMANDS:
        rows = {key.split()[1]: each for key, each in keys.items() if key.startswith(f"{command} ")}
        if rows:
            parts += [f"## `{command}` itself", _table(rows)]
    return "\n\n".join(part.strip() for part in parts if part)


def choices(group: str) -> str:
    """List the files of a config group with their first comment."""
    files = [file for file in sorted((CONF / group).glob("*.yaml")) if not file.name.startswith("_")]
    if len(files) < 2:
        return ""
    return "\n".join(f"- `{group}={file.stem}`: {first_comment(file)}" for file in files)


def first_comment(file: Path) -> str:
    """Return the comment at the start of a file, without a line that shows the command."""
    lines = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        text = line.removeprefix("#").strip()
        if not text.startswith(("@package", "python -m")):
            lines.append(text)
    return " ".join(lines)


def _table(keys: Mapping[str, Key]) -> str:
    lines = ["| key | type | default | meaning |", "| --- | --- | --- | --- |"]
    lines += [f"| `{name}` | {key.type} | {key.default} | {key.meaning} |" for name, key in keys.items()]
    return "\n".join(lines)


def read_keys() -> dict[str, Key]:
    """Read all keys, in the order of the dataclasses: dotted ones once, others as `COMMAND KEY`."""
    keys: dict[str, Key] = {}
    comments, meanings = yaml_comments(), read_meanings()
    for command, schema in COMMANDS.items():
        defaults = _defaults(command)
        for name, hint, comment in walk(schema):
            known_as = name if "." in name else f"{command} {name}"
            meaning = meanings.get(known_as) or (comments.get(name) or comment).replace("|", "\\|")
            key = keys.setdefault(known_as, Key(show_type(hint), meaning, show_default(defaults, name)))
            key.commands.append(command)
    return keys


def read_meanings() -> dict[str, str]:
    """Read `meanings.yaml`."""
    return dict(yaml.safe_load((Path(__file__).parent / "meanings.yaml").read_text(encoding="utf-8")))


def walk(schema: type[Any], prefix: str = "") -> Iterator[tuple[str, Any, str]]:
    """Yield each leaf key with its type and the comment behind its field."""
    hints = get_type_hints(schema, include_extras=True)
    comments = field_comments(schema)
    for each in fields(schema):
        hint, name = hints[each.name], f"{prefix}{each.name}"
        if is_dataclass(hint):
            yield from walk(hint, f"{name}.")  # type: ignore[arg-type]
        elif get_origin(hint) is dict and is_dataclass(get_args(hint)[1]):
            yield from walk(get_args(hint)[1], f"{name}.HEAD.")
        else:
            yield name, hint, comments.get(each.name, "")


def field_comments(schema: type[Any]) -> dict[str, str]:
    """Read the comments behind a dataclass's fields, its bases' included."""
    found: dict[str, str] = {}
    for base in reversed([each for each in schema.__mro__ if is_dataclass(each)]):
        source = textwrap.dedent(inspect.getsource(base))
        lines = source.splitlines()
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.end_lineno:
                behind = lines[node.end_lineno - 1][node.end_col_offset or 0 :]
                found[node.target.id] = behind.partition("#")[2].strip()
    return found


def yaml_comments() -> dict[str, str]:
    """Read the comments behind the keys of all files in `conf/`, by their dotted keys."""
    found: dict[str, str] = {}
    for file in sorted(CONF.rglob("*.yaml")):
        group = file.parent.relative_to(CONF).as_posix().replace("/", ".").removeprefix(".")
        if group in ("task", "experiment", "hydra") or group.startswith("hydra."):
            continue
        if group and "@package _global_" in file.read_text(encoding="utf-8"):
            continue
        path: list[tuple[int, str]] = []
        for line in file.read_text(encoding="utf-8").splitlines():
            match = re.match(r"( *)([\w.]+):(?: |$)", line)
            if not match:
                continue
            depth = len(match[1])
            path = [each for each in path if each[0] < depth] + [(depth, match[2])]
            comment = re.search(r"(?:^|\s)# (.*)", line)
            name = ".".join(filter(None, [group, *(part for _, part in path)]))
            if comment and path[0][1] != "defaults":
                found.setdefault(name, comment[1])
    return found


def _defaults(command: str) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(command, CHOICES.get(command, []))


def show_default(defaults: DictConfig, name: str) -> str:
    """Write a key's default as the YAML files have it, references to other keys included."""
    node: Any = OmegaConf.to_container(defaults, resolve=False)
    for part in name.split("."):
        if not isinstance(node, dict):
            return ""
        if part == "HEAD":
            part = "classification"
        node = node.get(part)
    return _code(node)


def _code(value: Any) -> str:
    if value is None:
        return "`null`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if value == "":
        return ""
    if isinstance(value, (dict, list)):
        return f"`{_flow(value)}`" if len(_flow(value)) < 60 else "see the file"
    if found := RECIPE.search(str(value)):
        return f"`model.recipe.HEAD.{found[1]}`"
    return f"`{value}`".replace("|", "\\|")


def _flow(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return str(value)


def show_type(hint: Any) -> str:
    """Describe a type for people, as a cell of a markdown table.

    >>> show_type(config.Fraction), show_type(list[str])
    ('number ≥ 0, ≤ 1', 'list of text')
    """
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        base, *notes = parts
        if base is str and any("from_caller" in str(note) for note in notes):
            return "path or URI"
        limits = [limit for note in notes for limit in _limits(note)]
        return " ".join([show_type(base), ", ".join(limits)]).strip()
    if origin is Literal:
        return " \\| ".join(f"`{part}`" for part in parts)
    if origin in (Union, UnionType):
        return " \\| ".join("`null`" if part is NoneType else show_type(part) for part in parts)
    if origin is list:
        return f"list of {show_type(parts[0])}"
    if origin is dict:
        return f"map from {show_type(parts[0])} to {show_type(parts[1])}"
    return NAMES.get(hint, str(hint))


def _limits(note: Any) -> Iterator[str]:
    for metadata in getattr(note, "metadata", [note]):
        for name, sign in BOUNDS.items():
            if (value := getattr(metadata, name, None)) is not None:
                yield f"{sign} {'2³²' if value == 2**32 else f'{value:,}' if isinstance(value, int) else f'{value:g}'}"
