# ruff: noqa: E501 -- the lines below are JavaScript
"""What the page does: draws the lanes, zooms, finds, links to one operation.

This module exists so that `mcpcore.check.page` stays readable. Nothing but a script without
dependencies; it draws on a canvas so that thousands of operations move smoothly.
"""

SCRIPT = r"""
"use strict";
(() => {
const D = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const canvas = $("lanes"), map = $("map"), tip = $("tip");
const GUTTER = 78, AXIS = 26;
let ROW = 30, BAR = 19;
const byId = new Map(D.ops.map((op) => [op.id, op]));
const lanes = D.lanes.map(() => []);
for (const op of D.ops) lanes[op.lane].push(op);
for (const lane of lanes) lane.sort((a, b) => a.from - b.from);
let from = 0, to = Math.max(D.end, 1), top = 0, hover = null, chosen = null;
let order = null, pointOf = new Map(), colours = {};

// --- Looks -----------------------------------------------------------------------------------
function theme(name) {
  document.documentElement.dataset.theme = name;
  const style = getComputedStyle(document.documentElement);
  for (const key of ["paper", "panel", "ink", "soft", "line", "stripe", "ok", "ok-ink", "unknown",
    "unknown-ink", "fail", "fail-ink", "bad", "point", "fault", "hit"])
    colours[key] = style.getPropertyValue("--" + key).trim();
  draw();
}
$("theme").onclick = () =>
  theme(document.documentElement.dataset.theme === "dark" ? "light" : "dark");

// --- Scales ----------------------------------------------------------------------------------
const width = () => canvas.clientWidth - GUTTER - 14;
const xOf = (ns) => GUTTER + ((ns - from) / (to - from)) * width();
const nsOf = (x) => from + ((x - GUTTER) / width()) * (to - from);
const endOf = (op) => (op.to === null ? D.end : op.to);
function unit(span) {
  for (const [size, name] of [[1e9, "s"], [1e6, "ms"], [1e3, "µs"]]) if (span >= size) return [size, name];
  return [1, "ns"];
}
function told(ns, span) {
  const [size, name] = unit(span === undefined ? Math.max(ns, 1) : span);
  const value = ns / size;
  return (Math.abs(value) >= 100 || Number.isInteger(value) ? value.toFixed(0)
    : value.toFixed(Math.abs(value) >= 10 ? 1 : 2)) + " " + name;
}
function clampView() {
  ROW = Math.max(30, Math.min(58, Math.floor((canvas.clientHeight - AXIS - 30) / Math.max(lanes.length, 1))));
  BAR = Math.round(ROW * 0.62);
  const whole = Math.max(D.end, 1), least = Math.max(whole / 1e6, 20);
  if (to - from < least) { const mid = (from + to) / 2; from = mid - least / 2; to = mid + least / 2; }
  if (to - from > whole * 1.04) { from = -whole * 0.01; to = whole * 1.03; }
  if (from < -whole * 0.02) { to += -whole * 0.02 - from; from = -whole * 0.02; }
  if (to > whole * 1.04) { from -= to - whole * 1.04; to = whole * 1.04; }
  top = Math.max(0, Math.min(top, lanes.length * ROW + AXIS + 12 - canvas.clientHeight));
}

// --- Drawing ---------------------------------------------------------------------------------
let asked = false;
function draw() { if (!asked) { asked = true; requestAnimationFrame(paint); } }
function fit(c) {
  const ratio = window.devicePixelRatio || 1, w = c.clientWidth, h = c.clientHeight;
  if (c.width !== Math.round(w * ratio) || c.height !== Math.round(h * ratio)) {
    c.width = Math.round(w * ratio); c.height = Math.round(h * ratio);
  }
  const g = c.getContext("2d");
  g.setTransform(ratio, 0, 0, ratio, 0, 0);
  g.clearRect(0, 0, w, h);
  return g;
}
function rounded(g, x, y, w, h, r) {
  g.beginPath(); g.roundRect(x, y, w, h, Math.min(r, w / 2, h / 2));
}
function paint() {
  asked = false;
  clampView();
  const g = fit(canvas), W = canvas.clientWidth, H = canvas.clientHeight;
  g.font = '12px system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif';
  g.textBaseline = "middle";
  const rowY = (lane) => AXIS + 6 + lane * ROW - top;
  lanes.forEach((_, i) => {
    if (i % 2) { g.fillStyle = colours.stripe; g.fillRect(0, rowY(i), W, ROW); }
  });
  g.save();
  g.beginPath(); g.rect(GUTTER, 0, W - GUTTER, H); g.clip();
  for (const fault of D.faults) {
    const a = xOf(fault.from), b = xOf(fault.to === null ? D.end : fault.to);
    if (b < GUTTER || a > W) continue;
    g.fillStyle = colours.fault;
    if (b - a > 40) g.fillText(fault.name + (fault.text && b - a > 160 ? "  " + fault.text : ""), Math.max(a, GUTTER) + 6, H - 11);
    g.globalAlpha = 0.13; g.fillStyle = colours.fault; g.fillRect(a, AXIS, Math.max(b - a, 2), H);
    g.globalAlpha = 0.6; g.fillRect(a, AXIS, 1, H); if (fault.to !== null) g.fillRect(b, AXIS, 1, H);
    g.globalAlpha = 1;
  }
  axis(g, W, H);
  const blocked = order ? order.blocked : null;
  let visible = 0;
  for (const op of D.ops) if (op.from <= to && endOf(op) >= from) visible++;
  const spots = place(visible, W);
  for (let i = 0; i < lanes.length; i++) {
    const y = rowY(i) + (ROW - BAR) / 2;
    if (y > H || y + BAR < AXIS) continue;
    let full = -1;
    for (const op of lanes[i]) {
      const a = xOf(op.from), b = Math.max(xOf(endOf(op)), a + 2);
      if (b < GUTTER) continue;
      if (a > W) break;
      if (b <= full && op !== hover && op !== chosen && op.id !== blocked) continue;  // under a pixel
      full = Math.max(full, Math.floor(b));
      bar(g, op, a, b, y, blocked, visible < 1400 ? spots.get(op.id) : undefined);
    }
  }
  g.beginPath(); g.rect(GUTTER, AXIS, W - GUTTER, H - AXIS); g.clip();
  points(g, rowY, visible, spots);
  g.restore();
  gutter(g, rowY, H);
  minimap();
  $("lanes").dataset.visible = visible;
}
function bar(g, op, a, b, y, blocked, spot) {
  const w = b - a, dim = order && order.key !== null && op.key !== order.key;
  g.globalAlpha = dim ? 0.22 : 1;
  if (op.outcome === "unknown") {
    const fade = g.createLinearGradient(Math.max(a, GUTTER), 0, Math.min(b, canvas.clientWidth), 0);
    fade.addColorStop(0, colours.unknown);
    fade.addColorStop(1, colours.unknown + "40");
    g.fillStyle = fade;
  } else g.fillStyle = colours[op.outcome];
  rounded(g, a, y, w, BAR, 4); g.fill();
  const wrong = op.id === blocked;
  if (wrong || op === hover || op === chosen) {
    g.lineWidth = wrong ? 2.5 : 2;
    g.strokeStyle = wrong ? colours.bad : colours.hit;
    rounded(g, a - 1, y - 1, w + 2, BAR + 2, 5); g.stroke();
  }
  let left = Math.max(a, GUTTER) + 6;
  if (spot !== undefined && spot < left + 8 && spot > left - 12) left = spot + 9;
  const room = (spot !== undefined && spot > left + 24 ? Math.min(b, spot - 6) : b) - left - 6;
  if (room > 18) {
    g.fillStyle = colours[op.outcome + "-ink"];
    let text = op.text;
    const wide = g.measureText(text).width;
    if (wide > room) text = text.slice(0, Math.max(0, Math.floor(text.length * room / wide) - 1)) + "…";
    if (text.length > 1) g.fillText(text, left, y + BAR / 2 + 0.5);
  }
  g.globalAlpha = 1;
}
function place(visible, W) {   // where the points go: operation to x, in order
  const spots = new Map(), close = visible < 260;
  let last = -Infinity;
  for (const p of order ? order.points : []) {
    const op = byId.get(p[0]), a = xOf(op.from), b = Math.max(xOf(endOf(op)), a + 2);
    let x = xOf(p[1]);
    if (x < GUTTER - 60 && spots.size) spots.clear();
    if (close) x = Math.max(x, Math.min(last + 7, b - 4));   // several may share a moment
    x = Math.min(Math.max(x, a + Math.min(6, (b - a) / 2)), b);
    spots.set(op.id, x);
    last = x;
    if (x > W + 60) break;
  }
  return spots;
}
function points(g, rowY, visible, spots) {
  const close = visible < 260;
  const at = [...spots].map(([id, x]) => [x, rowY(byId.get(id).lane) + ROW / 2]);
  if (close && at.length > 1) {
    g.strokeStyle = colours.point; g.lineWidth = 1.25; g.globalAlpha = 0.55;
    g.beginPath();
    at.forEach(([x, y], i) => (i ? g.lineTo(x, y) : g.moveTo(x, y)));
    g.stroke(); g.globalAlpha = 1;
  }
  if (visible < 1400) for (const [x, y] of at) {
    g.beginPath(); g.arc(x, y, close ? 4.5 : 2, 0, 7);
    g.fillStyle = colours.point; g.fill();
    if (close) { g.lineWidth = 1.5; g.strokeStyle = colours.panel; g.stroke(); }
  }
}
function axis(g, W, H) {
  const span = to - from, rough = span / Math.max(width() / 110, 1);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough);
  g.fillStyle = colours.soft; g.strokeStyle = colours.line; g.lineWidth = 1;
  for (let t = Math.ceil(Math.max(from, 0) / step) * step; t <= to; t += step) {
    const x = Math.round(xOf(t)) + 0.5;
    g.beginPath(); g.moveTo(x, AXIS); g.lineTo(x, H); g.stroke();
    g.fillText(told(t, Math.max(step, span / 20)), x + 5, AXIS / 2 + 1);
  }
}
function gutter(g, rowY, H) {
  g.fillStyle = colours.paper; g.fillRect(0, 0, GUTTER - 1, H);
  g.fillStyle = colours.line; g.fillRect(GUTTER - 1, 0, 1, H); g.fillRect(0, AXIS, canvas.clientWidth, 1);
  g.fillStyle = colours.soft; g.textAlign = "right";
  g.save(); g.beginPath(); g.rect(0, AXIS + 1, GUTTER, H); g.clip();
  D.lanes.forEach((name, i) => {
    const y = rowY(i) + ROW / 2;
    if (y > 0 && y < H) g.fillText(name.length > 9 ? name.slice(0, 8) + "…" : name, GUTTER - 11, y);
  });
  g.restore();
  g.fillText("client", GUTTER - 11, AXIS / 2 + 1);
  g.textAlign = "left";
}
function minimap() {
  const g = fit(map), W = map.clientWidth, H = map.clientHeight, w = W - GUTTER - 14;
  const x = (ns) => GUTTER + (ns / Math.max(D.end, 1)) * w;
  const columns = new Float64Array(Math.ceil(w) + 1);
  for (const op of D.ops) {
    const a = Math.floor(x(op.from) - GUTTER), b = Math.floor(x(op.to === null ? op.from : op.to) - GUTTER);
    for (let i = a; i <= b && i < columns.length; i++) columns[i]++;
  }
  const most = Math.max(1, ...columns);
  for (const fault of D.faults) {
    const a = x(fault.from), b = x(fault.to === null ? D.end : fault.to);
    g.globalAlpha = 0.2; g.fillStyle = colours.fault; g.fillRect(a, 0, Math.max(b - a, 2), H); g.globalAlpha = 1;
  }
  g.fillStyle = colours.ok; g.globalAlpha = 0.6;
  columns.forEach((n, i) => { if (n) { const h = (n / most) * (H - 12); g.fillRect(GUTTER + i, H - 5 - h, 1, h); } });
  g.globalAlpha = 1;
  for (const each of D.orders) if (each.blocked !== null) {
    g.fillStyle = colours.bad; g.fillRect(x(byId.get(each.blocked).from) - 1, 3, 3, H - 8);
  }
  g.strokeStyle = colours.ink; g.lineWidth = 1.5;
  const a = Math.max(x(from), GUTTER - 4), b = Math.min(x(to), W - 2);
  rounded(g, a, 2.5, Math.max(b - a, 4), H - 6, 5); g.stroke();
}

// --- Choosing and showing --------------------------------------------------------------------
function opAt(x, y) {
  const lane = lanes[Math.floor((y - AXIS - 6 + top) / ROW)];
  if (!lane || y < AXIS || x < GUTTER) return null;
  let found = null;
  for (const op of lane) {
    const a = xOf(op.from) - 2, b = Math.max(xOf(endOf(op)), xOf(op.from) + 2) + 2;
    if (x >= a && x <= b && (!found || endOf(op) - op.from <= endOf(found) - found.from)) found = op;
  }
  return found;
}
const esc = (text) => String(text).replace(/[&<>"]/g, (c) => "&#" + c.charCodeAt(0) + ";");
function describe(op, long) {
  const rows = [`<b>${esc(op.text)}</b>`];
  const took = op.to === null ? "never returned" : `${told(op.to - op.from)}`;
  rows.push(`<span class="state">operation ${op.id} of client ${esc(op.process)}, at ${told(op.from)}, ${took}</span>`);
  if (op.outcome === "unknown") rows.push('<span class="state">may take effect at any later time, or never</span>');
  if (op.error !== null) rows.push(`<span class="state">error ${esc(op.error)}</span>`);
  if (op.place) rows.push(`<span class="state">log ${esc(op.place[0])} index ${op.place[2]}, term ${op.place[1]}</span>`);
  const point = pointOf.get(op.id);
  if (point) {
    rows.push(`<span class="state">number ${point.at + 1} in the order</span>`);
    if (point.p[2] !== null) rows.push(`<span class="state"><em>${esc(point.p[2])} → ${esc(point.p[3])}</em></span>`);
  }
  const no = order && order.against && order.against.find((each) => each.op === op.id);
  if (no) rows.push(`<span class="no">${esc(no.text)}</span>`);
  if (long) rows.push(`<a href="#op-${op.id}">link to this operation</a>`);
  return rows.join("<br>");
}
function choose(op, move) {
  chosen = op;
  $("chosen").hidden = !op;
  if (op) {
    $("chosen").innerHTML = describe(op, true);
    if (location.hash !== "#op-" + op.id) history.replaceState(null, "", "#op-" + op.id);
    if (move) reveal(op);
  }
  draw();
}
function reveal(op) {
  const x = xOf(op.from), e = xOf(Math.min(endOf(op), op.from + (to - from)));
  if (x < GUTTER + 20 || e > canvas.clientWidth - 30 || to - from > Math.max(D.end, 1) / 2 && D.ops.length > 200) {
    const near = D.ops.length > 200 ? Math.min(to - from, (Math.max(D.end, 1) * 60) / D.ops.length) : to - from;
    const length = Math.max(near, (endOf(op) - op.from) * 1.6 || 1);
    from = op.from - length * 0.4; to = from + length;
  }
  const y = AXIS + 6 + op.lane * ROW;
  if (y - top < AXIS + 10 || y - top > canvas.clientHeight - ROW) top = y - canvas.clientHeight / 2;
}
function useOrder(at) {
  order = D.orders[at] || null;
  pointOf = new Map();
  if (order) order.points.forEach((p, i) => pointOf.set(p[0], { at: i, p }));
  const box = $("against");
  box.innerHTML = "";
  if (order && order.against) {
    const name = order.shortest ? "shortest failing prefix" : "failing prefix";
    box.innerHTML = `<h2>Where it ends</h2><p class="state">The ${name} has ${order.prefix} operations. ` +
      `This order explains ${order.points.length} of them and leaves <em>${esc(order.state)}</em>. Next could come:</p><ul>` +
      order.against.map((each) => `<li><a href="#op-${each.op}">${each.op}</a> <span class="no">${esc(each.text)}</span></li>`).join("") + "</ul>";
  }
  draw();
}
function home() {
  const bad = D.orders.findIndex((each) => each.blocked !== null);
  useOrder(bad >= 0 ? bad : 0);
  from = -D.end * 0.01; to = D.end * 1.03 || 1;
  if (bad >= 0 && D.ops.length > 60) {
    const op = byId.get(D.orders[bad].blocked), length = (Math.max(D.end, 1) * 40) / D.ops.length;
    const span = Math.max(length, (endOf(op) - op.from) * 1.3);
    to = endOf(op) + span * 0.2; from = to - span * 1.2;
    top = AXIS + op.lane * ROW - canvas.clientHeight / 2;
  }
}
function fill() {
  $("findings").innerHTML = D.findings.length ? D.findings.map((f) =>
    `<div class="finding${f.decided ? "" : " open"}"><strong>${esc(f.kind)}</strong><p>${esc(f.text)}</p><span class="ops">` +
    f.ops.map((id) => `<a href="#op-${id}">operation ${id}</a>`).join("") + "</span></div>").join("") +
    (D.hidden ? `<p class="state">and ${D.hidden} more</p>` : "")
    : '<p class="state">Nothing against it.</p>';
  $("facts").innerHTML = Object.entries(D.facts).map(([k, v]) => `<dt>${esc(k)}</dt><dd>${esc(v)}</dd>`).join("");
  const select = $("order");
  if (D.orders.length > 1) {
    select.hidden = false;
    select.innerHTML = D.orders.map((each, i) =>
      `<option value="${i}">${each.key === null ? "order " + (i + 1) : esc(each.key)}: ${each.verdict}, ${each.points.length} in order</option>`).join("");
    select.onchange = () => useOrder(+select.value);
  }
}

// --- Hands -----------------------------------------------------------------------------------
canvas.addEventListener("wheel", (e) => {
  e.preventDefault();
  if (e.shiftKey || Math.abs(e.deltaX) > Math.abs(e.deltaY)) {
    const by = ((e.deltaX || e.deltaY) / width()) * (to - from); from += by; to += by;
  } else if (e.altKey) top += e.deltaY;
  else {
    const at = nsOf(e.offsetX), factor = Math.exp(e.deltaY * 0.0015);
    from = at - (at - from) * factor; to = at + (to - at) * factor;
  }
  draw();
}, { passive: false });
let grip = null;
canvas.addEventListener("pointerdown", (e) => {
  grip = { x: e.offsetX, y: e.offsetY, from, to, top, moved: false };
  canvas.setPointerCapture(e.pointerId);
});
canvas.addEventListener("pointermove", (e) => {
  if (grip) {
    const dx = e.offsetX - grip.x, dy = e.offsetY - grip.y;
    if (Math.abs(dx) + Math.abs(dy) > 3) { grip.moved = true; canvas.classList.add("moving"); }
    const by = (dx / width()) * (grip.to - grip.from);
    from = grip.from - by; to = grip.to - by; top = grip.top - dy;
    draw();
    return;
  }
  const op = opAt(e.offsetX, e.offsetY);
  if (op !== hover) { hover = op; draw(); }
  tip.hidden = !op;
  if (op) {
    tip.innerHTML = describe(op, false);
    const box = $("stage").getBoundingClientRect();
    const x = Math.min(e.offsetX + 16, box.width - tip.offsetWidth - 8);
    const below = e.offsetY + 20 + tip.offsetHeight < box.height;
    tip.style.left = Math.max(x, 8) + "px";
    tip.style.top = (below ? e.offsetY + 20 : e.offsetY - tip.offsetHeight - 12) + "px";
  }
});
canvas.addEventListener("pointerup", (e) => {
  if (grip && !grip.moved) choose(opAt(e.offsetX, e.offsetY));
  grip = null; canvas.classList.remove("moving");
});
canvas.addEventListener("pointerleave", () => { hover = null; tip.hidden = true; draw(); });
canvas.addEventListener("keydown", (e) => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[e.key];
  if (!step || !order || !order.points.length) return;
  e.preventDefault();
  const now = chosen && pointOf.has(chosen.id) ? pointOf.get(chosen.id).at : step > 0 ? -1 : order.points.length;
  const next = order.points[Math.max(0, Math.min(order.points.length - 1, now + step))];
  choose(byId.get(next[0]), true);
});
map.addEventListener("pointerdown", (e) => {
  const go = (x) => {
    const mid = ((x - GUTTER) / (map.clientWidth - GUTTER - 14)) * D.end, half = (to - from) / 2;
    from = mid - half; to = mid + half; draw();
  };
  go(e.offsetX);
  map.setPointerCapture(e.pointerId);
  map.onpointermove = (m) => go(m.offsetX);
  map.onpointerup = () => { map.onpointermove = null; };
});
$("whole").onclick = () => { from = -D.end * 0.01; to = D.end * 1.03 || 1; top = 0; draw(); };
$("find").addEventListener("input", () => {
  const text = $("find").value.trim().toLowerCase();
  if (!text) return;
  const op = /^\d+$/.test(text) && byId.get(+text) ||
    D.ops.find((each) => each.text.toLowerCase().includes(text) || String(each.key).toLowerCase() === text);
  if (op) choose(op, true);
});
function follow() {
  const match = /^#op-(\d+)$/.exec(location.hash);
  if (match && byId.has(+match[1])) choose(byId.get(+match[1]), true);
}
window.addEventListener("hashchange", follow);
new ResizeObserver(() => paint()).observe($("stage"));   // in the same frame, so that nothing is stretched
fill();
home();
const asks = new URLSearchParams(location.search).get("theme");
theme(asks || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"));
requestAnimationFrame(() => { home(); follow(); draw(); });
})();
"""
