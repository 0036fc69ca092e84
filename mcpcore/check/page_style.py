"""The look of the page: quiet colours, light and dark, no fonts to load.

This module exists so that `mcpcore.check.page` stays readable. Nothing but a stylesheet.
"""

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #fbfbf9; --panel: #ffffff; --ink: #1d2126; --soft: #69707a; --line: #e5e5df;
  --stripe: #f5f5f1; --ok: #5b8def; --ok-ink: #ffffff; --unknown: #e0a030; --unknown-ink: #3a2a05;
  --fail: #c3c7ce; --fail-ink: #40454d; --bad: #d43c4c; --point: #12805c; --fault: #a259c4;
  --hit: #1d2126; --shade: rgba(20, 24, 30, .10);
}
:root[data-theme="dark"] {
  --paper: #131519; --panel: #1a1d23; --ink: #e8eaee; --soft: #98a0ad; --line: #2b3038;
  --stripe: #171a1f; --ok: #3f6fd1; --ok-ink: #f4f7ff; --unknown: #c98a1e; --unknown-ink: #fff6e2;
  --fail: #4a505a; --fail-ink: #d5d9e0; --bad: #ff6673; --point: #3ddba4; --fault: #c98bea;
  --hit: #ffffff; --shade: rgba(0, 0, 0, .45);
}
* { box-sizing: border-box; }
html, body { height: 100%; margin: 0; }
body {
  display: flex; flex-direction: column; background: var(--paper); color: var(--ink);
  font: 14px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif;
}
header {
  display: flex; align-items: center; gap: 12px; padding: 12px 20px 4px; flex: none;
}
h1 { font-size: 17px; font-weight: 650; margin: 0; letter-spacing: -.01em; white-space: nowrap; }
h1 small { color: var(--soft); font-weight: 400; font-size: 13px; margin-left: 10px; }
h2 {
  font-size: 11px; font-weight: 650; letter-spacing: .07em; text-transform: uppercase;
  color: var(--soft); margin: 22px 0 8px;
}
.grow { flex: 1; }
.verdict {
  font-size: 12px; font-weight: 700; letter-spacing: .04em; padding: 3px 10px;
  border-radius: 999px; color: #fff; background: var(--soft);
}
.verdict.ok { background: #12805c; }
.verdict.violated { background: #d43c4c; }
.verdict.unknown { background: #b97a0e; }
.summary {
  margin: 0; padding: 0 20px 12px; color: var(--soft); flex: none; max-width: 120ch;
  display: -webkit-box; -webkit-line-clamp: 2; -webkit-box-orient: vertical; overflow: hidden;
}
button, input, select {
  font: inherit; font-size: 13px; color: var(--ink); background: var(--panel);
  border: 1px solid var(--line); border-radius: 7px; padding: 4px 10px; height: 30px;
}
input { width: 190px; }
select { max-width: 260px; }
button { cursor: pointer; }
button:hover, select:hover { border-color: var(--soft); }
:focus-visible { outline: 2px solid var(--ok); outline-offset: 1px; }
main { flex: 1; min-height: 0; display: flex; border-top: 1px solid var(--line); }
#stage { flex: 1; min-width: 0; position: relative; display: flex; flex-direction: column; }
#view { flex: 1; min-height: 0; position: relative; }
#lanes { position: absolute; inset: 0; width: 100%; height: 100%; cursor: grab; outline: none; }
#lanes.moving { cursor: grabbing; }
#map { height: 46px; flex: none; width: 100%; border-top: 1px solid var(--line); cursor: pointer; }
aside {
  flex: none; width: 372px; overflow-y: auto; padding: 2px 20px 20px; background: var(--panel);
  border-left: 1px solid var(--line);
}
#tip {
  position: absolute; pointer-events: none; max-width: 420px; padding: 8px 11px; z-index: 2;
  background: var(--panel); border: 1px solid var(--line); border-radius: 9px;
  box-shadow: 0 8px 28px var(--shade); font-size: 13px; line-height: 1.45;
}
#tip b, #chosen b { font-weight: 600; font-family: ui-monospace, "DejaVu Sans Mono", monospace; }
#tip b { font-size: 12.5px; overflow-wrap: anywhere; }
#chosen {
  margin-top: 16px; padding: 11px 13px; border-radius: 10px; background: var(--stripe);
  border: 1px solid var(--line); overflow-wrap: anywhere;
}
#chosen b { font-size: 13px; }
.state { color: var(--soft); overflow-wrap: anywhere; }
.state em { font-style: normal; color: var(--point); }
.no { color: var(--bad); }
.finding { margin: 0 0 12px; padding-left: 11px; border-left: 3px solid var(--bad); }
.finding.open { border-color: var(--unknown); }
.finding strong { display: block; font-weight: 650; }
.finding p { margin: 2px 0 4px; white-space: pre-wrap; overflow-wrap: anywhere; }
.ops a { margin-right: 7px; white-space: nowrap; }
a { color: var(--ok); text-decoration: none; font-variant-numeric: tabular-nums; }
a:hover { text-decoration: underline; }
ul { list-style: none; padding: 0; margin: 0; }
li { margin: 0 0 6px; overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: auto 1fr; gap: 3px 14px; margin: 0; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
.legend, .hint { color: var(--soft); font-size: 12.5px; margin: 20px 0 0; line-height: 1.9; }
.hint { margin-top: 6px; line-height: 1.5; }
.legend i {
  display: inline-block; width: 14px; height: 9px; border-radius: 3px; margin-right: 6px;
}
.legend span { white-space: nowrap; margin-right: 12px; }
.legend .ok { background: var(--ok); }
.legend .unknown { background: linear-gradient(90deg, var(--unknown), transparent); }
.legend .fail { background: var(--fail); }
.legend .point { width: 9px; border-radius: 50%; background: var(--point); }
.legend .bad { border: 2px solid var(--bad); }
.legend .fault { background: var(--fault); opacity: .35; }
@media (max-width: 860px) {
  main { flex-direction: column; }
  aside { width: auto; border-left: 0; border-top: 1px solid var(--line); max-height: 45%; }
  header { flex-wrap: wrap; }
}
"""
