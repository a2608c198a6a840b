"""The report of a run: figures, sentences and self-contained HTML pages."""
