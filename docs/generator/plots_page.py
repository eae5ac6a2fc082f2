"""The template of the page that `dvc plots show` fills. It contains Vega, so that it opens without a network.

DVC's own template loads Vega from a server. The scripts here come from the installed package vl-convert-python, whose
version is pinned. `.dvc/config` names the page as `plots.html_template`; it is in git, so that `dvc plots` works in a
clone in which nothing has run yet.
"""

import functools
from pathlib import Path

import vl_convert

PAGE_PATH = Path(".dvc/plots/page.html")
# DVC calls vegaEmbed(element, specification) for each plot. Its action links are left out: they open a web site.
EMBED = "window.vegaEmbed = (where, plot) => vegaEmbed(where, plot, {actions: false, renderer: 'svg'});"
STYLE = """
body { margin: 0 auto; max-width: 1280px; padding: 24px; background: #f6f7f9; color: #1f2933;
       font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 22px; margin: 0 0 4px; }
main > div, main > div.vega-embed { display: block; background: #fff; border: 1px solid #e1e5ea; border-radius: 8px;
                                    margin: 16px 0; padding: 20px; overflow-x: auto; }
table { border-collapse: collapse; }
td, th { padding: 4px 12px; text-align: left; }
"""
PAGE = """<!DOCTYPE html>
<!-- The script is Vega, Vega-Lite and Vega-Embed, unchanged: .dvc/plots/LICENSE.txt -->
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
{refresh_tag}
<title>HiNet: plots</title>
<style>%(style)s</style>
<script>(() => { %(scripts)s })();</script>
</head>
<body>
<h1>HiNet: plots</h1>
<p>Made by <code>dvc plots show</code>; <code>dvc plots diff REVISION</code> puts another revision beside it.</p>
<main>{plot_divs}</main>
</body>
</html>
"""


@functools.cache
def page() -> str:
    """The template, with the placeholders of DVC."""
    return PAGE % {"style": STYLE, "scripts": vl_convert.javascript_bundle(EMBED)}
