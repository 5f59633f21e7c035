"""A run as one page: a table, the histogram of latencies, and how it went second by second. No scripts, no links."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from math import log10

from loadtests.figures import BOUNDS_MS, Figures

WIDTH, HEIGHT, LEFT, BOTTOM = 860, 220, 56, 28
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 900px; margin: 2em auto; color: #222 }
table { border-collapse: collapse } td, th { padding: .15em 1.2em .15em 0; text-align: left; vertical-align: top }
td.n { text-align: right; font-variant-numeric: tabular-nums } .bad { color: #b00020; font-weight: 600 }
svg { background: #fafafa } svg text { font-size: 11px; fill: #555 } h2 { margin-top: 1.6em }
"""


def render(figures: Figures, *, title: str, about: Mapping[str, str]) -> str:
    """The page. `about` is what should be known of the run: the command, the machine, what the gateway used."""
    warning = ""
    if figures.is_own_fault:
        warning = f'<p class="bad">{escape(own_fault(figures))}</p>'
    rows = [(name, f"{value:.3f}") for name, value in figures.latency_ms.items()]
    own = [(name, f"{value:.3f}") for name, value in figures.own_lateness_ms.items()]
    faults = [(name, f"{count:,}") for name, count in figures.faults.items()] or [("none", "")]
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style></head><body>
<h1>{escape(title)}</h1>{warning}
{_table(about.items())}
<h2>Requests</h2>
{_table(_counts(figures))}
<h2>Latency, milliseconds from the intended start</h2>
{_table(rows)}
{_histogram(figures.histogram)}
<h2>Second by second</h2>
<p>Good answers (bars), p50 and p99 in milliseconds (lines, logarithmic).</p>
{_seconds(figures)}
<h2>What was not good</h2>
{_table(faults)}
<h2>The generator's own lateness, milliseconds</h2>
<p>Contained in the latencies above. {figures.late_share:.2%} of the starts were over 5 ms late;
{figures.queued:,} found all {figures.connections} connections in use.</p>
{_table(own)}
</body></html>
"""


def own_fault(figures: Figures) -> str:
    """What is said when the generator was the bottleneck."""
    return (
        f"The generator itself was the bottleneck: {figures.late_share:.1%} of its starts were over 5 ms late. "
        "The latencies say more of it than of the gateway."
    )


def _counts(figures: Figures) -> list[tuple[str, str]]:
    each = figures.messages_per_request
    return [
        ("intended", f"{figures.intended:,} at {figures.intended_per_s:,.0f}/s"),
        ("good", f"{figures.good:,} at {figures.achieved_per_s:,.0f}/s"),
        ("messages or reports in each", f"{each:,}, so {figures.achieved_per_s * each:,.0f}/s"),
        ("statuses", ", ".join(f"{status}: {count:,}" for status, count in figures.statuses.items())),
    ]


def _table(rows: Iterable[tuple[str, str]]) -> str:
    return "<table>" + "".join(f"<tr><th>{escape(a)}</th><td>{escape(b)}</td></tr>" for a, b in rows) + "</table>"


def _histogram(counts: list[int]) -> str:
    """Bars on a logarithmic axis of milliseconds; only the part that holds anything."""
    used = [place for place, count in enumerate(counts) if count]
    if not used:
        return "<p>Nothing was answered.</p>"
    first, last = max(0, used[0] - 1), min(len(counts) - 1, used[-1] + 1)
    most, step = max(counts), (WIDTH - LEFT) / (last - first + 1)
    parts: list[str] = []
    for place in range(first, last + 1):
        height = (HEIGHT - BOTTOM - 10) * counts[place] / most
        x, y = LEFT + (place - first) * step, HEIGHT - BOTTOM - height
        label = f"up to {BOUNDS_MS[place]:g} ms" if place < len(BOUNDS_MS) else f"over {BOUNDS_MS[-1]:g} ms"
        parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{step - 1:.1f}" height="{height:.1f}" fill="#3366aa">'
            f"<title>{label}: {counts[place]:,}</title></rect>"
        )
        if place < len(BOUNDS_MS) and (place - first) % 5 == 0:
            parts.append(f'<text x="{x:.1f}" y="{HEIGHT - 10}">{BOUNDS_MS[place]:g}</text>')
    parts.append(f'<text x="0" y="14">{most:,}</text><text x="0" y="{HEIGHT - 10}">ms</text>')
    return _svg(parts)


def _seconds(figures: Figures) -> str:
    if not figures.slices:
        return "<p>Nothing was answered.</p>"
    span = figures.slices[-1].second + 1
    step, most = (WIDTH - LEFT) / span, max(each.answered for each in figures.slices)
    top_ms = max(10.0, max(each.p99_ms for each in figures.slices))
    parts: list[str] = []
    for each in figures.slices:
        height = (HEIGHT - BOTTOM - 10) * each.answered / most
        x, y = LEFT + each.second * step, HEIGHT - BOTTOM - height
        said = f"second {each.second}: {each.answered:,} answers, p50 {each.p50_ms:g}, p99 {each.p99_ms:g} ms"
        parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(1.0, step - 2):.1f}" height="{height:.1f}" fill="#d5dfee">'
            f"<title>{said}</title></rect>"
        )
    for colour, values in (
        ("#3366aa", [(each.second, each.p50_ms) for each in figures.slices]),
        ("#b00020", [(each.second, each.p99_ms) for each in figures.slices]),
    ):
        points = " ".join(f"{LEFT + (at + 0.5) * step:.1f},{_height_of(ms, top_ms):.1f}" for at, ms in values)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
    parts.append(f'<text x="0" y="14">{top_ms:.0f} ms</text><text x="0" y="{HEIGHT - BOTTOM}">0.1 ms</text>')
    parts.append(f'<text x="{LEFT}" y="{HEIGHT - 10}">0 s</text>')
    parts.append(f'<text x="{WIDTH - 30}" y="{HEIGHT - 10}">{span} s</text>')
    return _svg(parts)


def _height_of(ms: float, top_ms: float) -> float:
    """Logarithmic between 0.1 ms at the bottom and `top_ms`."""
    share = log10(max(ms, 0.1) / 0.1) / log10(top_ms / 0.1)
    return 10 + (HEIGHT - BOTTOM - 10) * (1 - min(1.0, share))


def _svg(parts: list[str]) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img">{"".join(parts)}</svg>'
