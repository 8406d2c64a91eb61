"""What a run leaves behind: its manifest, shards of crystals, ledger of the lost ones and summary."""
