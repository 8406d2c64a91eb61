"""The command line: parsing only. What a command does is in `bench.commands`, imported when the command needs it."""

from bench.cli.command_line import app, main

__all__ = ["app", "main"]
