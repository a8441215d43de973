"""Who contributed when, as a picture: a row for each site, a column for each round."""

from collections.abc import Sequence

from markupsafe import Markup

from fl_app.runs.documents import RoundLine
from fl_app.runs.report.charts import px, svg

# Outcomes of a site in a round: each has a shape of its own, since colours alone do not tell everybody.
OUTCOMES = {
    "contributed": "contributed",
    "empty": "valid, but without images",
    "refused": "rejected",
    "failed": "failed",
    "late": "late",
    "absent": "absent",
}
_LETTER = 6.6  # width of a letter, in CSS pixels
_MOST_SITES, _MOST_ROUNDS = 60, 400  # in the picture of outcomes; the table has all


def outcomes_chart(rounds: Sequence[RoundLine], key: str) -> Markup | None:
    """Return who contributed when: a row for each site, a column for each round; None if there is no round."""
    shown = rounds[-_MOST_ROUNDS:]
    sites = sorted({site for one in shown for site in one.nodes})[:_MOST_SITES]
    if not shown or not sites:
        return None
    size, left, top = (14 if len(shown) <= 60 else 9), 8 + 7 * min(max(map(len, sites)), 22), 34
    height = top + size * len(sites) + 6
    parts, full, x, label_end, before, seen = [], list[str](), float(left), 0.0, "", dict[str, int]()
    for one in shown:
        if one.task != before:
            x = max(x + size, label_end) if before else x
            before, label_end = one.task, x + _LETTER * len(one.task) + 10
            parts.append(Markup('<text x="{0}" y="22">{1}</text>').format(px(x), one.task))
        for row, site in enumerate(sites):
            node = one.nodes.get(site)
            if node is not None:
                seen[node.outcome] = seen.get(node.outcome, 0) + 1
                if node.outcome == "contributed":  # most of them: one path for all
                    full.append(f"M{px(x + 1)},{top + size * row + 1}h{size - 2}v{size - 2}h{2 - size}z")
                    continue
                why = f"{site}, {one.task} round {one.round}: {OUTCOMES[node.outcome]}"
                parts.append(
                    _cell(node.outcome, x, top + size * row, size, f"{why}. {node.reason}" if node.reason else why)
                )
        x += size
    parts.append(Markup('<path class="full" d="{0}"/>').format("".join(full)))
    for row, site in enumerate(sites):
        name = site if len(site) <= 22 else f"{site[:21]}…"
        parts.append(
            Markup('<text x="{0}" y="{1}" text-anchor="end">{2}</text>').format(
                left - 6, px(top + size * (row + 0.5) + 4), name
            )
        )
    totals = ", ".join(f"{OUTCOMES.get(name, name)} {times}" for name, times in seen.items())
    picture = svg(
        "Who contributed when",
        f"{len(sites)} sites, {len(shown)} rounds: {totals}.",
        max(x, label_end) + 4,
        height,
        Markup("").join(parts),
        key,
        is_fixed=True,
    )
    legend = Markup("").join(
        Markup('<li><svg class="key" viewBox="0 0 14 14" aria-hidden="true">{0}</svg>{1}</li>').format(
            _cell(name, 0, 0, 14, ""), text
        )
        for name, text in OUTCOMES.items()
        if name in seen
    )
    return Markup(
        '<div class="scroll" tabindex="0" role="group" aria-label="Who contributed when">{0}</div>'
        '<ul class="legend">{1}</ul>'
    ).format(picture, legend)


def _cell(outcome: str, x: float, y: float, size: float, why: str) -> Markup:
    """Return the mark of an outcome: full, hollow, crossed, barred, half, or a dot."""
    a, b, c, d = x + 1, y + 1, x + size - 1, y + size - 1
    shapes = {
        "contributed": f'<rect class="full" x="{a}" y="{b}" width="{c - a}" height="{d - b}"/>',
        "empty": f'<rect class="hollow" x="{a + 1}" y="{b + 1}" width="{c - a - 2}" height="{d - b - 2}"/>',
        "refused": f'<path class="bad" d="M{a},{b}L{c},{d}M{a},{d}L{c},{b}"/>',
        "failed": f'<path class="bad" d="M{a},{d}L{(a + c) / 2},{b}L{c},{d}Z"/>',
        "late": f'<rect class="late" x="{a}" y="{(b + d) / 2}" width="{c - a}" height="{(d - b) / 2}"/>',
        "absent": f'<circle class="absent" cx="{(a + c) / 2}" cy="{(b + d) / 2}" r="2"/>',
    }
    shape = Markup(shapes.get(outcome, shapes["absent"]))
    return Markup("<g>{0}{1}</g>").format(Markup("<title>{0}</title>").format(why) if why else "", shape)
