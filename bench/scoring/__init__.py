"""From crystals to the tables of the tasks: scored in parts, by processes of this machine or others."""
