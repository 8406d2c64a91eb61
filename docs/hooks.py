"""What the site has beside the pages of docs/: the files of examples/, and the help of every command."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
EXAMPLES = ("*.md", "*.py", "*.toml", "*.yml")
COMMANDS = "<!-- the help of every command -->"


def on_files(files: Files, config: Any) -> Files:
    """Adds what pages link to in examples/."""
    for path in sorted({path for pattern in EXAMPLES for path in (ROOT / "examples").rglob(pattern)}):
        files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, **rest: Any) -> str:
    """Links that are right in the repository, made right in the site; the commands where they are asked for."""
    if page.file.src_uri.startswith("examples/"):
        markdown = re.sub(r"\]\(\.\./docs/", "](../", markdown)
    elif "/" not in page.file.src_uri:
        markdown = markdown.replace("](../examples/", "](examples/")
        markdown = re.sub(r"\[([^\]]+)\]\(\.\./[^)]*\)", r"\1", markdown)  # to what the site does not have
    return markdown.replace(COMMANDS, _commands()) if COMMANDS in markdown else markdown


def _commands() -> str:
    """One section for each command: what it does, its arguments and options, as the command line itself says it."""
    import typer

    from bench.cli import app

    sections: list[str] = []

    def add(command: Any, name: str) -> None:
        for child in getattr(command, "commands", {}).values():
            add(child, f"{name} {child.name}")
        if hasattr(command, "commands"):
            return
        context = command.make_context(name, [], resilient_parsing=True)
        rows = ["| | |", "|---|---|"]
        for parameter in command.params:
            record = parameter.get_help_record(context)
            if record is not None:
                option, said = (html.escape(text, quote=False).replace("|", "&#124;") for text in record)
                rows.append(f"| <code>{option}</code> | {said} |")
        sections.append("\n".join([f"## {name}", "", command.help or "", "", *rows]))

    add(typer.main.get_command(app), "bench")
    return "\n\n".join(sections)
