"""The style sheet of a report: light, dark, phone and print; colours that colour-blind readers can tell apart."""

STYLE = """
:root { color-scheme: light dark; --bg: #fbfbfa; --card: #ffffff; --ink: #1a1d21; --soft: #50565e; --line: #d5d9de;
  --heat: 0 96 160; --link: #00558c; --good: #00664d; --warn: #8a4b00; --bad: #a3261b; --going: #00558c;
  --s0: #0072b2; --s1: #b34700; --s2: #00795c; --s3: #a0447a; --s4: #7d6300; --s5: #50565e; }
@media (prefers-color-scheme: dark) { :root { --bg: #14171a; --card: #1c2024; --ink: #e9ebee; --soft: #b0b7bf;
  --line: #3b424a; --heat: 86 180 233; --link: #8cc8f2; --good: #5fd3ae; --warn: #f2b366; --bad: #ff9a8d;
  --going: #8cc8f2; --s0: #56b4e9; --s1: #f29559; --s2: #3cc79a; --s3: #e29cc5; --s4: #e6c229; --s5: #b0b7bf; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--bg); color: var(--ink); font: 16px/1.5 system-ui, -apple-system, "Segoe UI",
  Roboto, "Helvetica Neue", "Noto Sans", sans-serif; overflow-wrap: anywhere; }
main, header, footer { max-width: 72rem; margin: 0 auto; padding: 0 1.25rem; }
header { padding-top: 1.5rem; }
a { color: var(--link); }
h1 { font-size: 1.15rem; font-weight: 600; margin: 0; }
h2 { font-size: 1.35rem; line-height: 1.25; margin: 2.75rem 0 .75rem; }
h2:first-of-type { margin-top: 1.75rem; }
h3 { font-size: 1.02rem; margin: 1.5rem 0 .5rem; }
p { margin: .4rem 0; max-width: 46rem; }
.soft, .note, figcaption { color: var(--soft); font-size: .9rem; }
nav { font-size: .92rem; margin: 1.5rem 0 0; padding: .6rem 0; border: solid var(--line); border-width: 1px 0; }
nav ul { list-style: none; display: flex; flex-wrap: wrap; gap: .25rem 1.1rem; margin: 0; padding: 0; }
.verdict { border-left: .5rem solid var(--c); padding: .1rem 0 .1rem 1.1rem; margin: 1rem 0 1.25rem; }
.verdict .word { color: var(--c); font-size: 2.1rem; line-height: 1.15; font-weight: 700; margin: 0 0 .2rem; }
.verdict ul, .checks { margin: .4rem 0; padding-left: 1.2rem; max-width: 60rem; }
.good { --c: var(--good); } .warn { --c: var(--warn); } .bad { --c: var(--bad); } .going { --c: var(--going); }
.mark { color: var(--c); font-weight: 700; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(10.4rem, 1fr)); gap: .6rem; margin: 1rem 0; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .6rem .7rem; margin: 0; }
.card dt { font-size: .88rem; color: var(--soft); }
.card dd { margin: 0; font-size: .84rem; }
.card dd.value { font-size: 1.75rem; font-weight: 650; line-height: 1.2; font-variant-numeric: tabular-nums; }
.card dd.soft { font-size: .84rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 21rem), 1fr)); gap: 1rem; }
figure { margin: 0 0 .5rem; min-width: 0; }
figure.chart-box { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .7rem .8rem; }
figure.chart-box > h3 { margin: 0 0 .3rem; }
svg.chart { display: block; width: 100%; max-width: 34rem; height: auto; }
svg text { fill: var(--soft); font-size: 11.5px; font-family: inherit; }
svg .grid { stroke: var(--line); } svg .axis { stroke: var(--soft); }
svg .failed { stroke: var(--bad); stroke-width: 1.5; stroke-dasharray: 1 3; }
svg polyline { fill: none; stroke-width: 2; stroke-linejoin: round; }
.s0 { stroke: var(--s0); } .s1 { stroke: var(--s1); stroke-dasharray: 7 3; } .s2 { stroke: var(--s2);
  stroke-dasharray: 2 3; }
.s3 { stroke: var(--s3); stroke-dasharray: 9 3 2 3; } .s4 { stroke: var(--s4); stroke-dasharray: 4 4; }
.s5 { stroke: var(--s5); stroke-dasharray: 12 4; }
.p0 { fill: var(--s0); } .p1 { fill: var(--s1); } .p2 { fill: var(--s2); } .p3 { fill: var(--s3); }
  .p4 { fill: var(--s4); }
.p5 { fill: var(--s5); }
svg .full { fill: var(--s0); } svg .hollow { fill: none; stroke: var(--s0); stroke-width: 1.5; }
svg .bad { fill: none; stroke: var(--bad); stroke-width: 2; } svg .late { fill: var(--s1); }
  svg .absent { fill: var(--soft); }
svg.bar { width: 7.5rem; height: 1rem; vertical-align: middle; }
svg .rail { stroke: var(--line); stroke-width: 2; } svg .range { stroke: var(--s0); stroke-width: 3; }
  svg .dot { fill: var(--s0); }
ul.legend { list-style: none; display: flex; flex-wrap: wrap; gap: .1rem 1rem; margin: .3rem 0 0; padding: 0;
  font-size: .84rem; color: var(--soft); }
svg.key { height: .85rem; width: auto; margin-right: .35rem; vertical-align: -.1rem; }
.scroll { overflow-x: auto; } .scroll:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding: 0 0 .4rem; }
caption span { display: block; position: sticky; left: 0; width: fit-content; max-width: calc(100vw - 2.5rem); }
th, td { padding: .3rem .6rem; text-align: right; vertical-align: top; border-bottom: 1px solid var(--line);
  overflow-wrap: normal; }
th { font-weight: 600; } thead th { vertical-align: bottom; color: var(--soft); font-size: .84rem; }
th:first-child, td.words { text-align: left; } tbody th { font-weight: 500; min-width: 6.5rem; }
td.words { min-width: 12rem; overflow-wrap: anywhere; }
tr.marked > * { font-weight: 650; } tr.marked > th { box-shadow: inset .25rem 0 0 var(--s0); }
td small, th small { display: block; font-weight: 400; color: var(--soft); font-size: .78rem; }
td small.line { white-space: nowrap; }
td.shaded { background: rgb(var(--heat) / calc(var(--v) * .42)); border: 1px solid var(--bg); }
td.shaded small { color: var(--ink); }
.scroll + .scroll, .note + .scroll { margin-top: 1.4rem; }
.matrix td, .matrix thead th:not(:first-child) { text-align: center; min-width: 3.1rem; }
.galleries { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 19rem), 1fr)); gap: 1.25rem; }
.galleries.wide { grid-template-columns: repeat(auto-fill, minmax(min(100%, 30rem), 1fr)); }
.galleries h3, .galleries h4 { margin: 0 0 .35rem; } .galleries h4 { font-size: .88rem; font-weight: 500;
  color: var(--soft); }
.strip { display: flex; align-items: center; gap: .5rem; margin-bottom: 3px; }
.strip > span { flex: 0 0 5.5rem; font-size: .84rem; text-align: right; line-height: 1.15; }
.strip img { flex: 1 1 0; min-width: 0; width: 100%; height: auto; image-rendering: pixelated; border-radius: 2px; }
.classes { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 15.5rem), 1fr)); gap: 1rem; }
.classes figure, .galleries figure { max-width: 36rem; }
.classes img { display: block; width: 100%; height: auto; image-rendering: pixelated; border-radius: 3px; }
.classes h3 { margin: .4rem 0 0; }
.picture { max-width: 100%; height: auto; background: #fff; border-radius: .3rem; }
details { margin: .8rem 0; } summary { cursor: pointer; font-weight: 600; }
.options { columns: 20rem; font-size: .86rem; list-style: none; padding: 0; } .options li { break-inside: avoid; }
.options code { font-family: ui-monospace, Menlo, Consolas, monospace; font-size: .95em; }
.changed { font-weight: 650; }
footer { margin: 3rem auto 2rem; border-top: 1px solid var(--line); padding-top: 1rem; }
@media (max-width: 34rem) { body { font-size: 15px; } main, header, footer { padding-left: .9rem;
  padding-right: .9rem; }
  .verdict .word { font-size: 1.7rem; } .cards { grid-template-columns: 1fr 1fr; gap: .5rem; }
  .card { padding: .55rem .65rem; } .card dd.value { font-size: 1.35rem; }
  .strip > span { flex-basis: 5rem; font-size: .78rem; } }
@media print { :root { color-scheme: light; --bg: #fff; --card: #fff; --ink: #000; --soft: #3d434a; --line: #b8bec5;
  --heat: 0 96 160;
  --link: #000; --good: #00664d; --warn: #8a4b00; --bad: #a3261b; --going: #00558c; --s0: #0072b2; --s1: #b34700;
  --s2: #00795c; --s3: #a0447a; --s4: #7d6300; --s5: #50565e; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  html { font-size: 9pt; } body { font-size: 9pt; } nav { display: none; }
  main, header, footer { max-width: none; padding: 0; }
  .scroll { overflow: visible; } h2, h3, caption { break-after: avoid; } figure, .card, tr { break-inside: avoid; }
  details::details-content { content-visibility: visible; display: block; } table { font-size: 8pt; }
  th, td { padding: .15rem .3rem; } .charts { grid-template-columns: 1fr 1fr; }
  .cards { grid-template-columns: repeat(3, 1fr); } }
"""
