"""Tables and figures, made from stored runs."""
