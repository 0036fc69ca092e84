// The pictures that the page draws itself: single operations, and messages between nodes.
// Plain SVG from the data in the page; nothing is fetched.
(function () {
  "use strict";
  var SVG = "http://www.w3.org/2000/svg";
  function data(id) { return JSON.parse(document.getElementById(id).textContent); }
  function html(tag, text, attributes) {
    var made = document.createElement(tag);
    if (text) made.textContent = text;
    Object.keys(attributes || {}).forEach(function (key) { made.setAttribute(key, attributes[key]); });
    return made;
  }
  function svg(tag, attributes, text) {
    var made = document.createElementNS(SVG, tag);
    Object.keys(attributes).forEach(function (key) { made.setAttribute(key, attributes[key]); });
    if (text) made.textContent = text;
    return made;
  }
  function titled(shape, text) { shape.appendChild(svg("title", {}, text)); return shape; }
  function axis(picture, from, to, x, bottom) {
    for (var tick = 0; tick <= 6; tick++) {
      var at = from + (to - from) * tick / 6;
      picture.appendChild(svg("text", { x: x(at), y: bottom, "text-anchor": "middle", class: "soft" },
        at.toFixed(to - from < 10 ? 2 : 0) + " s"));
    }
  }
  function label(name) { return name.length > 26 ? "..." + name.slice(-24) : name; }

  // --- operations ---
  var LEFT = 170, WIDTH = 1100, LANE = 16;
  function drawOperations(home, run) {
    var details = html("details", "", { id: "operations-" + run.kind });
    if (run.findings.length) details.open = true;
    var shown = run.bars.length < run.total ? run.bars.length + " of " + run.total + " shown: all that are blamed, and an even choice of the others"
      : run.total + (run.total === 1 ? " operation" : " operations");
    details.appendChild(html("summary", run.kind + ": " + shown));
    var told = html("div", "", { class: "told soft", "aria-live": "polite" });
    var bars = {};
    function choose(id) {
      Object.keys(bars).forEach(function (other) { bars[other].shape.classList.remove("chosen"); });
      var found = bars[id];
      if (!found) { told.textContent = "operation " + id + " is not among those shown"; return; }
      found.shape.classList.add("chosen");
      told.textContent = "operation " + id + ", " + run.lanes[found.bar[1]] + ", " + found.bar[2] + " s to " +
        (found.bar[4] === "unknown" || found.bar[3] === null ? "?" : found.bar[3] + " s") + ": " + found.bar[5];
      found.shape.scrollIntoView({ block: "nearest", inline: "center" });
    }
    var blamed = {};
    if (run.findings.length) {
      var list = html("ul");
      run.findings.forEach(function (finding) {
        var item = html("li", finding[0] + ": " + finding[1] + " ");
        finding[2].forEach(function (id) {
          blamed[id] = true;
          var button = html("button", "#" + id, { class: "op", type: "button", "data-operation": id });
          button.addEventListener("click", function () { details.open = true; choose(id); });
          item.appendChild(button);
          item.appendChild(document.createTextNode(" "));
        });
        list.appendChild(item);
      });
      if (run.more > 0) list.appendChild(html("li", "and " + run.more + " more", { class: "soft" }));
      details.appendChild(list);
    }
    var end = run.bars.reduce(function (most, bar) { return Math.max(most, bar[3] || bar[2]); }, 1);
    function x(at) { return LEFT + at / end * (WIDTH - LEFT - 20); }
    var height = run.lanes.length * LANE + 26;
    var picture = svg("svg", { class: "picture", viewBox: "0 0 " + WIDTH + " " + height, role: "img",
      "aria-label": "operations of " + run.kind });
    run.lanes.forEach(function (name, lane) {
      picture.appendChild(titled(svg("text", { x: 2, y: lane * LANE + 12 }, label(name)), name));
      picture.appendChild(svg("line", { class: "lane", x1: LEFT, x2: WIDTH - 20, y1: lane * LANE + LANE, y2: lane * LANE + LANE }));
    });
    run.bars.forEach(function (bar) {
      var to = bar[4] === "unknown" || bar[3] === null ? end : bar[3];
      var shape = svg("rect", { class: "bar " + bar[4] + (blamed[bar[0]] ? " blamed" : ""), x: x(bar[2]), y: bar[1] * LANE + 3,
        width: Math.max(1.5, x(to) - x(bar[2])), height: bar[4] === "unknown" ? 4 : LANE - 6, "data-operation": bar[0] });
      shape.addEventListener("click", function () { choose(bar[0]); });
      picture.appendChild(titled(shape, bar[5]));
      bars[bar[0]] = { shape: shape, bar: bar };
    });
    axis(picture, 0, end, x, height - 6);
    var scroll = html("div", "", { class: "scroll" });
    scroll.appendChild(picture);
    details.appendChild(scroll);
    details.appendChild(told);
    home.appendChild(details);
  }

  // --- messages ---
  function drawSpacetime(home, run) {
    var tools = html("div", "", { class: "tools" });
    var select = html("select", "", { "aria-label": "moment" });
    run.windows.forEach(function (window_, number) {
      select.appendChild(html("option", window_[1].toFixed(1) + " s: " + window_[0], { value: number }));
    });
    tools.appendChild(select);
    var lost = html("input", "", { type: "checkbox", id: "only-lost" });
    var lostLabel = html("label", "", {});
    lostLabel.appendChild(lost);
    lostLabel.appendChild(document.createTextNode(" only what did not arrive"));
    tools.appendChild(lostLabel);
    var boxes = run.nodes.slice(0, 60).map(function (name) {
      var box = html("input", "", { type: "checkbox" });
      box.checked = true;
      box.addEventListener("change", draw);
      var around = html("label", "", {});
      around.appendChild(box);
      around.appendChild(document.createTextNode(" " + name));
      tools.appendChild(around);
      return box;
    });
    var note = html("p", "", { class: "soft" });
    var scroll = html("div", "", { class: "scroll" });
    home.appendChild(tools); home.appendChild(note); home.appendChild(scroll);
    select.addEventListener("change", draw);
    lost.addEventListener("change", draw);

    function draw() {
      var number = Number(select.value), window_ = run.windows[number];
      if (!window_) return;
      var from = window_[1], to = window_[2], lanes = [];
      run.nodes.forEach(function (name, node) { if (!boxes[node] || boxes[node].checked) lanes.push(node); });
      var place = {};
      lanes.forEach(function (node, lane) { place[node] = lane; });
      var gap = 46, height = lanes.length * gap + 30;
      function x(at) { return LEFT + (Math.min(at, to) - from) / (to - from) * (WIDTH - LEFT - 20); }
      function y(lane) { return lane * gap + 22; }
      var picture = svg("svg", { class: "picture", viewBox: "0 0 " + WIDTH + " " + height, role: "img", "aria-label": "messages between nodes" });
      lanes.forEach(function (node, lane) {
        picture.appendChild(titled(svg("text", { x: 2, y: y(lane) + 4 }, label(run.nodes[node])), run.nodes[node]));
        picture.appendChild(svg("line", { class: "lane", x1: LEFT, x2: WIDTH - 20, y1: y(lane), y2: y(lane) }));
      });
      var drawn = 0, gone = 0, late = 0;
      run.messages.forEach(function (message) {
        if (message[0] !== number || !(message[1] in place) || !(message[2] in place)) return;
        var never = message[4] === null, beyond = !never && message[4] > to;
        if (never) gone++; if (beyond) late++;
        if (lost.checked && !never) return;
        drawn++;
        var here = y(place[message[1]]), there = y(place[message[2]]), told = run.nodes[message[1]] + " to " + run.nodes[message[2]] +
          ", " + message[5] + " bytes, sent " + message[3].toFixed(4) + " s, ";
        if (never) {
          var stub = there > here ? 14 : -14;
          var cross = svg("path", { class: "lost", fill: "none", d: "M" + x(message[3]) + " " + here + " l6 " + stub + " m-3 -3 l6 6 m0 -6 l-6 6" });
          picture.appendChild(titled(cross, told + "did not arrive"));
        } else {
          picture.appendChild(titled(svg("line", { class: "arrow", x1: x(message[3]), y1: here, x2: x(message[4]), y2: there, "marker-end": "url(#head)" }),
            told + "arrived " + message[4].toFixed(4) + " s"));
        }
      });
      var head = svg("marker", { id: "head", viewBox: "0 0 6 6", refX: 6, refY: 3, markerWidth: 6, markerHeight: 6, orient: "auto" });
      head.appendChild(svg("path", { d: "M0 0 L6 3 L0 6 z", fill: "#4a8fc7" }));
      var defs = svg("defs", {});
      defs.appendChild(head);
      picture.appendChild(defs);
      axis(picture, from, to, x, height - 4);
      scroll.replaceChildren(picture);
      note.textContent = drawn + " messages drawn, " + gone + " of this moment never arrived" + (late ? ", " + late + " arrived after it" : "") +
        (window_[3] ? "; " + window_[3] + " more were sent and not kept" : "") + ". Point at one to see it.";
    }
    draw();
  }

  data("operations-data").forEach(function (run) { drawOperations(document.getElementById("operations"), run); });
  var home = document.getElementById("spacetime");
  if (home) drawSpacetime(home, data("spacetime-data"));
})();
