"""The card of a row: what its author says of the model and the crystals, checked field by field."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bench.atomic import read_json
from bench.datasets import canonical_name
from bench.model_specs import MODEL_NAME, RESERVED_NAMES
from bench.sampling.file_costs import FileCosts
from bench.store import CARD, MANIFEST, SUMMARY

CRYSTALS = ("generated", "relaxed", "chosen")
SHA256 = re.compile(r"[0-9a-f]{64}")
Kind = Literal["text", "number", "count", "texts", "samples"]


@dataclass(frozen=True)
class Field:
    """A field of a card. choices: the only values, of a text."""

    kind: Kind
    meaning: str
    required: bool = False
    choices: Sequence[str] = ()


SAMPLES = {
    "file": Field("text", "name of the file: in the row's folder, else in BENCH_DATA_DIR/samples", required=True),
    "sha256": Field("text", "of the file", required=True),
    "url": Field("text", "where the file can be downloaded, where it is not in the row's folder"),
    "only": Field("texts", "patterns of the files in a zip that are taken, such as cifs/base/*"),
    "without": Field("texts", "patterns of the files in a zip that are left out"),
}
FIELDS = {
    "model": Field("text", "the model's name, as tables show it", required=True),
    "dataset": Field("text", "the data set by whose protocol it is scored", required=True),
    "source": Field("text", "where the crystals were published: an address or a DOI", required=True),
    "licence": Field("text", "of the crystals, such as MIT or CC-BY-4.0", required=True),
    "crystals": Field(
        "text",
        "generated: all that the model made, as it made them; relaxed: all, relaxed by the author; chosen: a choice",
        required=True,
        choices=CRYSTALS,
    ),
    "samples": Field("samples", "the file of crystals", required=True),
    "reference": Field("text", "the paper: a DOI"),
    "trained_on": Field("text", "the data that the model was trained on"),
    "device": Field("text", "what the crystals were sampled on"),
    "sampling_seconds": Field("number", "device seconds of all crystals together, without loading"),
    "load_seconds": Field("number", "seconds of starting up"),
    "steps": Field("count", "of the sampler, for one crystal"),
    "network_evaluations": Field("number", "of one crystal"),
    "num_samples": Field("count", "crystals that were asked for; those that the file does not hold count as lost"),
    "parameters": Field("count", "of the network"),
    "note": Field("text", "what a reader of the row should know"),
}
COSTS = ("sampling_seconds", "load_seconds", "steps", "network_evaluations", "num_samples")


@dataclass(frozen=True)
class SamplesFile:
    """The file of crystals by name and checksum. only, without: patterns of the members of a zip."""

    file: str
    sha256: str
    url: str | None = None
    only: tuple[str, ...] = ()
    without: tuple[str, ...] = ()

    @property
    def is_part(self) -> bool:
        """Whether some members of a zip are meant, not all."""
        return bool(self.only or self.without)


@dataclass(frozen=True)
class RowCard:
    """A card that was checked. name: of the row's folder. content: as it stands in the file."""

    name: str
    content: Mapping[str, Any]

    @classmethod
    def read(cls, folder: Path) -> RowCard:
        """The card in a row's folder. ValueError names the file, the field, its value and what it should be."""
        path = folder / CARD
        if not path.is_file():
            raise ValueError(f"{folder}: no row there (no {CARD}); `bench rows add` makes one")
        name = folder.resolve().name
        if not MODEL_NAME.fullmatch(name) or name in RESERVED_NAMES:
            raise ValueError(f"{folder}: the folder of a row is named with letters, digits and . _ + @ -")
        return cls(name, checked(read_json(path), str(path)))

    @property
    def model(self) -> str:
        """The model's name as tables show it."""
        return str(self.content["model"])

    @property
    def dataset(self) -> str:
        """The name of the data set."""
        return canonical_name(self.content["dataset"])

    @property
    def samples(self) -> SamplesFile:
        """The file of crystals."""
        said = self.content["samples"]
        patterns = {key: tuple(said.get(key, ())) for key in ("only", "without")}
        return SamplesFile(said["file"], said["sha256"], said.get("url"), **patterns)

    @property
    def costs(self) -> FileCosts:
        """What the crystals cost, as far as the card says it."""
        said = {key: self.content[key] for key in COSTS if key in self.content}
        measured = {"device": self.content["device"]} if "device" in self.content else None
        return FileCosts(**said, measured=measured)


def checked(content: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    """The content of a card, where it is one. ValueError names the field, its value and what it should be."""
    _check(content, FIELDS, where, "")
    _check(content["samples"], SAMPLES, where, "samples.")
    said = content["samples"]
    if not SHA256.fullmatch(said["sha256"]):
        raise ValueError(f"{where}: samples.sha256 is {said['sha256']!r}, not 64 digits of 0-9 and a-f")
    if said["file"] != Path(said["file"]).name:
        raise ValueError(f"{where}: samples.file is {said['file']!r}; name the file alone, without folders")
    if said["file"] in (CARD, MANIFEST, SUMMARY):
        raise ValueError(f"{where}: samples.file is {said['file']!r}, as another file of a row; give it another name")
    if (said.get("only") or said.get("without")) and not said["file"].endswith(".zip"):
        raise ValueError(f"{where}: samples.only and samples.without choose among the files of a zip")
    canonical_name(content["dataset"])
    return content


def schema() -> dict[str, Any]:
    """The JSON Schema of a card, for editors and other programs; `checked` holds a card to the same fields."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Card of a row of crysldm-bench",
        **_object(FIELDS),
    }


def _check(content: Any, fields: Mapping[str, Field], where: str, place: str) -> None:
    for key in content:
        if key not in fields:
            raise ValueError(f"{where}: unknown field {place}{key}; known are {', '.join(fields)}")
    for key, field in fields.items():
        if key not in content:
            if field.required:
                raise ValueError(f"{where}: no {place}{key} ({field.meaning})")
        elif fault := _fault(content[key], field):
            raise ValueError(f"{where}: {place}{key} is {json.dumps(content[key])}, not {fault}")


def _fault(value: Any, field: Field) -> str:
    """What the value should be; empty where it is that."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf")
    match field.kind:
        case "text" if field.choices and value not in field.choices:
            return f"one of {', '.join(field.choices)}"
        case "text" if not isinstance(value, str) or not value.strip() or not value.isprintable():
            return "a text of one line"
        case "number" if not is_number:
            return "a number >= 0; leave out what is not known"
        case "count" if not is_number or value != int(value):
            return "a whole number >= 0; leave out what is not known"
        case "texts" if not isinstance(value, list) or not value or not all(isinstance(v, str) and v for v in value):
            return "a list of texts"
        case "samples" if not isinstance(value, Mapping):
            return "an object with file and sha256"
    return ""


def _object(fields: Mapping[str, Field]) -> dict[str, Any]:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": [name for name, field in fields.items() if field.required],
        "properties": {name: {"description": field.meaning, **_type(field)} for name, field in fields.items()},
    }


def _type(field: Field) -> dict[str, Any]:
    match field.kind:
        case "number":
            return {"type": "number", "minimum": 0}
        case "count":
            return {"type": "integer", "minimum": 0}
        case "texts":
            return {"type": "array", "minItems": 1, "items": {"type": "string", "minLength": 1}}
        case "samples":
            return _object(SAMPLES)
    return {"type": "string", "minLength": 1, **({"enum": list(field.choices)} if field.choices else {})}
