-- The look of a page: light, dark, on a phone, on paper. Colours meet a contrast of 4.5 to 1 on both papers, and none
-- is the only mark of what it says.
local chart = require "lucid.report.chart"
local palette = require "lucid.report.palette"

return palette .. [[
* { box-sizing: border-box }
html { -webkit-text-size-adjust: 100% }
body {
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif;
  color: var(--ink); background: var(--paper);
  max-width: 70rem; margin: 0 auto; padding: 2.5rem 1.25rem 5rem; overflow-wrap: break-word;
}
h1 { font-size: 1.75rem; line-height: 1.25; font-weight: 650; letter-spacing: -.015em; margin: 0 0 .4rem }
h2 { font-size: 1.2rem; font-weight: 650; margin: 3rem 0 .5rem; padding-top: 1rem; border-top: 1px solid var(--line) }
h3 { font-size: 1rem; font-weight: 650; margin: 1.75rem 0 .4rem }
h4 { font-size: .92rem; font-weight: 650; margin: 0 0 .4rem }
p.note { color: var(--soft); max-width: 44rem; margin: .4rem 0 .9rem }
nav { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; margin: 1rem 0; font-size: .9rem }
a { color: var(--c1); text-underline-offset: .15em }

/* tables */
.wide { overflow-x: auto; margin: .8rem 0 1.2rem }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums lining-nums }
caption { text-align: left; color: var(--soft); padding-bottom: .3rem }
th, td {
  padding: .32rem .9rem .32rem 0; text-align: left; vertical-align: baseline; font-weight: 400;
  border-bottom: 1px solid var(--line);
}
th:last-child, td:last-child { padding-right: 0 }
thead th {
  color: var(--soft); font-size: .82rem; font-weight: 600; vertical-align: bottom;
  border-bottom: 1px solid var(--soft);
}
th.n, td.n { text-align: right; white-space: nowrap }
tr.group th { font-weight: 650; padding-top: 1rem; border-bottom-color: var(--soft) }
tr.strong th, tr.strong td, td.best { font-weight: 700 }
tr.published th, tr.published td { color: var(--soft); font-style: italic }
td i.err {
  display: inline-block; min-width: 4.1em; padding-left: .35em; text-align: left;
  font-style: normal; font-weight: 400; font-size: .8em; color: var(--soft);
}
td small, th small { color: var(--soft) }
td.code { min-width: 15rem }
td.code, pre { font-family: ui-monospace, "Cascadia Mono", "Liberation Mono", monospace; overflow-wrap: anywhere }
td.code { font-size: .82em }

/* charts */
.charts {
  display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 20.5rem), 1fr)); gap: 1.2rem 1.6rem;
  margin: .6rem 0 1.2rem;
}
figure { margin: 0; min-width: 0 }
figcaption { font-size: .85rem; font-weight: 600; margin-bottom: .15rem }
]] .. chart.STYLE .. [[
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.3rem; margin: .5rem 0; padding: 0; list-style: none }
.legend li { font-size: .88rem }
.legend svg { display: inline-block; width: 30px; height: 8px; margin-right: .45rem; vertical-align: middle }

/* counts of yes and no */
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 17rem), 1fr)); gap: 1rem }
.card { background: var(--tint); border-radius: 8px; padding: .9rem 1rem; min-width: 0 }
.card table { width: 100% }
.card th.n, .card td.n { padding: .32rem .6rem }
.card p { margin: .6rem 0 0; font-size: .85rem; color: var(--soft) }
.bar { position: relative; height: .5rem; margin-top: .35rem; border-radius: 4px; background: var(--line) }
.bar i { position: absolute; left: 0; top: 0; bottom: 0; border-radius: 4px; background: var(--c1) }
.bar b { position: absolute; top: -.2rem; bottom: -.2rem; width: 2px; background: var(--ink) }

/* a picture and what was said of it */
.shot {
  display: grid; grid-template-columns: minmax(9rem, 17rem) minmax(0, 1fr); gap: 1.4rem; padding: 1.4rem 0;
  border-bottom: 1px solid var(--line);
}
.shot img { display: block; width: 100%; height: auto; border-radius: 6px; background: var(--tint) }
.shot img.small { image-rendering: pixelated }
.shot .lost { padding: 1.5rem 1rem; border: 1px dashed var(--soft); border-radius: 6px; color: var(--soft) }
.shot .lost, .shot .id, .told .count { font-size: .83rem }
.shot .id { color: var(--soft); margin: .4rem 0 0 }
.told {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 14.5rem), 1fr)); gap: 1rem 1.8rem;
  align-items: start; min-width: 0;
}
.told > div { min-width: 0 }
.told .count { display: block; color: var(--soft); font-weight: 400; font-variant-numeric: tabular-nums }
.said { list-style: none; margin: 0; padding: 0; font-size: .94rem }
.said li { position: relative; padding: .12rem 0 .12rem 1.45rem }
.said .mark { position: absolute; left: .15rem; font-weight: 700 }
.said .bad { color: var(--bad); background: var(--bad-tint); border-radius: 4px }
.said .bad .text { text-decoration: underline wavy 1px; text-underline-offset: .2em }
.said .good .mark { color: var(--good) }
.said .unsure { color: var(--unsure) }
.said .none { color: var(--soft) }
.named { margin: 0; font-size: .94rem }
.named .bad { color: var(--bad); background: var(--bad-tint); text-decoration: underline wavy 1px; font-weight: 600 }
.named .good .mark { color: var(--good) }
.said .why { display: block; font-size: .84rem }
details { margin: .5rem 0; font-size: .88rem }
summary { cursor: pointer; color: var(--soft) }
pre { white-space: pre-wrap; font-size: .82rem; margin: .4rem 0 }

@media (max-width: 40rem) {
  body { padding: 1.4rem 1rem 3rem }
  table { font-size: .86rem }
  th, td { padding-right: .6rem }
  .wide th:first-child { position: sticky; left: 0; min-width: 6rem; background: var(--paper) }
  td i.err { display: block; min-width: 0; padding: 0; text-align: right }
  .shot { grid-template-columns: minmax(0, 1fr) }
  .shot img { max-width: 17rem }
}
@media print {
  :root {
    color-scheme: light;
    --paper: #fff; --ink: #000; --soft: #444; --line: #ccc; --tint: #fff;
    --bad: #a00; --bad-tint: #fff; --good: #060; --unsure: #640;
    --c1: #1f5fc4; --c2: #b45309; --c3: #1b7340; --c4: #8a3ab9; --c5: #b3261e; --c6: #0e7490;
  }
  body { font-size: 10pt; max-width: none; padding: 0 }
  nav { display: none }
  h2, h3, h4, figcaption, .legend { break-after: avoid }
  tr, figure, .card, .said li, .shot img { break-inside: avoid }
  .wide { overflow: visible }
  .card { border: 1px solid var(--line) }
  .shot { grid-template-columns: 4.5cm minmax(0, 1fr) }
}
]]
