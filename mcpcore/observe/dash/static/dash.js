"use strict";
// The live page of mcpcore. Pictures come as a stream of changes; every text is set as text.
const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const ORDER = ["intervention", "split", "read_only", "rejoining", "suspect", "healthy"];
const HISTORY_S = 60;
const groups = new Map(); // name -> {row, cells, ...figures}
const lags = new Map(); // node -> [[seconds, lag]]
let sortBy = "name", sortUp = true, may = [], lastAt = 0, nodes = [], dirty = true;
const token = (() => {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    sessionStorage.setItem("token", given);
    history.replaceState(null, "", location.pathname);
  }
  return sessionStorage.getItem("token") || "";
})();

function make(tag, attributes = {}, ...inside) {
  const svg = ["svg", "line", "circle", "rect", "text", "path", "g", "title"].includes(tag);
  const made = svg ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...inside);
  return made;
}
function put(node, text) { if (node.textContent !== text) node.textContent = text; }
const number = (value) => value.toLocaleString("en");
const ms = (value) => value === null ? "" : value < 10 ? `${value.toFixed(1)} ms` : `${Math.round(value)} ms`;
const words = (verdict) => verdict.replace("_", "-");

// --- the stream -----------------------------------------------------------------------------
function listen() {
  const stream = new EventSource("/events");
  stream.addEventListener("may", (event) => { may = JSON.parse(event.data).actions; });
  stream.addEventListener("picture", (event) => {
    lastAt = performance.now();
    show(JSON.parse(event.data));
  });
  stream.onerror = () => {
    $("banner").dataset.level = "warn";
    put($("headline"), "The connection to mcpctl dash is lost; trying again");
    if (stream.readyState === EventSource.CLOSED) setTimeout(listen, 2000);
  };
}
function show(picture) {
  $("banner").dataset.level = picture.level;
  put($("headline"), picture.headline);
  put($("cluster"), picture.cluster);
  document.title = `${picture.level === "good" ? "" : "⚠ "}${picture.cluster}: mcpcore`;
  nodes = picture.nodes;
  showAdvice(picture.advice);
  showMap(picture.nodes, picture.links);
  showLinks(picture.links);
  showNodes(picture.nodes);
  if (picture.whole) { for (const name of [...groups.keys()]) forget(name); }
  for (const name of picture.gone || []) forget(name);
  const now = performance.now() / 1000;
  const told = new Set();
  for (const row of picture.groups) { told.add(row[0]); showGroup(row, now); }
  for (const [name, group] of groups) if (group.rate > 0 && !told.has(name)) setRate(group, 0);
  put($("count"), `${number(picture.count)}`);
  if (dirty) arrange();
  if ($("detail").open) fillDetail();
}
setInterval(() => {
  if (!lastAt) return;
  const age = (performance.now() - lastAt) / 1000;
  put($("age"), age < 2 ? "live" : `${age.toFixed(0)} s old`);
  $("age").className = age < 5 ? "" : "bad";
}, 500);

// --- advice ---------------------------------------------------------------------------------
function showAdvice(advice) {
  $("advice-section").hidden = advice.length === 0;
  const list = $("advice");
  const key = JSON.stringify(advice);
  if (list.dataset.key === key) return;
  list.dataset.key = key;
  list.replaceChildren(...advice.map((each) => {
    const item = make("li", each.bad ? { class: "isbad" } : {}, make("b", {}, each.text), make("span", {}, each.do));
    return item;
  }));
}

// --- the map --------------------------------------------------------------------------------
const mapped = { key: "", at: new Map(), lines: new Map(), dots: new Map() };
function place(all) {
  const zones = new Map();
  for (const node of all) {
    const zone = node.zone || node.name;
    zones.set(zone, [...(zones.get(zone) || []), node.name]);
  }
  const at = new Map(), centres = [];
  let number = 0;
  for (const [zone, names] of [...zones].sort()) {
    const turn = (2 * Math.PI * number++) / zones.size - Math.PI / 2;
    const x = zones.size === 1 ? 320 : 320 + 215 * Math.cos(turn);
    const y = zones.size === 1 ? 190 : 200 + 128 * Math.sin(turn);
    const radius = names.length === 1 ? 0 : Math.min(78, 42 + 6 * names.length);
    names.forEach((name, place) => {
      const angle = (2 * Math.PI * place) / names.length - (names.length === 2 ? Math.PI : Math.PI / 2);
      at.set(name, [x + radius * Math.cos(angle), y + radius * Math.sin(angle)]);
    });
    if (names.length > 1) centres.push([zone, x, y, radius + 26]);
  }
  return [at, centres];
}
function showMap(all, links) {
  const key = JSON.stringify([all.map((n) => [n.name, n.zone]), links.map((l) => [l.a, l.b])]);
  if (mapped.key !== key) {
    mapped.key = key;
    mapped.lines.clear();
    mapped.dots.clear();
    const [at, centres] = place(all);
    const map = $("map");
    map.replaceChildren(map.querySelector("desc"));
    for (const [zone, x, y, radius] of centres)
      map.append(make("circle", { class: "zone", cx: x, cy: y, r: radius }), make("text", { x, y: y - radius - 6, "text-anchor": "middle", class: "sub" }, zone));
    const few = links.length <= 15;
    for (const link of links) {
      if (!at.has(link.a) || !at.has(link.b)) continue;
      const [[x1, y1], [x2, y2]] = [at.get(link.a), at.get(link.b)];
      const title = make("title");
      const line = make("line", { x1, y1, x2, y2 }, title);
      map.append(line);
      let label = null;
      if (few) {
        const [x, y] = [(x1 + x2) / 2, (y1 + y2) / 2];
        map.append(make("rect", { class: "back", x: x - 30, y: y - 9, width: 60, height: 17, rx: 4 }));
        label = make("text", { x, y: y + 4, "text-anchor": "middle", class: "sub" });
        map.append(label);
      }
      mapped.lines.set(`${link.a}\u0000${link.b}`, [line, title, label]);
    }
    const small = all.length > 12;
    for (const node of all) {
      const [x, y] = at.get(node.name);
      const dot = make("circle", { class: "node", cx: x, cy: y, r: small ? 7 : 13 }, make("title"));
      const sub = make("text", { class: "sub", x, y: y + (small ? 20 : 42), "text-anchor": "middle" });
      map.append(dot);
      if (!small || all.length <= 24) map.append(make("text", { x, y: y + (small ? 20 : 28), "text-anchor": "middle" }, node.name));
      if (!small) map.append(sub);
      mapped.dots.set(node.name, [dot, sub]);
    }
  }
  for (const link of links) {
    const drawn = mapped.lines.get(`${link.a}\u0000${link.b}`);
    if (!drawn) continue;
    const [line, title, label] = drawn;
    const kind = stateOf(link);
    line.setAttribute("class", kind);
    put(title, `${link.a} – ${link.b}: ${linkWords(link)}`);
    if (label) put(label, kind === "cut" ? "cut" : kind === "unknown" ? "?" : kind === "one" ? "one way" : ms(link.round_trip_ms));
  }
  for (const node of all) {
    const drawn = mapped.dots.get(node.name);
    if (!drawn) continue;
    const [dot, sub] = drawn;
    dot.setAttribute("class", `node ${!node.up ? "down" : node.disk !== "well" || node.lag > 100 ? "warn" : ""}`);
    put(dot.querySelector("title"), node.up ? `${node.name} at ${node.endpoint}` : `${node.name} does not answer: ${node.error}`);
    put(sub, !node.up ? "silent" : node.leads ? `leads ${number(node.leads)}` : "");
  }
}
function stateOf(link) {
  const known = [link.there, link.back].filter((each) => each !== null);
  if (known.length === 0) return "unknown";
  if (known.every((each) => !each)) return "cut";
  if (known.some((each) => !each)) return "one";
  return link.round_trip_ms !== null && link.round_trip_ms > 20 ? "far" : "near";
}
function linkWords(link) {
  switch (stateOf(link)) {
    case "unknown": return "not known: neither answers";
    case "cut": return "cut";
    case "one": return link.there ? `only ${link.a} says it is connected` : `only ${link.b} says it is connected`;
    default: return link.round_trip_ms === null ? "connected" : `connected, ${ms(link.round_trip_ms)}`;
  }
}
function showLinks(links) {
  const body = $("links");
  while (body.rows.length > links.length) body.deleteRow(-1);
  links.forEach((link, at) => {
    let row = body.rows[at];
    if (!row) { row = body.insertRow(); row.append(make("td"), make("td"), make("td", { class: "n" })); }
    put(row.cells[0], `${link.a} – ${link.b}`);
    put(row.cells[1], linkWords(link));
    row.cells[1].className = stateOf(link) === "cut" ? "bad" : stateOf(link) === "one" ? "warn" : "";
    put(row.cells[2], ms(link.round_trip_ms));
  });
}

// --- nodes ----------------------------------------------------------------------------------
const nodeRows = new Map();
function showNodes(all) {
  const body = $("nodes"), now = performance.now() / 1000;
  const names = new Set(all.map((node) => node.name));
  for (const [name, row] of nodeRows) if (!names.has(name)) { row.tr.remove(); nodeRows.delete(name); lags.delete(name); }
  const widest = Math.max(1, ...all.map((n) => Math.abs(n.clock_offset_ms || 0) + (n.clock_uncertainty_ms || 0)));
  for (const node of all) {
    let row = nodeRows.get(node.name);
    if (!row) {
      const path = make("path"), spark = make("svg", { class: "spark", viewBox: "0 0 100 20", preserveAspectRatio: "none", role: "img", "aria-label": `lag of ${node.name}` }, path);
      const band = make("rect", { class: "band", y: 3, height: 6 }), dot = make("circle", { class: "dot", cy: 6, r: 2.5 });
      const off = make("svg", { class: "off", viewBox: "0 0 120 12", "aria-hidden": "true" }, make("line", { class: "axis", x1: 60, x2: 60, y1: 0, y2: 12 }), band, dot);
      const offText = make("span"), tr = make("tr");
      tr.append(make("th", { scope: "row" }), make("td", { class: "n" }), make("td", { class: "n" }), make("td", {}, spark), make("td", {}, off, offText), make("td"));
      row = { tr, path, band, dot, off, offText };
      nodeRows.set(node.name, row);
      body.append(tr);
    }
    const cells = row.tr.cells;
    put(cells[0], node.zone && node.zone !== node.name ? `${node.name} (${node.zone})` : node.name);
    if (!node.up) {
      put(cells[1], ""); put(cells[2], "");
      put(cells[5], `silent: ${node.error}`);
      cells[5].className = "bad wrap";
      row.off.style.display = "none"; put(row.offText, "");
      continue;
    }
    put(cells[1], number(node.leads));
    put(cells[2], number(node.lag));
    cells[2].className = node.lag > 100 ? "n bad" : "n";
    const past = lags.get(node.name) || [];
    past.push([now, node.lag]);
    while (past.length && past[0][0] < now - HISTORY_S) past.shift();
    lags.set(node.name, past);
    const top = Math.max(10, ...past.map((each) => each[1]));
    row.path.setAttribute("d", past.map(([when, lag], at) => `${at ? "L" : "M"}${(100 * (1 - (now - when) / HISTORY_S)).toFixed(1)} ${(19 - (17 * lag) / top).toFixed(1)}`).join(""));
    if (node.clock_offset_ms === null) {
      row.off.style.display = "none";
      put(row.offText, node.clock);
    } else {
      row.off.style.display = "";
      const x = (value) => 60 + (56 * value) / widest;
      const spread = node.clock_uncertainty_ms || 0;
      row.band.setAttribute("x", x(node.clock_offset_ms - spread));
      row.band.setAttribute("width", Math.max(1, (112 * spread) / widest));
      row.dot.setAttribute("cx", x(node.clock_offset_ms));
      put(row.offText, `${node.clock_offset_ms.toFixed(2)} ± ${spread.toFixed(2)} ms${node.clock === "synchronised" ? "" : `, ${node.clock}`}`);
    }
    put(cells[5], node.disk === "well" ? `sync ${ms(node.sync_ms)}` : node.disk);
    cells[5].className = node.disk === "well" ? "" : "bad";
  }
}

// --- groups ---------------------------------------------------------------------------------
function forget(name) {
  const group = groups.get(name);
  if (group) { group.tr.remove(); groups.delete(name); dirty = true; }
}
function setRate(group, rate) {
  group.rate = rate;
  put(group.tr.cells[5], rate ? number(Math.round(rate)) : "");
}
function showGroup([name, leaders, term, commit, lag, behind, verdict, by, asleep, members], now) {
  let group = groups.get(name);
  if (!group) {
    const tr = make("tr"), open = make("button", { type: "button", class: "name" }, name);
    tr.append(make("td", {}, open), make("td", {}, make("span", { class: "pill" })), make("td"), make("td", { class: "n" }), make("td", { class: "n" }), make("td", { class: "n" }), make("td", { class: "n" }), make("td", { class: "soft" }));
    tr.addEventListener("click", () => detail(name));
    group = { tr, rate: 0, at: now, commit };
    groups.set(name, group);
    dirty = true;
  }
  const cells = group.tr.cells, pill = cells[1].firstChild, leader = leaders.join(", ");
  const fresh = group.commit !== commit && now > group.at ? (commit - group.commit) / (now - group.at) : 0;
  if (group.verdict !== verdict || group.leader !== leader || (sortBy !== "name" && group[sortBy] !== { term, commit, lag }[sortBy])) dirty = true;
  Object.assign(group, { name, leaders, leader, term, commit, lag, behind, verdict, by, asleep, members, at: now });
  setRate(group, group.rate && fresh ? 0.7 * group.rate + 0.3 * fresh : fresh);
  pill.dataset.v = verdict;
  put(pill, words(verdict));
  put(cells[2], leader || "nobody");
  cells[2].className = leader ? "" : "bad";
  put(cells[3], number(term));
  put(cells[4], number(commit));
  put(cells[6], lag ? `${number(lag)} (${behind})` : "0");
  cells[6].className = lag > 100 ? "n bad" : "n";
  const differ = new Set(Object.values(by)).size > 1;
  put(cells[7], differ ? Object.entries(by).map(([node, says]) => `${node}: ${words(says)}`).join(", ") : asleep ? "asleep" : "");
}
function arrange() {
  dirty = false;
  const sought = $("find").value.trim().toLowerCase().split(/\s+/).filter(Boolean), unwell = $("unwell").checked;
  const key = sortBy === "verdict" ? (g) => ORDER.indexOf(g.verdict) : (g) => g[sortBy];
  const found = [...groups.values()].filter((group) => {
    if (unwell && group.verdict === "healthy" && group.leader && group.lag <= 100) return false;
    const text = `${group.name} ${group.leader} ${words(group.verdict)}`.toLowerCase();
    return sought.every((each) => text.includes(each));
  });
  found.sort((a, b) => {
    const [x, y] = [key(a), key(b)];
    const less = typeof x === "string" ? x.localeCompare(y, "en", { numeric: true }) : x - y;
    return (sortUp ? less : -less) || a.name.localeCompare(b.name, "en", { numeric: true });
  });
  const body = $("rows");
  const wanted = found.map((group) => group.tr);
  if (wanted.length !== body.rows.length || wanted.some((tr, at) => body.rows[at] !== tr)) body.replaceChildren(...wanted);
  $("none").hidden = found.length > 0 || groups.size === 0;
}
for (const button of document.querySelectorAll("th button")) button.addEventListener("click", () => {
  const by = button.dataset.by;
  sortUp = sortBy === by ? !sortUp : !["lag", "rate", "commit", "term"].includes(by);
  sortBy = by;
  for (const each of document.querySelectorAll("th[aria-sort]")) each.removeAttribute("aria-sort");
  button.parentElement.setAttribute("aria-sort", sortUp ? "ascending" : "descending");
  arrange();
});
$("find").addEventListener("input", arrange);
$("unwell").addEventListener("change", arrange);
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && !/input|textarea/i.test(event.target.tagName)) { event.preventDefault(); $("find").focus(); }
});

// --- one group, and what can be done ----------------------------------------------------------
let detailed = "", detailKey = "";
function detail(name) {
  if (!groups.has(name)) return;
  detailed = name;
  detailKey = "";
  fillDetail();
  $("detail").showModal();
}
function fillDetail() {
  const group = groups.get(detailed);
  const key = group && JSON.stringify([detailed, group.verdict, group.leader, group.members, group.term, group.commit, group.lag, group.by, may]);
  if (!group || key === detailKey) return;
  detailKey = key;
  const name = detailed;
  put($("detail-title"), `Group ${name}`);
  const rows = [
    ["verdict", words(group.verdict)], ["leader", group.leader || "nobody"], ["members", group.members.join(", ")],
    ["term", number(group.term)], ["commit index", number(group.commit)], ["lag", group.lag ? `${number(group.lag)} entries, ${group.behind}` : "none"],
    ...Object.entries(group.by).map(([node, says]) => [`${node} says`, words(says)]),
  ];
  $("detail-list").replaceChildren(...rows.flatMap(([what, value]) => [make("dt", {}, what), make("dd", {}, value)]));
  const acts = [];
  if (may.includes("transfer")) for (const member of group.members) if (member !== group.leader) acts.push(act(`Let ${member} lead`, { action: "transfer", group: name, target: member }));
  if (may.includes("reunite") && group.verdict === "intervention") acts.push(act("Reunite", { action: "reunite", group: name }));
  const labels = acts.map((each) => each.textContent).join();
  if ($("detail-acts").dataset.labels !== `${name}:${labels}`) $("detail-acts").replaceChildren(...acts);  // else focus would be lost
  $("detail-acts").dataset.labels = `${name}:${labels}`;
}
function act(label, asked) {
  const button = make("button", { type: "button" }, label);
  button.addEventListener("click", () => plan(asked));
  return button;
}
async function post(path, body) {
  const answer = await fetch(path, { method: "POST", headers: { "x-mcpcore-token": token, "content-type": "application/json" }, body: JSON.stringify(body) });
  const told = await answer.json();
  if (!answer.ok) throw new Error(told.error);
  return told;
}
async function plan(asked) {
  const yes = $("plan-yes");
  yes.hidden = true;
  put($("plan-text"), "Asking…");
  $("plan").showModal();
  try {
    const told = await post("/plan", asked);
    put($("plan-text"), told.plan);
    yes.hidden = false;
    yes.onclick = async () => {
      yes.hidden = true;
      try { put($("plan-text"), (await post("/do", { ticket: told.ticket })).done); }
      catch (error) { put($("plan-text"), String(error.message)); }
    };
  } catch (error) { put($("plan-text"), String(error.message)); }
}
$("plan-no").addEventListener("click", () => $("plan").close());
$("detail-close").addEventListener("click", () => $("detail").close());
$("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem("theme", root.dataset.theme);
});
if (localStorage.getItem("theme")) document.documentElement.dataset.theme = localStorage.getItem("theme");
listen();
