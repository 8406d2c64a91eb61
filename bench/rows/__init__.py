"""Published models as rows beside ours: a folder with a card, perhaps the crystals, and their scores.

ROWS/NAME/card.json        what the author says (`bench.rows.card`)
ROWS/NAME/samples.zip      the crystals, where their licence lets them be passed on; any format that is read
ROWS/NAME/manifest.json, summary.json    written by `bench rows score`: the folder is then read like a run's
"""
