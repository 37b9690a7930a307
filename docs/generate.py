"""Writes the pages that are made from data: ``make docs``. ``--check`` only says which are old.

- ``guarantees.md`` and the table in the README from the backends' Traits, those of this project
  alone;
- ``glossary.md`` and ``faq.md`` from the words of ``electctl explain``;
- ``json.md`` from the JSON Schemas.

What this does not guarantee: that the pages are good to read. Read them.
"""

from __future__ import annotations

import argparse
import json
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from electctl.compare import markdown
from electctl.compare.promises import ROWS, Promise, promises, schemes_of, strength
from electctl.explain.glossary import Entry, load

HERE = Path(__file__).parent
ROOT = HERE.parent
SCHEMAS = ROOT / "electctl" / "schemas"

_GUARANTEES = """\
# What each backend promises

`electctl compare` prints this for the backends that are installed, with your TTL put in. These
are claims, each under its assumptions; what is lost when one fails stands under *What breaks it*.
For a leader that acts after its lease, which no backend can prevent, there is the
[fencing token](glossary.md#fencing-token). What an answer to "who leads?" is worth:
[check.md](check.md#what-the-answer-is-worth).

In a formula `holder_ttl` is the TTL of the leader that crashed, which is what the others wait for,
`ttl` that of those who wait, and `dead_waiters` how many of those next in line vanished with it.
"""
_FROM = "<!-- from the backends' traits: make docs -->"
_TO = "<!-- end -->"
_KEPT_OUT = "two leaders are kept out by"
_README_HEADS = (
    "scheme",
    "who leads",
    _KEPT_OUT,
    "fencing token",
    "two leaders are possible after",
)
_FAQ = """\
# Questions that are often asked

Also in the terminal: `electctl explain faq`.
"""
_GLOSSARY = """\
# Glossary

Also in the terminal: `electctl explain TERM`.
"""
_JSON = """\
# JSON

Every output of `--json` is one object a line, in plain ASCII, with a JSON Schema (draft 2020-12)
that ships in the package:

```sh
python -c 'from importlib.resources import files; print(files("electctl") / "schemas")'
```

`campaign` writes its events to stderr, because stdout is the command's own, and so does
`raft serve`; all others write to stdout. Errors stay text on stderr, also with `--json`: what a
script needs is the [exit code](exit-codes.md). Fields are only ever added, so ignore those that you
do not know. `electctl holders nightly --json` with three who wait:

```json
{"ts": "2026-01-31T02:00:04.118Z", "event": "holder", "election": "nightly", "backend": "etcd",
 "holder": "host-a", "token": 4711, "url": "etcd://127.0.0.1:2379",
 "waiting": ["host-b", "host-c", "host-d"], "since": null, "ttl": 10.0, "expires_in": 7.2}
```

A field in *italics* is not always there.
"""


def pages() -> dict[Path, str]:
    """Every generated page: file → text."""
    return {
        ROOT / "README.md": _readme(),
        HERE / "guarantees.md": _guarantees(),
        HERE / "faq.md": _faq(),
        HERE / "glossary.md": _glossary(),
        HERE / "json.md": _json(),
    }


def _ours() -> list[Promise]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    ours = list(project["project"]["entry-points"]["electctl.backends"])
    return sorted(promises(ours), key=lambda each: strength(each.traits))


def _guarantees() -> str:
    return _GUARANTEES + "\n" + markdown.document(_ours(), opening=True)


def _readme() -> str:
    """The README, with its table of schemes written anew between the two marks."""
    before, _, rest = (ROOT / "README.md").read_text().partition(_FROM)
    _, _, after = rest.partition(_TO)
    table = markdown.table(_README_HEADS, map(_scheme_row, _ours()))
    return f"{before}{_FROM}\n{table}\n{_TO}{after}"


def _scheme_row(promise: Promise) -> list[str]:
    traits = promise.traits
    faults = [w.fault for w in traits.weaknesses if "exclusion" in w.breaks and w.fault]
    return [
        schemes_of(promise),
        traits.mechanism,
        ROWS[_KEPT_OUT](promise),
        ROWS["fencing token"](promise),
        ", ".join(dict.fromkeys(faults)),
    ]


def _faq() -> str:
    parts = [_FAQ.rstrip()]
    for question in load().questions:
        parts += [f"## {question.brief}", question.what, _see(question), _commands(question)]
    return "\n\n".join(parts) + "\n"


def _glossary() -> str:
    parts = [_GLOSSARY.rstrip()]
    for term in sorted(load().terms, key=lambda term: term.name.casefold()):
        also = f" Also: {', '.join(term.aliases)}." if term.aliases else ""
        parts += [f"## {term.name}", f"*{term.brief[:1].upper()}{term.brief[1:]}.*{also}"]
        parts += [term.what, f"**How it goes wrong.** {term.wrong}"]
        said = "; ".join(f'"{said}"' for said in term.said)
        parts += [f"**How engineers say it.** {said}.", _commands(term), _see(term)]
    return "\n\n".join(parts) + "\n"


def _commands(entry: Entry) -> str:
    return "\n".join(f"- `{example.run}`: {example.shows}" for example in entry.commands)


def _see(entry: Entry) -> str:
    links = (f"[{name}](glossary.md#{_anchor(name)})" for name in entry.see)
    return f"See {', '.join(links)}."


def _anchor(heading: str) -> str:
    return heading.casefold().replace(" ", "-").replace("'", "")


# JSON --------------------------------------------------------------------------------------------


_HEADS = ("field", "type", "")


def _json() -> str:
    parts = [_JSON.rstrip()]
    for path in sorted(SCHEMAS.glob("*.schema.json")):
        schema = json.loads(path.read_text())
        if path.name.startswith("compare."):
            as_there = {"type": "object", "description": "As under [backends](#backends)."}
            schema["properties"]["traits"] = as_there
        parts += [f"## {path.name.removesuffix('.schema.json')}", f"{schema['title']}."]
        if "description" in schema:
            parts.append(schema["description"])
        shapes = [_resolved(schema, shape) for shape in schema.get("oneOf", [schema])]
        tables = [markdown.table(_HEADS, _fields(schema, shape, "")) for shape in shapes]
        parts.append("\n\nOr:\n\n".join(tables))
        if extra := list(_conditions(schema)):
            parts.append("\n".join(extra))
        parts.append(f"Schema: `{path.name}`.")
    return "\n\n".join(parts) + "\n"


def _fields(root: dict[str, Any], node: dict[str, Any], prefix: str) -> Iterator[list[str]]:
    """One row a field, those of objects inside it after it."""
    for name, given in node["properties"].items():
        field = _resolved(root, given)
        path = f"{prefix}{name}"
        shown = f"`{path}`" if name in node.get("required", ()) else f"*`{path}`*"
        yield [shown, _type(root, field), field.get("description", "")]
        inner, mark = field, ""
        if "items" in field:
            inner, mark = _resolved(root, field["items"]), "[]"
        for option in (inner, *(_resolved(root, o) for o in inner.get("oneOf", ()))):
            if "properties" in option:
                yield from _fields(root, option, f"{path}{mark}.")


def _resolved(root: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    """``node`` with its reference followed; what stands beside the reference wins."""
    if "$ref" not in node:
        return node
    target: Any = root
    for part in node["$ref"].removeprefix("#/").split("/"):
        target = target[part]
    return {**target, **{key: value for key, value in node.items() if key != "$ref"}}


def _type(root: dict[str, Any], field: dict[str, Any]) -> str:
    if "const" in field:
        return f"`{json.dumps(field['const'])}`"
    if "enum" in field:
        return ", ".join(f"`{json.dumps(value)}`" for value in field["enum"])
    for union in ("anyOf", "oneOf"):
        if union in field:
            return " or ".join(_type(root, _resolved(root, option)) for option in field[union])
    kinds = field.get("type", "any")
    text = kinds if isinstance(kinds, str) else " or ".join(kinds)
    if isinstance(field.get("additionalProperties"), dict):
        return f"{text}, name to {_type(root, field['additionalProperties'])}"
    if "items" in field:
        return f"{text} of {_type(root, _resolved(root, field['items']))}"
    return str(text)


def _conditions(schema: dict[str, Any]) -> Iterator[str]:
    """What else is there for some values of a field, a line each."""
    rules = [*schema.get("allOf", ()), *([schema] if "if" in schema else [])]
    for rule in rules:
        needed = rule.get("then", {}).get("required", ())
        if "if" in rule and needed:
            tests = (
                f"`{name}` is {_type(schema, test)}"
                for name, test in rule["if"]["properties"].items()
            )
            names = ", ".join(f"`{name}`" for name in needed)
            yield f"- Where {' and '.join(tests)} there is also {names}."


def main() -> int:
    """Write the pages, or with ``--check`` exit with 1 if one of them is old."""
    parser = argparse.ArgumentParser(description="Write the pages that are made from data.")
    parser.add_argument("--check", action="store_true", help="write nothing, name the old ones")
    only_check = parser.parse_args().check
    old = [
        (path, text)
        for path, text in pages().items()
        if not path.exists() or path.read_text() != text
    ]
    for path, text in old:
        state = "is old: make docs writes it" if only_check else "written"
        sys.stdout.write(f"{path.relative_to(ROOT)} {state}\n")
        if not only_check:
            path.write_text(text)
    return 1 if only_check and old else 0


if __name__ == "__main__":
    sys.exit(main())
