"""How long `mga report` takes over a run, beside only reading the run's columns; and how fast Chromium shows the page.

Usage: python bench/report.py RUN        (Chromium's part needs the extra `browser`)
"""

import argparse
import shutil
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow.parquet as pq

from mga.report.report import report
from mga.report.scan import PARTS
from mga.report.source import sources_of
from mga.runs.rows import row_files

OPENED = 5


def main() -> None:
    """Write the page of a run, open it in Chromium and print the times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    run = parser.parse_args().run
    with TemporaryDirectory() as folder:
        out = Path(folder) / "report.html"
        report([run], out)  # compiled code is in its cache now, files in the system's
        began = time.perf_counter()
        rows = sum(pq.read_table(file).num_rows for part in PARTS for file in row_files(run / part))
        reading = time.perf_counter() - began
        began = time.perf_counter()
        size = report([run], out)
        writing = time.perf_counter() - began
        print("| rows | page MB | seconds | reading alone | ratio | opened and drawn | a filter |")
        print("|---|---|---|---|---|---|---|")
        shown, filtered = in_chromium(out)
        print(
            f"| {sources_of([run])[0].rows:,} | {size / 1e6:.1f} | {writing:.1f} | {reading:.2f} | "
            f"{writing / reading:.1f} | {shown:.2f} s | {filtered:.2f} s |"
        )
        assert rows == sources_of([run])[0].rows


def in_chromium(page_file: Path) -> tuple[float, float]:
    """Medians of several openings: seconds until all charts are drawn, and until a filter has been applied."""
    from playwright.sync_api import sync_playwright

    drawn = "document.querySelectorAll('figure').length == document.querySelectorAll('.chart > svg').length"
    shown, filtered = [], []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for _ in range(OPENED):
            page = browser.new_page()
            began = time.perf_counter()
            page.goto(page_file.resolve().as_uri())
            page.wait_for_function(drawn)
            shown.append(time.perf_counter() - began)
            began = time.perf_counter()
            page.get_by_label("Text has").fill("harbour")
            filtered.append(time.perf_counter() - began)
            page.close()
        browser.close()
    return sorted(shown)[OPENED // 2], sorted(filtered)[OPENED // 2]


if __name__ == "__main__":
    main()
