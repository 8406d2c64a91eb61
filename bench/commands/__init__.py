"""What the commands do, one file a command; `bench.cli` parses their options."""
