"""Table 1 and the leaderboard, as text, Markdown, CSV and LaTeX."""
