// Metrics over event time: what was measured, what was expected, what is let pass, and triggers.

import { h, s, byId, put, amount, count, speak, tick, time } from "./dom.js";
import { known, on } from "./live.js";

const RANGES = [
  { id: "2h", words: "2 hours", ms: 2 * 3600e3, series: "minutes" },
  { id: "24h", words: "24 hours", ms: 24 * 3600e3, series: "minutes" },
  { id: "14d", words: "14 days", ms: 14 * 86400e3, series: "hours" },
];
const NAMES = {
  click_rate: "Click rate", long_view_rate: "Long view rate",
  watch_seconds_per_impression: "Watched per item shown", click_log_loss: "Log loss of clicks",
};
const HEIGHT = 176;
const PAD = { left: 52, right: 12, top: 22, bottom: 22 };
const STEP = { minutes: 60e3, hours: 3600e3 };

let range = RANGES[1];
const charts = [];

/** Rows of the range, as points at most so many: [begin, end, value, n, baseline, band]. */
export function points(rows, place, from, step, most) {
  const kept = rows.filter((row) => row[0] >= from);
  if (!kept.length) return [];
  const all = (kept.at(-1)[0] + step - kept[0][0]) / step;
  const each = Math.max(1, Math.ceil(all / most)) * step;
  const out = [];
  for (const row of kept) {
    const begin = Math.floor(row[0] / each) * each;
    let point = out.at(-1);
    if (!point || point.begin !== begin) out.push(point = { begin, end: begin + each, sum: 0, n: 0, base: 0, band: 0, weight: 0 });
    const [sum, n, base, band] = row[place + 1];
    point.sum += sum;
    point.n += n;
    if (base !== null) {
      const weight = Math.max(n, 1e-6);
      point.base += base * weight;
      point.band += band * weight;
      point.weight += weight;
    }
  }
  return out.map((p) => ({
    at: (p.begin + p.end) / 2, begin: p.begin, end: p.end, n: p.n, value: p.n ? p.sum / p.n : null,
    base: p.weight ? p.base / p.weight : null, band: p.weight ? p.band / p.weight : null,
  }));
}

/** Ticks between two values, at round numbers. */
export function ticks(low, high, about = 4) {
  const raw = (high - low) / about;
  if (!(raw > 0)) return [low];
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((f) => f * power).find((f) => f >= raw);
  const all = [];
  for (let v = Math.ceil(low / step) * step; v <= high + step * 1e-9; v += step) all.push(v);
  return all;
}

class Chart {
  constructor(place, definition) {
    this.place = place;
    this.unit = definition.unit;
    this.name = definition.name;
    this.title = NAMES[definition.name] ?? definition.name;
    this.better = definition.more_is_better;
    this.cursor = null;
    this.readout = h("p", { class: "readout" });
    this.picture = h("div", { class: "plot", tabindex: "0", role: "img",
      onpointermove: (event) => this.point(event), onpointerleave: () => this.move(null),
      onkeydown: (event) => this.key(event), onblur: () => this.move(null) });
    this.root = h("figure", { class: "chart" },
      h("figcaption", {}, h("h3", {}, this.title), this.readout), this.picture);
    this.points = [];
  }

  key(event) {
    const steps = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10 };
    const last = this.points.length - 1;
    let next = { Home: 0, End: last }[event.key];
    if (event.key in steps) next = (this.cursor ?? last) + steps[event.key];
    if (event.key === "Escape") return this.move(null);
    if (next === undefined) return;
    event.preventDefault();
    this.move(Math.min(last, Math.max(0, next)));
    speak(this.words(this.points[this.cursor]));
  }

  point(event) {
    if (!this.points.length || !this.x) return;
    const x = event.clientX - this.picture.getBoundingClientRect().left;
    let best = 0;
    this.points.forEach((p, i) => { if (Math.abs(this.x(p.at) - x) < Math.abs(this.x(this.points[best].at) - x)) best = i; });
    this.move(best);
  }

  move(cursor) {
    this.cursor = cursor;
    this.readout.textContent = this.words(this.points[cursor ?? this.points.length - 1]);
    const line = this.picture.querySelector(".cursor");
    if (!line) return;
    line.setAttribute("display", cursor === null ? "none" : "inline");
    if (cursor !== null) line.setAttribute("d", `M${this.x(this.points[cursor].at).toFixed(1)} ${PAD.top}V${HEIGHT - PAD.bottom}`);
  }

  words(point) {
    if (!point) return "nothing told yet";
    const at = time(point.begin);
    if (point.value === null) return `${at}: no list`;
    const expected = point.base === null ? "" :
      `, expected ${amount(point.base, this.unit)} ± ${Math.round(Math.min(point.band, 1) * 100)} %`;
    return `${at}: ${amount(point.value, this.unit)} of ${count(point.n)}${expected}`;
  }

  draw(rows, triggers, from, to) {
    const width = Math.floor(this.picture.clientWidth);
    if (width < 50) return;
    this.points = points(rows, this.place, from, STEP[range.series], Math.min(240, Math.floor((width - PAD.left) / 3)));
    const values = [];
    for (const p of this.points) {
      if (p.value !== null) values.push(p.value);
      // A band as wide as all there is would flatten what was measured.
      if (p.base !== null && p.band < 0.6) values.push(p.base * (1 - p.band), p.base * (1 + p.band));
    }
    let low = Math.min(...values), high = Math.max(...values);
    if (!values.length) [low, high] = [0, 1];
    const room = (high - low) * 0.12 || high * 0.1 || 1;
    [low, high] = [Math.max(0, low - room), high + room];
    const x = this.x = (at) => PAD.left + ((at - from) / (to - from)) * (width - PAD.left - PAD.right);
    const y = (v) => HEIGHT - PAD.bottom - ((Math.min(high, Math.max(low, v)) - low) / (high - low)) * (HEIGHT - PAD.top - PAD.bottom);
    const svg = s("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT, "aria-hidden": "true" },
      s("defs", {}, s("pattern", { id: `hatch-${this.name}`, width: 5, height: 5, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
        s("path", { d: "M0 0V5", class: "hatch" }))));
    for (const v of ticks(low, high)) {
      svg.append(s("path", { class: "grid", d: `M${PAD.left} ${y(v).toFixed(1)}H${width - PAD.right}` }),
        s("text", { class: "axis-text", x: PAD.left - 6, y: (y(v) + 4).toFixed(1), "text-anchor": "end" }, axis(v, this.unit)));
    }
    for (const share of width > 300 ? [0, 0.33, 0.67, 1] : [0, 0.5, 1]) {
      const at = from + share * (to - from);
      svg.append(s("text", { class: "axis-text", x: x(at).toFixed(1), y: HEIGHT - 6, "text-anchor": share === 0 ? "start" : share === 1 ? "end" : "middle" }, tick(at, range.ms > 86400e3)));
    }
    const band = this.points.filter((p) => p.base !== null);
    for (const part of stretches(band)) {
      const up = part.map((p, i) => `${i ? "L" : "M"}${x(p.at).toFixed(1)} ${y(p.base * (1 + p.band)).toFixed(1)}`).join("");
      const down = part.toReversed().map((p) => `L${x(p.at).toFixed(1)} ${y(p.base * (1 - Math.min(1, p.band))).toFixed(1)}`).join("");
      svg.append(s("path", { class: "band", d: `${up}${down}Z` }), s("path", { fill: `url(#hatch-${this.name})`, d: `${up}${down}Z` }),
        s("path", { class: "base", d: part.map((p, i) => `${i ? "L" : "M"}${x(p.at).toFixed(1)} ${y(p.base).toFixed(1)}`).join("") }));
    }
    for (const part of stretches(this.points.filter((p) => p.value !== null))) {
      const d = part.map((p, i) => `${i ? "L" : "M"}${x(p.at).toFixed(1)} ${y(p.value).toFixed(1)}`).join("");
      svg.append(s("path", { class: "line", d: part.length > 1 ? d : `${d}h2` }));
    }
    this.marks(svg, triggers.filter((t) => t.at >= from && t.at <= to), x, width);
    svg.append(s("path", { class: "cursor", display: "none", d: "" }));
    this.picture.replaceChildren(svg);
    this.picture.setAttribute("aria-label", `${this.title}, ${range.words}. ${this.words(this.points.at(-1))}. Arrow keys move through it.`);
    if (this.cursor !== null) this.cursor = Math.min(this.cursor, this.points.length - 1);
    this.move(this.points.length ? this.cursor : null);
  }

  /** A mark for each trigger: full where something is asked for or fires, hollow where it is over. */
  marks(svg, triggers, x, width) {
    let free = -Infinity;
    for (const t of triggers.toSorted((a, b) => a.at - b.at)) {
      const at = x(t.at);
      const over = t.state === "RESOLVED";
      svg.append(s("path", { class: "when", d: `M${at.toFixed(1)} ${PAD.top - 2}V${HEIGHT - PAD.bottom}` }),
        s("path", { class: over ? "trigger over" : "trigger", d: `M${at.toFixed(1)} ${PAD.top - 1}l-5 -9h10Z` },
          s("title", {}, `${time(t.at)}: ${t.reason}`)));
      const words = over ? "over" : t.action !== "NONE" ? t.action.toLowerCase() : t.direction === "UP" ? "rose" : "fell";
      const wide = words.length * 6.5 + 14;
      if (at > free) {
        const end = at + wide > width;
        svg.append(s("text", { class: "mark-text", x: (at + (end ? -8 : 8)).toFixed(1), y: PAD.top - 4, "text-anchor": end ? "end" : "start" }, words));
        free = at + wide;
      }
    }
  }
}

function axis(v, unit) {
  if (unit === "ratio") return `${+(v * 100).toPrecision(3)} %`;
  return unit === "seconds" ? `${+v.toPrecision(3)} s` : `${+v.toPrecision(3)}`;
}

/** Points without a gap between them. */
function stretches(all) {
  const out = [];
  for (const p of all) {
    const part = out.at(-1);
    if (part && p.begin - part.at(-1).end < 0.5 * (p.end - p.begin)) part.push(p);
    else out.push([p]);
  }
  return out;
}

function draw() {
  const definitions = known.about?.charts ?? [];
  if (charts.length !== definitions.length) {
    charts.splice(0, charts.length, ...definitions.map((definition, place) => new Chart(place, definition)));
    byId("charts").replaceChildren(...charts.map((chart) => chart.root));
  }
  const rows = known[range.series];
  const step = STEP[range.series];
  const to = rows.length ? rows.at(-1)[0] + step : Date.now();
  // Not wider than there is something to see: a first hour is not a dot at the edge of a day.
  const from = Math.max(to - range.ms, Math.min(rows.length ? rows[0][0] : to - range.ms, to - 30 * step));
  for (const chart of charts) {
    const own = (known.triggers ?? []).filter((t) => t.metric === chart.name && t.segment === "all" && t.state !== "PENDING");
    chart.draw(rows, own, from, to);
  }
}

function chooseRange() {
  put(byId("ranges"), h("legend", { class: "out-of-sight" }, "How far back, in event time"),
    RANGES.map((one) => h("label", { class: "range" },
      h("input", { type: "radio", name: "range", value: one.id, checked: one === range, onchange: () => { range = one; draw(); } }), h("span", {}, one.words))));
}

/** Draws the metrics and keeps them up to date. */
export function showCharts() {
  chooseRange();
  on(["about", "minutes", "hours", "triggers"], draw);
  let width = 0;
  new ResizeObserver(([entry]) => {
    if (Math.abs(entry.contentRect.width - width) > 2) { width = entry.contentRect.width; draw(); }
  }).observe(byId("charts"));
}
