"""One HTML file that needs nothing else: no network, no other file.

Data goes into it as JSON in a script element that is never run, with every "<" written as \\u003c, so that no text can
end the element. The page's own scripts are allowed by their hashes and nothing else is (Content-Security-Policy): a
script that got in by some other way would not run, and no address could be asked.
"""

from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from html import escape
from importlib.metadata import version
from pathlib import Path

from mga.report.blocks import Section
from mga.report.examples import Examples
from mga.report.inert import inert

_ASSETS = Path(__file__).parent / "assets"
_SCRIPTS = ("plot.js", "blocks.js", "charts.js", "browser.js", "page.js")
GENERATOR = '<meta name="generator" content="mga">'
"""What tells a page of ours from another file."""


def page(
    title: str, note: str, sections: Sequence[Section], runs: Sequence[str], examples: Examples, counted: str = ""
) -> bytes:
    """The page. `runs` are the names that examples give by their number, `counted` says of how many they are."""
    scripts = [(_ASSETS / name).read_text(encoding="utf-8") for name in _SCRIPTS]
    data = {
        "sections": sections,
        "runs": runs,
        "examples": {"originals": examples.originals, "rows": examples.rows},
        "counted": counted,
    }
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src {' '.join(map(_hash, scripts))}; "
    policy += "base-uri 'none'; form-action 'none'"
    running = "\n".join(f"<script>{script}</script>" for script in scripts)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
{GENERATOR}
<title>{escape(title)}</title>
<style>
{(_ASSETS / "page.css").read_text(encoding="utf-8")}</style>
</head>
<body>
<a class="skip" href="#main">To the figures</a>
<header>
<h1><bdi>{escape(title)}</bdi></h1>
<p>{escape(note)}</p>
<nav aria-label="Parts of this page"><ul></ul></nav>
</header>
<main id="main"><noscript><p>This page draws itself with JavaScript, which is switched off here.</p></noscript></main>
<footer>Made by mga {escape(version("mga"))}. Charts: Observable Plot and D3 (ISC licence).</footer>
<script type="application/json" id="data">{inert(data).decode()}</script>
{running}
</body>
</html>
""".encode()


def _hash(script: str) -> str:
    return f"'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'"
