"""Text as a cell of a CSV file that somebody will open in a spreadsheet."""

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")


def safe_cell(text: str) -> str:
    """Text that no spreadsheet takes for a formula: an apostrophe stands in front where it would."""
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text
