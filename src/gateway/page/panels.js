// Everything that is a list: triggers, models, runs, workers, segments, dead letters.

import { h, byId, put, amount, badge, count, nothing, percent, rate, short, span, speak, table, time } from "./dom.js";
import { call, known, on } from "./live.js";

const ago = (ms) => span((Date.now() - ms) / 1000);

// --- Triggers --------------------------------------------------------------------------------

const STATES = { FIRING: "bad", PENDING: "busy", RESOLVED: "ok", UNKNOWN: "none" };
let heard = null;

function triggers() {
  // What was pending and has come to something since is told by that.
  const settled = new Set((known.triggers ?? []).filter((t) => t.state !== "PENDING").map((t) => t.key));
  const all = (known.triggers ?? []).filter((t) => t.state !== "PENDING" || !settled.has(t.key));
  const fresh = heard === null ? [] : all.filter((t) => !heard.has(t.id));
  if (fresh.length) speak(`New trigger: ${fresh[0].reason}`);
  if (known.triggers) heard = new Set(all.map((t) => t.id));
  if (!all.length) {
    const told = known.now?.minutes
      ? nothing("Nothing was told yet. In the first day the monitor learns what is usual.")
      : nothing("No minute was told yet, so there is nothing to judge. Start the monitor:", "driftline monitor");
    return put(byId("trigger-list"), told);
  }
  const shown = all.slice(0, 12).map((t) => {
    const asks = t.action !== "NONE" ? t.action : t.held_by ? `held back: ${t.wanted}` : "only told";
    return h("li", { class: `trigger-item ${STATES[t.state]}` },
      h("div", { class: "row" }, badge(STATES[t.state], t.state.toLowerCase()),
        h("strong", {}, asks), h("span", { class: "muted" }, t.type.toLowerCase()), h("time", { class: "muted end" }, time(t.at))),
      h("p", {}, t.reason, t.held_by ? ` Held back by ${t.held_by.split(":")[0]}.` : ""),
      t.type === "MANUAL" || t.type === "SCHEDULE" ? null : h("p", { class: "command" }, h("code", {}, `driftline drift explain ${t.id}`)));
  });
  put(byId("trigger-list"), h("ol", { class: "list", reversed: true }, shown));
}

function evidence() {
  const told = known.evidence;
  if (!told || known.now?.at === null) return put(byId("evidence"));
  const most = told.metrics?.[0];
  const pooled = Math.max(0, told.pooled ?? 0);
  const words = told.warming_up
    ? "Warming up: the first day is learnt, and nothing told of it."
    : pooled >= 1 ? "Evidence for a change is beyond what makes an alarm." : "Evidence for a change, as a part of what makes an alarm:";
  put(byId("evidence"), h("p", { class: "row" }, h("span", {}, words), told.warming_up ? null : h("strong", {}, percent(pooled, 0))),
    told.warming_up ? null : h("meter", { min: 0, max: 1, value: Math.min(1, pooled), high: 0.99, "aria-label": "evidence for a change" }, percent(pooled, 0)),
    !told.warming_up && most && most[2] > 0.05 ? h("p", { class: "muted" }, `Most of it: ${most[1]} of ${most[0]}.`) : null);
}

// --- Models ----------------------------------------------------------------------------------

function models() {
  const told = known.models;
  const place = byId("model-list");
  if (!told) return put(place, nothing("Looking at the registry …"));
  if (told.error) return put(place, badge("bad", "the registry cannot be read"), h("p", {}, told.error), h("p", { class: "command" }, h("code", {}, "driftline config show"), " shows objects.uri."));
  if (!told.versions.length) return put(place, nothing("No version yet: workers serve a first basis that they train themselves. Archive events, then:", "driftline train"));
  put(place, lineage(told.versions), table("Versions of the model", ["version", "is", "made (UTC)", "#items", "blessed", "better by", "asked for by"],
    told.versions.map((v) => v.error
      ? [h("code", {}, short(v.version)), badge("bad", "damaged"), "–", "–", "–", "–", v.error]
      : [h("code", { title: v.version }, short(v.version)), (v.roles ?? []).map(role), time(v.made).slice(5), count(v.items),
        v.blessed ? badge("ok", "yes") : h("span", { title: v.missing.join("; ") }, badge("warn", "no")), better(v), v.trigger ? h("code", {}, v.trigger.slice(0, 22)) : v.by])));
}

const role = (name) => badge({ champion: "ok", challenger: "busy", previous: "none", quarantined: "bad" }[name] ?? "none", name);

/** The first figure that was compared with the champion's. */
function better(version) {
  const metric = (version.metrics ?? []).find((m) => m.difference);
  if (!metric) return "–";
  const [low, difference, high] = metric.difference;
  const pm = (v) => `${v >= 0 ? "+" : "−"}${Math.abs(v).toPrecision(2)}`;
  return h("span", { title: `95 % interval ${pm(low)} to ${pm(high)}` }, `${metric.name} ${pm(difference)}`);
}

/** From the newest version back to the root, as a line of parents. */
function lineage(versions) {
  const byVersion = new Map(versions.map((v) => [v.version, v]));
  const start = versions.find((v) => v.roles?.includes("champion")) ?? versions[0];
  const chain = [];
  for (let v = start; v && !chain.includes(v) && chain.length < 8; v = byVersion.get(v.parent)) chain.unshift(v);
  if (chain.length < 2) return null;
  const more = chain[0].parent ? [h("li", { class: "muted" }, "…")] : [];
  return h("ol", { class: "lineage", "aria-label": "Lineage of what serves: parents first" }, more,
    chain.map((v) => h("li", { class: v === start ? "now" : null }, h("code", {}, short(v.version)), " ", v.roles?.map(role))));
}

function rollout() {
  const now = known.control?.[0];
  const acks = known.acks ?? [];
  if (!now) return put(byId("rollout"), h("p", {}, "Nobody has decided which version serves: the newest basis does."));
  const share = now.phase === "CANARY" ? `for ${percent(now.share / 10000, 1)} of users` : "for nobody yet";
  const phases = now.candidate ? ["PREPARE", "SHADOW", "CANARY", "SERVING"] : [];
  put(byId("rollout"),
    h("p", { class: "row" }, badge("ok", "serves"), h("code", {}, now.champion ? short(now.champion) : "newest"),
      h("span", { class: "muted" }, `epoch ${now.epoch}, by ${now.by || "–"}: ${now.reason || "–"}`), h("time", { class: "muted end" }, time(now.decided_at))),
    now.candidate ? h("p", { class: "row" }, badge("busy", now.phase.toLowerCase()), h("code", {}, short(now.candidate)), share) : null,
    now.rejected && !now.candidate ? h("p", { class: "row" }, badge("warn", "turned down"), h("code", {}, short(now.rejected))) : null,
    phases.length ? h("ol", { class: "steps", "aria-label": "How far the candidate is" }, phases.map((p) => h("li", { "aria-current": p === now.phase ? "step" : null }, p.toLowerCase()))) : null,
    acks.length ? table("What workers say of the decision", ["worker", "#epoch", "serves", "candidate", "requests by arm"], acks.map((a) => [a.worker, count(a.epoch), h("code", {}, a.champion ? short(a.champion) : "newest"),
      Date.now() - a.at > a.lease_ms + 5000 ? badge("none", "gone") : a.error ? badge("bad", a.error) : badge({ LOADED: "ok", LOADING: "busy", FAILED: "bad" }[a.state] ?? "none", a.state.toLowerCase()),
      a.served.map((one) => `${one.arm.toLowerCase()} ${count(one.requests)}${one.failures ? `, ${count(one.failures)} failed` : ""}`).join("; ") || "–"])) : null);
}

const RUNS = { STARTED: "busy", FINISHED: "ok", REFUSED: "warn", FAILED: "warn", GAVE_UP: "bad", COLLAPSED: "none" };

function runs() {
  const all = (known.runs ?? []).toSorted((a, b) => b.at - a.at).slice(0, 8);
  if (!all.length) return put(byId("run-list"), nothing("None yet. Let a trainer wait for triggers:", "driftline train --watch --promote"));
  put(byId("run-list"), table("Training runs", ["state", "when", "version", "outcome"], all.map((run) => [
    badge(RUNS[run.state] ?? "none", run.state.toLowerCase().replace("_", " ")), `${ago(run.at)} ago`, run.version ? h("code", {}, short(run.version)) : "–",
    run.promoted ? "promoted" : run.collapsed_into ? "answered by another run" : run.blessed ? "may serve" : run.reasons.join("; ") || "–"])));
}

// --- Serving ---------------------------------------------------------------------------------

const named = (counts) => Object.entries(counts ?? {}).map(([name, n]) => `${name} ${count(n)}`).join(", ") || "–";

function workers() {
  const all = known.workers ?? [];
  if (!all.length) return put(byId("worker-list"), nothing("No worker has told of a minute yet. One that has just started does after its first minute:", "driftline worker"));
  put(byId("worker-list"), table("Workers", ["worker", "heard", "#a second", "#p50 below", "#p99 below", "errors", "missing", "model"], all.map((w) => {
    const late = Date.now() - w.newest > 180000;
    const ms = (v) => (v === null ? "–" : `${v < 10 ? v.toFixed(1) : Math.round(v)} ms`);
    return [w.worker, late ? badge("warn", `${ago(w.newest)} ago`) : badge("ok", "now"), rate(w.per_second), ms(w.p50_ms), ms(w.p99_ms), named(w.errors), named(w.missing), h("code", {}, short(w.model))];
  })));
}

/** A figure, what it should be, and whether it is. */
const fact = (name, value, state, words) => h("div", {}, h("dt", {}, name), h("dd", {}, h("strong", {}, value), " ", state ? badge(state, words) : words ? h("span", { class: "muted" }, words) : null));

function skew() {
  const now = known.now?.all;
  if (!now || !now.lists) return put(byId("skew"), nothing("No list was told of in the last hour of event time."));
  const near = (v) => (v === null || v === undefined ? [null, "nothing predicted"] : v > 0.8 && v < 1.25 ? ["ok", "as predicted"] : ["warn", v < 1 ? "less was predicted than came" : "more was predicted than came"]);
  const times = (v) => (v === null || v === undefined ? "–" : `${v.toFixed(2)} ×`);
  const stale = now.staleness_seconds;
  put(byId("skew"), h("dl", { class: "facts" },
    fact("clicks, predicted over seen", times(now.click_calibration), ...near(now.click_calibration)),
    fact("long views, predicted over seen", times(now.long_view_calibration), ...near(now.long_view_calibration)),
    fact("what the ranker had learnt was old", span(stale), ...(stale === null ? [null, "it does not rank yet"] : stale > 7200 * 2 ? ["warn", "behind"] : ["ok", "fresh"])),
    fact("lists from which a part was missing", percent(now.degraded_share), ...((now.degraded_share ?? 0) > 0.5 ? ["warn", "many"] : ["ok", "few"])),
  ));
}

// --- Segments --------------------------------------------------------------------------------

function segments() {
  const now = known.now;
  const experiments = known.experiments ?? [];
  put(byId("experiments"), experiments.length
    ? table("Experiments", ["experiment", "is", "#users", "arms", "decided by"], experiments.map((e) => [h("span", { title: e.hypothesis }, e.name), badge(e.status === "running" ? "busy" : "none", e.kept ? `stopped, kept ${e.kept}` : e.status), percent(e.coverage, 0),
      e.arms.map((arm) => `${arm.name} ${percent(arm.weight, 0)}`).join(", "), e.metric || "–"]))
    : nothing("No experiment was begun. To compare two ways of making lists:", "driftline experiments apply FILE"));
  if (!now?.all?.lists) return put(byId("segment-list"), nothing(`No list was told of yet: one counts when its label windows have passed, ${span((known.about?.label_window_ms ?? 0) / 1000)} after it.`));
  const rows = (kind, all) => all.map((part) => [kind, part.group || "(not said)", count(part.lists), amount(part.click_rate, "ratio"), amount(part.long_view_rate, "ratio"), amount(part.watch_seconds_per_impression, "seconds")]);
  put(byId("segment-list"), table("Segments", ["by", "", "#lists", "#clicked", "#viewed long", "#seconds each"],
    [...rows("surface", now.surfaces), ...rows("arm", now.arms), ...rows("version", now.versions.map((v) => ({ ...v, group: short(v.group) })))]));
}

function facts() {
  const now = known.now;
  const label = span((known.about?.label_window_ms ?? 0) / 1000);
  byId("metrics-words").textContent = now?.at
    ? `Told up to ${time(now.at)} UTC. A list counts ${label} after it was wanted.`
    : `A list counts ${label} of event time after it was wanted.`;
  if (!now?.all?.lists) {
    return put(byId("facts"), nothing("No minute was told yet. Let people watch and ask, and workers run:", "driftline simulate --for 60s"));
  }
  const all = now.all;
  const one = (name, value) => h("div", {}, h("dt", {}, name), h("dd", {}, h("strong", {}, value)));
  put(byId("facts"), h("dl", { class: "facts big" }, one("lists in the last hour", count(all.lists)), one("items shown", count(all.impressions)),
    one("clicked", amount(all.click_rate, "ratio")), one("viewed long", amount(all.long_view_rate, "ratio")), one("watched to the end", amount(all.completion_rate, "ratio")),
    one("lists for newcomers", percent(all.newcomer_share)), one("drawn to explore", percent(all.explored_share))));
}

// --- Dead letters ----------------------------------------------------------------------------

function letters() {
  const held = known.flow?.topics?.["dead-letters"]?.held;
  const all = known.letters ?? [];
  byId("letters-words").textContent = held === undefined ? "Records that were refused." : `${count(held)} records that were refused are kept.`;
  if (!all.length) return put(byId("letter-list"), h("p", { class: "nothing" }, badge("ok", "none"), " Everything that was sent could be read."));
  const groups = new Map();
  for (const letter of all) {
    const id = `${letter.class} ${letter.topic}`;
    const known = groups.get(id) ?? { ...letter, count: 0 };
    groups.set(id, { ...known, count: known.count + 1, at: Math.max(known.at, letter.at) });
  }
  put(byId("letter-list"), table(`Dead letters, the newest ${all.length}`, ["why", "from", "#of the newest", "last"],
    [...groups.values()].toSorted((a, b) => b.count - a.count).map((g) => [h("code", {}, g.class || "–"), g.topic || "–", count(g.count), `${ago(g.at)} ago`])));
}

function actions() {
  const about = known.about ?? {};
  const can = (name) => !about.read_only && about.actions?.includes(name);
  byId("retrain-button").hidden = !can("retrain");
  byId("shift-button").hidden = !can("taste-shift");
}

async function act(button, name, body, done) {
  button.disabled = true;
  try {
    await call(`/api/actions/${name}`, body);
    button.textContent = done;
    speak(done);
  } catch (error) {
    button.textContent = error.message;
    speak(error.message);
  }
  setTimeout(() => { button.disabled = false; button.textContent = button.dataset.words; }, 5000);
}

/** Shows all lists and keeps them up to date. */
export function showPanels() {
  on(["triggers", "now"], triggers);
  on(["evidence", "now"], evidence);
  on(["models"], models);
  on(["control", "acks"], rollout);
  on(["runs"], runs);
  on(["workers"], workers);
  on(["now"], skew);
  on(["now", "experiments", "about"], segments);
  on(["now", "about"], facts);
  on(["letters", "flow"], letters);
  on(["about"], actions);
  for (const draw of [triggers, evidence, models, rollout, runs, workers, skew, segments, facts, letters]) draw();
  // What is some time ago gets older without news.
  setInterval(() => [runs, workers, letters].forEach((draw) => draw()), 15000);
  const retrain = byId("retrain-button");
  retrain.dataset.words = retrain.textContent;
  retrain.addEventListener("click", () => {
    const reason = prompt("Why? Whoever trains reads it.");
    if (reason?.trim()) act(retrain, "retrain", { reason }, "Asked for. It shows among the triggers.");
  });
  const shift = byId("shift-button");
  shift.dataset.words = shift.textContent;
  shift.addEventListener("click", () => act(shift, "taste-shift", {}, "Injected. Watch the click rate."));
}
