"""The page of one run: report.html, its charts, and the table on the terminal."""
