"""The style sheet of a report page: light, dark, and paper."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

LIGHT: Mapping[str, str] = MappingProxyType(
    {
        "page": "#ffffff",
        "text": "#1b1b1b",
        "quiet": "#595959",
        "rule": "#c9c9c9",
        "link": "#0b57a4",
        "none": "#ffffff",
        "h0": "#f4f4f4",
        "h1": "#cfe1f2",
        "h2": "#93c4df",
        "h3": "#2b6cad",
        "h4": "#08306b",
        "h0-text": "#1b1b1b",
        "h1-text": "#1b1b1b",
        "h2-text": "#1b1b1b",
        "h3-text": "#ffffff",
        "h4-text": "#ffffff",
        "s0": "#005b96",
        "s1": "#b34700",
        "s2": "#00704f",
        "s3": "#9b3f78",
        "s4": "#7a5c00",
        "s5": "#444444",
    }
)
"""Colours by name: `h0` to `h4` shade a heat map's cells from none to all, `s0` to `s5` are lines."""

DARK: Mapping[str, str] = MappingProxyType(
    {
        "page": "#161616",
        "text": "#ececec",
        "quiet": "#b0b0b0",
        "rule": "#4d4d4d",
        "link": "#8fc1f5",
        "none": "#161616",
        "h0": "#242424",
        "h1": "#17375c",
        "h2": "#205b95",
        "h3": "#74b3da",
        "h4": "#d9ecf9",
        "h0-text": "#ececec",
        "h1-text": "#f2f2f2",
        "h2-text": "#ffffff",
        "h3-text": "#111111",
        "h4-text": "#111111",
        "s0": "#56b4e9",
        "s1": "#ff9d5c",
        "s2": "#3ddba5",
        "s3": "#e7a6cc",
        "s4": "#f0c94a",
        "s5": "#cccccc",
    }
)


def style_sheet() -> str:
    """The whole style sheet."""
    return (
        f":root {{ color-scheme: light dark; {_variables(LIGHT)} }}\n"
        f"@media (prefers-color-scheme: dark) {{ :root {{ {_variables(DARK)} }} }}\n"
        f"@media print {{ :root {{ color-scheme: light; {_variables(LIGHT)} }} }}\n" + _RULES
    )


def _variables(colours: Mapping[str, str]) -> str:
    return " ".join(f"--{name}: {value};" for name, value in colours.items())


_RULES = """\
body { margin: 0; background: var(--page); color: var(--text);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", "Liberation Sans", Arial, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 1.5rem 1rem 3rem; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .5rem; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 2.2rem 0 .6rem; border-bottom: 1px solid var(--rule); }
h3 { font-size: 1rem; margin: 1.4rem 0 .4rem; overflow-wrap: anywhere; }
p { margin: .5rem 0; max-width: 46rem; }
p.warning { border-left: 4px solid var(--s1); padding-left: .7rem; }
code { font-family: ui-monospace, "Liberation Mono", Consolas, monospace; font-size: .9em;
  overflow-wrap: anywhere; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: .6rem 0 1rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--quiet); padding-bottom: .3rem; }
th, td { padding: .25rem .6rem; text-align: left; vertical-align: top; border-bottom: 1px solid var(--rule); }
th { font-weight: 600; }
td.number, th.number { text-align: right; white-space: nowrap; }
td.text { overflow-wrap: anywhere; min-width: 9rem; }
tr.best th, tr.best td { font-weight: 700; }
table.heat td, table.heat thead th { text-align: center; white-space: nowrap; }
table.heat td { border: 1px solid var(--page); }
table.heat td.sum { text-align: left; border: 0; border-bottom: 1px solid var(--rule); }
.untried { color: var(--quiet); background: var(--none); }
.h0 { background: var(--h0); color: var(--h0-text); } .h1 { background: var(--h1); color: var(--h1-text); }
.h2 { background: var(--h2); color: var(--h2-text); } .h3 { background: var(--h3); color: var(--h3-text); }
.h4 { background: var(--h4); color: var(--h4-text); }
figure { margin: .8rem 0 1.2rem; }
figcaption { color: var(--quiet); font-size: .95rem; }
svg.chart { width: 100%; max-width: 46rem; height: auto; display: block; }
svg .label { font-size: 12px; fill: var(--text); }
svg .grid { stroke: var(--rule); stroke-width: .7; } svg .axis { stroke: var(--quiet); }
svg .mark { stroke: var(--quiet); stroke-dasharray: 4 4; }
svg .series { fill: none; stroke-width: 2; } svg .whisker { stroke-width: 1.2; }
svg .bar { fill: var(--s0); } svg .bar.marked { fill: var(--page); stroke: var(--s1); stroke-width: 2; }
svg .halo { stroke: var(--page); stroke-width: 4.5; }
svg .interval { stroke: var(--text); stroke-width: 1.5; }
svg .s0 { stroke: var(--s0); } svg .s1 { stroke: var(--s1); } svg .s2 { stroke: var(--s2); }
svg .s3 { stroke: var(--s3); } svg .s4 { stroke: var(--s4); } svg .s5 { stroke: var(--s5); }
svg .dot { stroke: var(--page); stroke-width: 1; }
svg .dot.s0 { fill: var(--s0); } svg .dot.s1 { fill: var(--s1); } svg .dot.s2 { fill: var(--s2); }
svg .dot.s3 { fill: var(--s3); } svg .dot.s4 { fill: var(--s4); } svg .dot.s5 { fill: var(--s5); }
@page { margin: 16mm 14mm; }
@media print {
  body { font-size: 10.5pt; }
  main { max-width: none; padding: 0; }
  .h0, .h1, .h2, .h3, .h4, svg.chart { -webkit-print-color-adjust: exact; print-color-adjust: exact; }
  h2, h3, caption { break-after: avoid; }
  figure, tr, table.heat, p { break-inside: avoid; }
  thead { display: table-header-group; }
  .scroll { overflow: visible; }
  svg.chart { max-width: 100%; }
}
"""
