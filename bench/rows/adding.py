"""Makes the folder of a row, and finds those that there are."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.atomic import replacement, write_json
from bench.model_specs import require_distinct
from bench.rows.card import FIELDS, SAMPLES, Field, checked
from bench.run_folder.manifest import file_sha256
from bench.store import CARD


def add(
    file: Path, to: Path, name: str, said: Mapping[str, Any], further: Sequence[str] = (), copied: bool = True
) -> str:
    """Writes the card of a row and, where `copied`, the file of crystals beside it; gives a line that names both.

    to: the folder of all rows. name: of the row's own. further: fields as FIELD=VALUE, of the file as
    samples.url=VALUE; lists have commas.
    ValueError where the folder holds something, the file is none, or a field is not what it should be.
    """
    require_distinct([name])
    folder = to / name
    if not file.is_file():
        raise ValueError(f"{file}: {'a folder; pack it into a zip' if file.is_dir() else 'there is no such file'}")
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder}: is there already; edit its {CARD}, or choose another --name")
    samples: dict[str, Any] = {"file": file.name, "sha256": file_sha256(file)}
    content: dict[str, Any] = {**said, "samples": samples}
    for text in further:
        key, equals, value = text.partition("=")
        of_file = key.startswith("samples.")
        fields, into = (SAMPLES, samples) if of_file else (FIELDS, content)
        field = fields.get(key.removeprefix("samples."))
        if not equals or field is None or field.kind == "samples":
            known = [*(k for k in FIELDS if k != "samples"), *(f"samples.{k}" for k in SAMPLES)]
            raise ValueError(f"--set {text}: write FIELD=VALUE; fields are {', '.join(known)}")
        into[key.removeprefix("samples.")] = _value(value, field, text)
    checked(content, "the card")
    folder.mkdir(parents=True, exist_ok=True)
    if copied:
        with replacement(folder / file.name) as temporary:
            shutil.copyfile(file, temporary)
    write_json(folder / CARD, content)
    beside = f" and {file.name}" if copied else f"; {file.name} stays where it is"
    return f"{folder}: {CARD}{beside}; next: `python -m bench rows score {folder}`"


def row_folders(named: Sequence[Path] | None, default: Path, samples: Path | None = None) -> list[Path]:
    """The rows that are named, else all folders with a card in the default one.

    ValueError where there is none, or where a file of samples is given for more than one.
    """
    folders = list(named or sorted(path.parent for path in default.glob(f"*/{CARD}")))
    if not folders:
        raise ValueError(f"no row in {default}/; name the folder of a row, or make one with `bench rows add`")
    if samples is not None and len(folders) > 1:
        raise ValueError(f"--samples {samples}: name the one row that it belongs to")
    return folders


def _value(text: str, field: Field, option: str) -> Any:
    if field.kind == "texts":
        return [part for part in text.split(",") if part]
    if field.kind == "text":
        return text
    try:
        number = float(text)
    except ValueError:
        raise ValueError(f"--set {option}: {text!r} is no number") from None
    return int(number) if number.is_integer() else number
