// The loop as a picture: who hands what to whom, how fast, and how each part is.

import { h, s, put, byId, count, rate, short, span, mark } from "./dom.js";
import { known, line, on } from "./live.js";

const NODE_H = 78;

/** Parts of the loop: place in the wide picture (column, row), what they are, what shows the same. */
const PARTS = {
  producers: { name: "Producers", at: [0, 0], command: "driftline simulate --for 60s",
    words: "Apps and players. They send what people watch, click and do not want to see to watch-events, click-events and feedback-events." },
  clients: { name: "Clients", at: [0, 1], command: "driftline recommend --user alice",
    words: "Whoever asks for lists, over the request and reply topics or over REST." },
  letters: { name: "Dead letters", at: [0, 2], command: "driftline deadletters list --summary",
    words: "Records that no worker could take, with the reason. They can be sent again once the cause is mended." },
  workers: { name: "Workers", at: [1, 1], command: "driftline metrics --workers",
    words: "They fold events into users' state, answer requests, and join what was shown with what came of it." },
  deployer: { name: "Decisions", at: [1, 2], command: "driftline deploy status",
    words: "Which version serves is one record of model-control. Every worker checks the model, makes its golden lists again, and only then serves it." },
  monitor: { name: "Monitor", at: [2, 0], command: "driftline monitor",
    words: "It judges each minute of metrics against its hour of the week, and tells triggers." },
  lake: { name: "Lake", at: [2, 1], command: "driftline archive",
    words: "Event topics as Parquet files in the object store: what models are trained on." },
  trainer: { name: "Trainer", at: [3, 1], command: "driftline train --watch --promote",
    words: "It trains on the lake when a trigger asks, judges on held out events, and registers the version." },
  registry: { name: "Registry", at: [3, 2], command: "driftline models list",
    words: "Every version with its files, lineage and blessings. Versions never change." },
};

/** Who hands what to whom; sides are those of the wide picture. */
const EDGES = [
  { id: "events", from: "producers", to: "workers", sides: "rl", label: "events" },
  { id: "requests", from: "clients", to: "workers", sides: "rl", label: "requests" },
  { id: "letters", from: "workers", to: "letters", sides: "lr", label: "refused" },
  { id: "metrics", from: "workers", to: "monitor", sides: "tl", label: "metrics" },
  { id: "interactions", from: "workers", to: "lake", sides: "rl", label: "interactions" },
  { id: "rows", from: "lake", to: "trainer", sides: "rl", label: "snapshots" },
  { id: "triggers", from: "monitor", to: "trainer", sides: "rt", label: "triggers" },
  { id: "versions", from: "trainer", to: "registry", sides: "bt", label: "versions" },
  { id: "models", from: "registry", to: "deployer", sides: "lr", label: "models" },
  { id: "control", from: "deployer", to: "workers", sides: "tb", label: "decisions" },
];

/** One under the other on narrow screens, in this order. */
const COLUMN = ["producers", "clients", "workers", "letters", "monitor", "lake", "trainer", "registry", "deployer"];

let drawn = null;
let chosen = null;

const topic = (name) => known.flow?.topics?.[name];
const flow = (...names) => {
  const rates = names.map((name) => topic(name)?.rate).filter((value) => value !== null && value !== undefined);
  return rates.length ? rates.reduce((a, b) => a + b, 0) : null;
};
const group = (name) => known.flow?.groups?.[name];

/** How a reader is, by how far it is behind and whether it moves. */
function reader(name, patience) {
  const told = group(name);
  if (!told?.known) return ["none", "not running yet"];
  if (told.lag === 0) return ["ok", "keeps up"];
  if (told.still_s > patience) return ["bad", `stands still, ${count(told.lag)} behind`];
  return told.lag > 1000 ? ["busy", `${count(told.lag)} behind`] : ["ok", "keeps up"];
}

const latest = () => (known.runs ?? []).reduce((a, b) => (a && a.at >= b.at ? a : b), null);

/** What each part shows: a figure, a state, its words, and facts for those who look closer. */
const STATES = {
  producers() {
    const all = flow("watch-events", "click-events", "feedback-events");
    const facts = [["watch", "watch-events"], ["click", "click-events"], ["feedback", "feedback-events"]]
      .map(([name, of]) => [`${name} events a second`, rate(topic(of)?.rate)]);
    return [all === null ? "" : `${rate(all)} events/s`, ...(all > 0 ? ["ok", "sending"] : ["none", "quiet"]), facts];
  },
  clients() {
    const all = flow("recommendation-requests");
    return [all === null ? "" : `${rate(all)} requests/s`, ...(all > 0 ? ["ok", "asking"] : ["none", "quiet"]),
      [["replies a second", rate(topic("recommendation-replies")?.rate)], ["lists noted a second", rate(topic("impressions")?.rate)]]];
  },
  workers() {
    const up = (known.workers ?? []).filter((w) => Date.now() - w.newest < 180000);
    const [state, words] = reader("events", 20);
    const waiting = group("requests");
    const p99 = up.reduce((most, w) => Math.max(most, w.p99_ms ?? 0), 0);
    const facts = [["events not folded", count(group("events")?.lag)], ["requests not answered", count(waiting?.lag)],
      ["interactions not folded into items", count(group("items")?.lag)], ["answering workers", count(up.length)]];
    const stuck = waiting?.known && waiting.lag > 0 && waiting.still_s > 15;
    return [up.length ? `${up.length} up${p99 ? `, p99 ${p99 < 10 ? p99.toFixed(1) : Math.round(p99)} ms` : ""}` : "",
      ...(stuck ? ["bad", `${count(waiting.lag)} requests wait`] : [state, words]), facts];
  },
  letters() {
    const held = topic("dead-letters")?.held;
    const newest = known.letters?.[0]?.at;
    const fresh = newest && Date.now() - newest < 3600000;
    return [held === undefined ? "" : `${count(held)} kept`,
      ...(held === undefined ? ["none", ""] : fresh ? ["warn", "some of the last hour"] : ["ok", held ? "none of the last hour" : "none"]),
      [["newest", newest ? `${span((Date.now() - newest) / 1000)} ago` : "–"]]];
  },
  monitor() {
    const [state, words] = reader("monitor", 60);
    const pooled = known.evidence?.pooled;
    return [known.evidence?.warming_up === false && pooled !== undefined ? `evidence ${Math.max(0, Math.round(pooled * 100))} %` : known.now?.at ? "warming up" : "",
      state, words, [["records of metrics not judged", count(group("monitor")?.lag)], ["evidence for a change, of an alarm", pooled === undefined ? "–" : `${Math.max(0, Math.round(pooled * 100))} %`]]];
  },
  lake() {
    const told = group("archive");
    if (!told?.known) return ["", "none", "not archived yet", []];
    return [`${count(told.lag)} wait for a cut`, ...(told.lag > 0 && told.still_s > 1800 ? ["warn", "stands still"] : ["ok", "archiving"]),
      [["interactions not in the lake", count(told.lag)]]];
  },
  trainer() {
    const run = latest();
    const watching = group("trainer")?.known;
    const words = { STARTED: ["busy", "training"], FINISHED: ["ok", "last run finished"], REFUSED: ["warn", "data was not fit"],
      FAILED: ["warn", "tries again"], GAVE_UP: ["bad", "gave up"], COLLAPSED: ["ok", "answered by another"] };
    const [state, said] = run ? words[run.state] ?? ["none", run.state] : watching ? ["ok", "waits for triggers"] : ["none", "not running yet"];
    return [`${count(known.runs?.length ?? 0)} runs`, state, said, [["last run", run ? `${run.state.toLowerCase()}, ${span((Date.now() - run.at) / 1000)} ago` : "–"]]];
  },
  registry() {
    const told = known.models;
    if (!told) return ["", "none", "…", []];
    if (told.error) return ["", "bad", "cannot be read", [["why", told.error]]];
    const champion = told.versions.find((v) => v.roles?.includes("champion"));
    return [`${count(told.count)} versions`, ...(told.count ? ["ok", champion ? `champion ${short(champion.version)}` : "no champion"] : ["none", "nothing yet"]), []];
  },
  deployer() {
    const now = known.control?.[0];
    if (!now) return ["", "none", "first basis serves", []];
    const phase = now.candidate ? `, ${now.phase.toLowerCase()} ${short(now.candidate)}` : "";
    return [`epoch ${now.epoch}${phase}`, now.candidate ? "busy" : "ok", `${now.champion ? short(now.champion) : "newest"} serves`,
      [["by", now.by || "–"], ["why", now.reason || "–"]]];
  },
};

/** Why nothing is known at the moment; nothing where all is. */
const lost = () => (line.state !== "open" ? "not heard of" : known.broker && !known.broker.ok ? "the broker is away" : null);

/** What a part shows, where it can be known. */
function stateOf(id) {
  const [number, state, words, facts] = STATES[id]();
  return lost() && id !== "registry" ? [number, "none", lost(), facts] : [number, state, words, facts];
}

const EDGE_RATES = {
  events: () => flow("watch-events", "click-events", "feedback-events"),
  requests: () => flow("recommendation-requests"),
  letters: () => flow("dead-letters"),
  metrics: () => flow("metrics"),
  interactions: () => flow("interactions"),
  rows: () => null,
  triggers: () => flow("retrain-triggers"),
  versions: () => flow("training-runs"),
  models: () => flow("models"),
  control: () => flow("model-control"),
};

/** Boxes by part for a width in pixels: four columns, or one. */
function layout(width) {
  const boxes = {};
  if (width >= 900) {
    const gap = Math.min(130, 96 + (width - 900) / 4);
    const w = (width - 3 * gap - 4) / 4;
    for (const [id, part] of Object.entries(PARTS)) {
      boxes[id] = { x: 2 + part.at[0] * (w + gap), y: 4 + part.at[1] * (NODE_H + 44), w };
    }
    return { boxes, height: 3 * NODE_H + 2 * 44 + 8, wide: true };
  }
  const w = Math.min(width - 64, 420);
  COLUMN.forEach((id, row) => { boxes[id] = { x: 4, y: 4 + row * (NODE_H + 40), w }; });
  return { boxes, height: COLUMN.length * (NODE_H + 40) - 32, wide: false };
}

const middle = (box, side) => ({
  l: [box.x, box.y + NODE_H / 2], r: [box.x + box.w, box.y + NODE_H / 2],
  t: [box.x + box.w / 2, box.y], b: [box.x + box.w / 2, box.y + NODE_H],
}[side]);

/** A path between two parts, and where its label stands. */
function path(edge, { boxes, wide }) {
  const [a, b] = [boxes[edge.from], boxes[edge.to]];
  if (!wide) return column(edge, a, b);
  const [[x1, y1], [x2, y2]] = [middle(a, edge.sides[0]), middle(b, edge.sides[1])];
  const r = 12;
  if (edge.sides === "rl" || edge.sides === "lr") {
    if (y1 === y2) return [`M${x1} ${y1}H${x2}`, Math.min(x1, x2) + 10, y1 - 8];
    // Into the side of the workers, a little apart from each other.
    const mid = Math.min(x1, x2) + 0.74 * Math.abs(x2 - x1);
    if (edge.from === "producers") {
      const end = y2 - 18;
      return [`M${x1} ${y1}H${mid - r}Q${mid} ${y1} ${mid} ${y1 + r}V${end - r}Q${mid} ${end} ${mid + r} ${end}H${x2}`, x1 + 10, y1 - 8];
    }
    const from = y1 + 18;
    return [`M${x1} ${from}H${mid + r}Q${mid} ${from} ${mid} ${from + r}V${y2 - r}Q${mid} ${y2} ${mid - r} ${y2}H${x2}`, x2 + 10, y2 - 8];
  }
  if (edge.sides === "tl") return [`M${x1} ${y1}V${y2 + r}Q${x1} ${y2} ${x1 + r} ${y2}H${x2}`, (x1 + x2) / 2, y2 - 8];
  if (edge.sides === "rt") return [`M${x1} ${y1}H${x2 - r}Q${x2} ${y1} ${x2} ${y1 + r}V${y2}`, (x1 + x2) / 2, y1 - 8];
  return [`M${x1} ${y1}V${y2}`, x1 + 8, (y1 + y2) / 2 + 4];
}

/** In one column only neighbours are joined by short arrows; the way back goes along the side. */
function column(edge, a, b) {
  const steps = { clients: 30, monitor: 60, lake: 90, deployer: 0 };
  if (b.y > a.y && b.y - a.y < NODE_H + 60) {
    const x = a.x + 34;
    return [`M${x} ${a.y + NODE_H}V${b.y}`, x + 10, (a.y + NODE_H + b.y) / 2 + 4];
  }
  const lane = { events: 14, metrics: 14, interactions: 28, triggers: 42, control: 54 }[edge.id] ?? 14;
  const [x, y1, y2] = [a.x + a.w, a.y + NODE_H / 2, b.y + NODE_H / 2 + (steps[edge.from] ? 8 : -8)];
  return [`M${x} ${y1}H${x + lane - 6}Q${x + lane} ${y1} ${x + lane} ${y1 + Math.sign(y2 - y1) * 6}V${y2 - Math.sign(y2 - y1) * 6}Q${x + lane} ${y2} ${x + lane - 6} ${y2}H${x}`, null, null];
}

function build(picture, width) {
  const plan = layout(width);
  const nodes = {};
  const edges = {};
  const svg = s("svg", { viewBox: `0 0 ${width} ${plan.height}`, width, height: plan.height, role: "group", "aria-label": "The parts of the loop" },
    s("defs", {}, s("marker", { id: "arrow", viewBox: "0 0 10 10", refX: "9", refY: "5", markerWidth: "7", markerHeight: "7", orient: "auto-start-reverse" },
      s("path", { d: "M0 0.8L9 5L0 9.2Z", class: "arrow" }))));
  for (const edge of EDGES) {
    const [d, x, y] = path(edge, plan);
    const way = s("path", { d, class: "edge", "marker-end": "url(#arrow)" });
    const moving = s("path", { d, class: "moving" });
    const along = plan.wide && (edge.sides === "tl" || edge.sides === "rt");
    const label = s("text", { x: x ?? 0, y: y ?? 0, class: "edge-label", "text-anchor": along ? "middle" : "start" });
    if (x === null) label.setAttribute("display", "none");
    svg.append(way, moving, label);
    edges[edge.id] = { label, moving, name: edge.label };
  }
  for (const id of plan.wide ? Object.keys(PARTS) : COLUMN) {
    const box = plan.boxes[id];
    const title = s("text", { x: box.x + 14, y: box.y + 24, class: "node-name" }, PARTS[id].name);
    const figure = s("text", { x: box.x + 14, y: box.y + 44, class: "node-figure" });
    const sign = s("text", { x: box.x + 14, y: box.y + 65, class: "mark" });
    const words = s("text", { x: box.x + 32, y: box.y + 64, class: "node-words" });
    const node = s("g", { class: "node", tabindex: "0", role: "button", "data-part": id, "aria-controls": "loop-detail",
      onclick: () => choose(id),
      onkeydown: (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); choose(id); } } },
      s("rect", { x: box.x, y: box.y, width: box.w, height: NODE_H, rx: 10 }), title, figure, sign, words);
    svg.append(node);
    nodes[id] = { node, figure, sign, words };
  }
  picture.replaceChildren(svg);
  return { width, nodes, edges };
}

function choose(id) {
  chosen = chosen === id ? null : id;
  update();
}

const SIGNS = { ok: "●", busy: "◐", warn: "▲", bad: "✕", none: "○" };

function update() {
  const picture = byId("loop-picture");
  const width = Math.floor(picture.clientWidth);
  if (width < 50) return;
  if (!drawn || drawn.width !== width) drawn = build(picture, width);
  for (const [id, { node, figure, sign, words }] of Object.entries(drawn.nodes)) {
    const [number, state, said] = stateOf(id);
    figure.textContent = number;
    sign.textContent = SIGNS[state];
    sign.setAttribute("class", `mark ${state}`);
    words.textContent = said;
    node.setAttribute("class", `node ${state}${chosen === id ? " chosen" : ""}`);
    node.setAttribute("aria-pressed", String(chosen === id));
    node.setAttribute("aria-label", `${PARTS[id].name}: ${[number, said].filter(Boolean).join(", ")}`);
  }
  for (const [id, { label, moving, name }] of Object.entries(drawn.edges)) {
    const speed = lost() ? null : EDGE_RATES[id]();
    label.textContent = speed ? `${name} ${rate(speed)}/s` : name;
    moving.setAttribute("class", speed ? `moving on ${speed > 20 ? "fast" : ""}` : "moving");
  }
  detail();
}

function detail() {
  const place = byId("loop-detail");
  if (!chosen) return put(place);
  const part = PARTS[chosen];
  const [, state, said, facts] = stateOf(chosen);
  put(place,
    h("h3", {}, mark(state), ` ${part.name}: ${said}`),
    h("p", {}, part.words),
    facts?.length ? h("dl", { class: "facts" }, facts.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))) : null,
    h("p", { class: "command" }, "The same in a shell: ", h("code", {}, part.command)));
}

/** Draws the loop and keeps it up to date. */
export function showLoop() {
  on(["flow", "workers", "letters", "evidence", "now", "runs", "models", "control", "broker", "line"], update);
  new ResizeObserver(update).observe(byId("loop-picture"));
  setInterval(update, 10000);
  update();
}
