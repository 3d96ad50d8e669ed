// Elements, and numbers and times for people.

const SVG = "http://www.w3.org/2000/svg";

/** An element with attributes, listeners (`onclick`, …) and children: texts, elements, or nothing. */
export function h(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

/** The same of SVG. */
export function s(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export const byId = (id) => document.getElementById(id);

/** Puts children in the place of what is there, unless it is the same: focus and selection stay. */
export function put(parent, ...children) {
  const fresh = h("div", {}, ...children);
  if (fresh.innerHTML === parent.innerHTML) return;
  // Focus goes back to what took the place of what had it.
  const held = parent.contains(document.activeElement) ? document.activeElement.dataset?.at : null;
  parent.replaceChildren(...fresh.childNodes);
  if (held) parent.querySelector(`[data-at="${CSS.escape(held)}"]`)?.focus();
}

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

/** 1234 → 1,234; 1234567 → 1.23 M. */
export function count(n) {
  if (n === null || n === undefined) return "–";
  if (Math.abs(n) >= 1e6) return `${(n / 1e6).toFixed(n >= 1e7 ? 1 : 2)} M`;
  return whole.format(n);
}

/** Records a second, with as many digits as say something. */
export function rate(n) {
  if (n === null || n === undefined) return "–";
  return n >= 100 ? whole.format(n) : n >= 10 ? n.toFixed(1) : n > 0 ? n.toFixed(2) : "0";
}

export const percent = (share, digits = 1) =>
  share === null || share === undefined ? "–" : `${(share * 100).toFixed(digits)} %`;

/** A value of a metric in its unit. */
export function amount(value, unit) {
  if (value === null || value === undefined) return "–";
  if (unit === "ratio") return percent(value, Math.abs(value) < 0.1 ? 2 : 1);
  if (unit === "seconds") return `${value.toFixed(value < 10 ? 2 : 1)} s`;
  return value.toFixed(3);
}

/** A version by as many digits as tell it from others; names as they are. */
export const short = (version) => (!version ? "–" : /^[0-9a-f]{16}$/.test(version) ? version.slice(0, 8) : version);

/** Seconds as 12 s, 5 min, 3 h, 2 d. */
export function span(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  const s = Math.max(0, seconds);
  if (s < 1) return `${Math.round(s * 1000)} ms`;
  if (s < 120) return `${Math.round(s)} s`;
  if (s < 7200) return `${Math.round(s / 60)} min`;
  if (s < 172800) return `${(s / 3600).toFixed(1)} h`;
  return `${(s / 86400).toFixed(1)} d`;
}

const iso = (ms) => new Date(ms).toISOString();
/** 2026-04-12 08:30, in UTC. */
export const time = (ms) => (ms ? iso(ms).slice(0, 16).replace("T", " ") : "–");
/** 08:30:05, in UTC. */
export const clock = (ms) => iso(ms).slice(11, 19);
/** Short enough for an axis: the hour within a day, else the day. */
export const tick = (ms, wide) => (wide ? iso(ms).slice(5, 10) : iso(ms).slice(11, 16));

/** What is the same in a word and a shape, so that colour only repeats it. */
const MARKS = { ok: "●", busy: "◐", warn: "▲", bad: "✕", none: "○" };
export const mark = (state) => h("span", { class: `mark ${state}`, "aria-hidden": "true" }, MARKS[state] ?? "○");
export const badge = (state, words) => h("span", { class: `badge ${state}` }, mark(state), ` ${words}`);

/** A table with a caption for those who do not see it. */
export function table(caption, heads, rows) {
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h("table", {},
      h("caption", { class: "out-of-sight" }, caption),
      h("thead", {}, h("tr", {}, heads.map((head) =>
        h("th", { scope: "col", class: head.startsWith("#") ? "n" : null }, head.replace(/^#/, ""))))),
      h("tbody", {}, rows.map((row) => h("tr", {}, row.map((cell, i) =>
        h("td", { class: heads[i].startsWith("#") ? "n" : null }, cell)))))));
}

/** What to say where there is nothing yet: what it is, and what to do. */
export const nothing = (words, command) =>
  h("p", { class: "nothing" }, words, command ? [" ", h("code", {}, command)] : null);

/** Says something to those who listen instead of looking. */
export function speak(words) {
  const spoken = byId("spoken");
  spoken.replaceChildren(h("p", {}, words));
}
