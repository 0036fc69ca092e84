"""What every question needs: rounds in turn, figures with their spread, one format, one page."""
