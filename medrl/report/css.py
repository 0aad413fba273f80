"""The style sheet of the report: light, dark, narrow and printed."""

STYLE = """
:root { color-scheme: light dark; --paper: #fdfcf9; --panel: #f5f3ed; --ink: #1d1d1b; --quiet: #66635c; --rule: #dfdbd2;
  --accent: #0b6077; --base: #86827a; --serif: Charter, "Bitstream Charter", "Source Serif 4", Cambria, Georgia, serif;
  --sans: "Source Sans 3", "Segoe UI", system-ui, -apple-system, "Helvetica Neue", Arial, sans-serif;
  --mono: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
  --alarm: #a3341a;
  --s0: #0b6077; --s1: #b3541e; --s2: #6b4a9b; --s3: #4b7a2a; --s4: #a8355c; --s5: #8a6a00; --s6: #3d62b0; --s7: #5d5a55; }
@media screen and (prefers-color-scheme: dark) { :root { --paper: #16171a; --panel: #1e2024; --ink: #e6e3dc; --quiet: #a5a199;
  --rule: #34363b; --accent: #70c1d6; --base: #97938a;
  --alarm: #f09a80;
  --s0: #70c1d6; --s1: #e59866; --s2: #b79be0; --s3: #9cc66f; --s4: #e58aa8; --s5: #d6b656; --s6: #8fb0ee; --s7: #b5b1a8; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0 auto; max-width: 68rem; padding: 2.5rem 2rem 4rem; background: var(--paper); color: var(--ink);
  font: 16px/1.55 var(--serif); font-variant-numeric: lining-nums; overflow-wrap: break-word; }
h1, h2, h3 { line-height: 1.2; text-wrap: balance; }
h1 { font-size: 1.9rem; font-weight: 600; margin: 0; letter-spacing: -.01em; overflow-wrap: anywhere; }
h2 { font-size: 1.35rem; font-weight: 600; margin: 3.5rem 0 1rem; padding-top: 1rem; border-top: 1px solid var(--rule); }
h3 { font-size: 1.05rem; font-weight: 600; margin: 2.5rem 0 .25rem; }
p { margin: .5rem 0 1rem; max-width: 44rem; }
.first { display: flex; flex-wrap: wrap; align-items: center; gap: .6rem 1.25rem; }
.first p { margin: 0; font: 14px/1.4 var(--sans); color: var(--quiet); }
.first .banner { background: var(--ink); color: var(--paper); border-radius: 3px; padding: .35rem .7rem; }
nav { margin: 1.5rem 0 0; font: 14px/1.5 var(--sans); }
nav a { display: inline-block; margin-right: 1.25rem; color: var(--accent); text-underline-offset: .2em; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
.about { display: grid; grid-template-columns: repeat(auto-fill, minmax(13rem, 1fr)); gap: .7rem 2rem; margin: 1.5rem 0 0;
  padding: 1rem 0; border: solid var(--rule); border-width: 1px 0; font: 13px/1.45 var(--sans); }
.about dt { color: var(--quiet); } .about dd { margin: 0; overflow-wrap: anywhere; } .about .wide { grid-column: 1 / -1; }
figure { margin: 1.5rem 0 2.5rem; } .scroll { overflow-x: auto; }
figcaption, caption { font: 13px/1.5 var(--sans); color: var(--quiet); text-align: left; max-width: 48rem; padding: 0 0 .75rem; }
body { counter-reset: figure; } .numbered { counter-increment: figure; }
.numbered::before { content: "Figure " counter(figure) ". "; color: var(--ink); font-weight: 700; }
figcaption b, caption b { color: var(--ink); }
table { border-collapse: collapse; width: 100%; font: 14px/1.4 var(--sans); font-variant-numeric: tabular-nums; }
thead th, tbody:last-child tr:last-child > * { border-bottom: 1px solid var(--quiet); }
thead th { border-top: 1.5px solid var(--ink); font-weight: 600; vertical-align: bottom; }
th, td { padding: .3rem 0 .3rem 1.25rem; text-align: right; white-space: nowrap; font-weight: 400; }
th:first-child { text-align: left; padding-left: 0; white-space: normal; } td.left, th.left { text-align: left; }
tbody .task th { padding-top: 1rem; font-weight: 600; }
tbody .task span { font-weight: 400; color: var(--quiet); margin-left: .6rem; }
tbody + tbody .task > * { border-top: 1px solid var(--rule); } tr.strong > * { color: var(--accent); font-weight: 600; }
tr.quiet > * { color: var(--quiet); } tr.change > * { font-weight: 600; } tr.change td.left { font-weight: 400; }
tr.under > * { color: var(--quiet); } tr.under th { padding-left: 1.25rem; }
td.words { white-space: normal; min-width: 16rem; text-align: left; }
h3 span { font: 14px/1.4 var(--sans); color: var(--quiet); margin-left: .6rem; }
.warnings { margin: 0 0 1rem; padding: .6rem 1rem .6rem 2rem; max-width: 48rem; border-left: 4px solid var(--alarm);
  background: var(--panel); font: 14px/1.5 var(--sans); } .warnings li { margin: .25rem 0; overflow-wrap: anywhere; }
.warnings b, .over { color: var(--alarm); font-weight: 600; } a { color: var(--accent); }
.weight { display: block; color: var(--quiet); font-weight: 400; }
.shaded td:nth-of-type(1) { padding-right: .5rem; } .shaded .strong td:nth-of-type(1) { color: var(--ink); }
.h1 { background: color-mix(in srgb, var(--accent) 4%, transparent); } .h2 { background: color-mix(in srgb, var(--accent) 8%,
transparent); } .h3 { background: color-mix(in srgb, var(--accent) 12%, transparent); } .h4 { background: color-mix(in srgb,
var(--accent) 16%, transparent); } .h5 { background: color-mix(in srgb, var(--accent) 20%, transparent); } .h6 { background:
color-mix(in srgb, var(--accent) 24%, transparent); } .h7 { background: color-mix(in srgb, var(--accent) 28%, transparent); }
.h8 { background: color-mix(in srgb, var(--accent) 32%, transparent); } .h9 { background: color-mix(in srgb, var(--accent) 36%,
transparent); } .h10 { background: color-mix(in srgb, var(--accent) 40%, transparent); }
.plot { min-width: 9rem; width: 30%; padding-right: 6px; }
.key { display: inline-flex; align-items: center; overflow-wrap: anywhere; vertical-align: bottom; }
.swatch { flex: none; margin-right: .35rem; } .swatch line { stroke-width: 2; }
.swatch .mark { stroke: var(--ink); stroke-width: 1.25; }
.dot { display: inline-block; width: .62em; height: .62em; border: 1.75px solid var(--base); border-radius: 50%; }
.dot.full { background: var(--accent); border-color: var(--accent); }
.axis-left { padding-left: 3rem; } .axis-both { padding: 0 .5rem; }
.pair { display: grid; grid-template-columns: minmax(0, 5fr) minmax(0, 4fr); gap: 1rem 2.5rem; align-items: center; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); gap: 2rem 2.25rem; }
.grid figure { margin: 0; break-inside: avoid; } .grid figcaption { padding-bottom: .8rem; line-height: 1.4; }
.grid figcaption b { display: block; } .ends { font-variant-numeric: tabular-nums; }
.sample { margin: 1.25rem 0 2rem; }
.sample > p { font: 14px/1.5 var(--sans); margin: 0 0 .4rem; max-width: none; }
.sample code, .about code { font: .92em var(--mono); } .kind { color: var(--accent); font-weight: 600; }
.texts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 19rem), 1fr)); gap: .75rem 1.25rem; }
.texts h4, details h4 { font: 13px/1.5 var(--sans); margin: .25rem 0; color: var(--quiet); } .texts h4 b { color: var(--ink); }
pre { margin: 0; padding: .75rem .9rem; background: var(--panel); border-radius: 3px; font: 12.5px/1.55 var(--mono);
  white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi: isolate; }
.more { color: var(--accent); font-style: italic; }
summary { cursor: pointer; font: 14px/1.6 var(--sans); color: var(--accent); } details { margin: .35rem 0 .75rem; }
footer { margin-top: 3.5rem; border-top: 1px solid var(--rule); padding-top: 1rem; color: var(--quiet);
  font: 13px/1.5 var(--sans); }
@media (max-width: 44rem) { body { padding: 1.5rem 1rem 3rem; } h1 { font-size: 1.5rem; }
  .pair { grid-template-columns: 1fr; } .about { grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); }
  table { font-size: 12px; } th, td { padding-left: .35rem; } thead th, td.left { white-space: normal; }
  tr.under > * { color: var(--quiet); } tr.under th { padding-left: 1.25rem; }
td.words { white-space: normal; min-width: 16rem; text-align: left; }
h3 span { font: 14px/1.4 var(--sans); color: var(--quiet); margin-left: .6rem; }
.warnings { margin: 0 0 1rem; padding: .6rem 1rem .6rem 2rem; max-width: 48rem; border-left: 4px solid var(--alarm);
  background: var(--panel); font: 14px/1.5 var(--sans); } .warnings li { margin: .25rem 0; overflow-wrap: anywhere; }
.warnings b, .over { color: var(--alarm); font-weight: 600; } a { color: var(--accent); }
.weight { display: block; color: var(--quiet); font-weight: 400; }
.shaded td:nth-of-type(1) { padding-right: .5rem; } .shaded .strong td:nth-of-type(1) { color: var(--ink); }
.h1 { background: color-mix(in srgb, var(--accent) 4%, transparent); } .h2 { background: color-mix(in srgb, var(--accent) 8%,
transparent); } .h3 { background: color-mix(in srgb, var(--accent) 12%, transparent); } .h4 { background: color-mix(in srgb,
var(--accent) 16%, transparent); } .h5 { background: color-mix(in srgb, var(--accent) 20%, transparent); } .h6 { background:
color-mix(in srgb, var(--accent) 24%, transparent); } .h7 { background: color-mix(in srgb, var(--accent) 28%, transparent); }
.h8 { background: color-mix(in srgb, var(--accent) 32%, transparent); } .h9 { background: color-mix(in srgb, var(--accent) 36%,
transparent); } .h10 { background: color-mix(in srgb, var(--accent) 40%, transparent); }
.plot { min-width: 5rem; } }
@media print { :root { color-scheme: light; --paper: #fff; } body { max-width: none; padding: 0; font-size: 10.5pt; }
  nav { display: none; } .scroll { overflow: visible; } .pair { grid-template-columns: 1fr; } pre { font-size: 8.5pt; }
  h2, h3, h4, summary, figcaption, caption, .sample > p { break-after: avoid; }
  tr, .axis-left, .axis-both { break-inside: avoid; }
  details::details-content { content-visibility: visible; }
  svg, .dot, .banner, pre { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
.chart { display: block; width: 100%; overflow: visible; font: 11px/1 var(--sans); font-variant-numeric: tabular-nums; }
.chart text { fill: var(--quiet); }
.chart .name { fill: var(--ink); font-size: 13px; font-weight: 600; }
.chart .halo { paint-order: stroke; stroke: var(--paper); stroke-width: 5px; stroke-linejoin: round; }
.chart .grid { stroke: var(--rule); stroke-width: 1; shape-rendering: crispEdges; }
.chart .axis { stroke: var(--quiet); stroke-width: 1; shape-rendering: crispEdges; }
.chart .line { fill: none; stroke-width: 1.75; stroke-linejoin: round; stroke-linecap: round; vector-effect: non-scaling-stroke; }
.chart .raw { stroke-width: 1; opacity: .38; }
.chart .mark { stroke: var(--ink); stroke-width: 1.25; }
.chart .bar { stroke-width: 2; }
.m1 { stroke-dasharray: 4 3; } .m2 { stroke-dasharray: 1 3; } .m3 { stroke-dasharray: 7 2 1 2; }
.base { stroke: var(--base); fill: var(--base); } .trained { stroke: var(--accent); fill: var(--accent); }
.chart .of-trained { fill: var(--accent); font-weight: 600; }
.chart circle.base { fill: var(--paper); stroke-width: 1.75; }
.s0 { stroke: var(--s0); } .s1 { stroke: var(--s1); } .s2 { stroke: var(--s2); } .s3 { stroke: var(--s3); }
.s4 { stroke: var(--s4); } .s5 { stroke: var(--s5); } .s6 { stroke: var(--s6); } .s7 { stroke: var(--s7); }
circle.s0 { fill: var(--s0); } circle.s1 { fill: var(--s1); } circle.s2 { fill: var(--s2); } circle.s3 { fill: var(--s3); }
circle.s4 { fill: var(--s4); } circle.s5 { fill: var(--s5); } circle.s6 { fill: var(--s6); } circle.s7 { fill: var(--s7); }
"""
