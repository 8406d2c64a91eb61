"""One HTML file that shows everything of one or more runs."""
