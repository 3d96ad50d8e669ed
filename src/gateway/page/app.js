// Puts the page together.

import { h, byId, put, badge, clock, count, span, speak } from "./dom.js";
import { key, known, line, listen, on } from "./live.js";
import { showCharts } from "./charts.js";
import { showLoop } from "./loop.js";
import { showPanels } from "./panels.js";
import { showTry } from "./try.js";

const THEMES = ["auto", "light", "dark"];
const WORDS = { auto: "system", light: "light", dark: "dark" };

function theme(name) {
  document.documentElement.dataset.theme = name;
  byId("theme-words").textContent = `Theme: ${WORDS[name]}`;
  byId("theme-mark").textContent = { auto: "◐", light: "○", dark: "●" }[name];
  localStorage.setItem("driftline-theme", name);
}

let said = null;

function status() {
  const broker = known.broker;
  let [state, words] = ["none", "connecting …"];
  if (line.state === "lost") [state, words] = ["bad", `not live for ${span((Date.now() - line.since) / 1000)}`];
  else if (line.state === "open" && broker && !broker.ok) [state, words] = ["bad", `the broker is away, ${span((Date.now() - broker.since) / 1000)}`];
  else if (line.state === "open" && known.reading?.length) [state, words] = ["busy", "reading what was told before"];
  else if (line.state === "open" && broker?.ok) [state, words] = ["ok", `live, ${clock(Date.now())}`];
  const place = byId("status");
  place.querySelector(".mark").textContent = { ok: "●", busy: "◐", bad: "✕", none: "○" }[state];
  place.querySelector(".mark").className = `mark ${state}`;
  place.querySelector(".words").textContent = words;
  if (said && said !== state && (state === "bad" || said === "bad")) speak(state === "bad" ? words : "It is back.");
  said = state;
  notices();
}

function notices() {
  const all = [];
  if (known.broker && !known.broker.ok && line.state === "open") {
    all.push(h("p", { class: "notice bad" }, badge("bad", "broker away"), ` ${known.broker.error}. What you see is what was last heard; this page goes on by itself when the broker is back. `, h("code", {}, "driftline doctor")));
  }
  if (line.state === "lost") all.push(h("p", { class: "notice bad" }, badge("bad", "not live"), " The gateway does not answer. What you see is what was last heard; this page tries again each second."));
  if (known.missing?.length) all.push(h("p", { class: "notice warn" }, badge("warn", `${count(known.missing.length)} topics are missing`), ` ${known.missing.join(", ")}. Make them: `, h("code", {}, "driftline topics apply")));
  put(byId("notices"), ...all);
}

function about() {
  const told = known.about;
  if (!told) return;
  byId("installation").textContent = [told.prefix && `${told.prefix}*`, told.read_only ? "read-only" : null].filter(Boolean).join(" · ");
  byId("version").textContent = `Driftline ${told.version}.`;
  byId("key-button").hidden = told.read_only;
  byId("key-button").textContent = key.get() ? "API key ✓" : "API key";
}

function start() {
  theme(THEMES.includes(localStorage.getItem("driftline-theme")) ? localStorage.getItem("driftline-theme") : "auto");
  byId("theme-button").addEventListener("click", () => {
    const next = THEMES[(THEMES.indexOf(document.documentElement.dataset.theme) + 1) % THEMES.length];
    theme(next);
    speak(`Theme: ${WORDS[next]}`);
  });
  const dialog = byId("key-dialog");
  byId("key-button").addEventListener("click", () => { byId("key-input").value = key.get(); dialog.showModal(); });
  dialog.addEventListener("close", () => { if (dialog.returnValue === "ok") key.set(byId("key-input").value.trim()); byId("key-input").value = ""; });
  // Enter in the field means the key, not the first button.
  byId("key-input").addEventListener("keydown", (event) => { if (event.key === "Enter") { event.preventDefault(); dialog.close("ok"); } });
  on(["broker", "missing", "reading", "line"], status);
  on(["about", "key"], about);
  setInterval(status, 1000);
  showLoop();
  showCharts();
  showPanels();
  showTry();
  listen();
}

start();
