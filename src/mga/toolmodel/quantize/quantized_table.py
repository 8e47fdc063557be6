"""What quantizing has cost and saved, on the screen."""

from collections.abc import Mapping
from typing import Any

from rich.markup import escape
from rich.table import Table

from mga.toolmodel.quantize.quantized_card import change_of


def quantized_report(record: Mapping[str, Any]) -> Table:
    """The original beside the quantized model."""
    found, size = record["result"]["perplexity"], record["result"]["bytes"]
    judged = record["result"].get("judged")
    table = Table(title=escape(f"{record['model']['name']}, {record['scheme']}"), title_justify="left", box=None)
    for name in ("", "original", "quantized", "change"):
        table.add_column(name, justify="right" if name else "left")
    change = change_of(found)
    table.add_row("perplexity", f"{found['before']:.3f}", f"{found['after']:.3f}", change)
    megabytes = [f"{size[when] / 1e6:,.0f} MB" for when in ("before", "after")]
    table.add_row("weights", *megabytes, f"{size['after'] / size['before']:.0%}")
    if judged:
        shares = [f"{judged[side]['acceptable']['share']:.1%}" for side in ("teacher", "student")]
        table.add_row("acceptable texts", *shares, f"{judged['difference']['mean']:+.1%}")
    table.caption = f"on {found['texts']:,} held-out texts, {found['tokens']:,} tokens"
    table.caption_justify = "left"
    return table
