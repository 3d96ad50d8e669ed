// Be somebody: ask for a list, watch and click, see what changes and why.

import { h, byId, put, badge, short, speak } from "./dom.js";
import { call, key, known, on } from "./live.js";

const COUNT = 8;
const WATCH_MS = 120000;
// A worker that is starting, a world that has just begun: what fails or is empty now is asked for again.
const AGAIN_MS = 3000;
const TRIES = 20;
let again = null;

const state = { user: "", users: [], list: null, before: null, after: new Map(), said: [], busy: false, error: null };

const fresh = () => `guest-${Math.random().toString(36).slice(2, 8)}`;

/** What became of each place next to the list before, in words. */
export function changes(before, items) {
  const old = new Map((before ?? []).map((item, place) => [item.item, place]));
  return items.map((item, place) => {
    if (!before) return null;
    if (!old.has(item.item)) return { kind: "new", words: "new" };
    const moved = old.get(item.item) - place;
    if (moved > 0) return { kind: "up", words: `up ${moved}` };
    if (moved < 0) return { kind: "down", words: `down ${-moved}` };
    return { kind: "same", words: "same place" };
  });
}

async function ask(tries = TRIES) {
  clearTimeout(again);
  if (!state.user) return;
  let isWaiting = false;
  state.busy = true;
  draw();
  try {
    const begun = performance.now();
    const reply = await call("/v1/recommendations", { user: state.user, count: COUNT, surface: "dashboard", after: [...state.after.values()] });
    state.before = state.list?.items ?? null;
    state.list = { ...reply, took: performance.now() - begun };
    state.error = null;
    isWaiting = !reply.items.length;
    const news = changes(state.before, reply.items).filter((c) => c?.kind === "new").length;
    speak(state.before ? `${reply.items.length} items, ${news} of them new.` : `${reply.items.length} items for ${state.user}.`);
  } catch (error) {
    state.error = error.message;
    isWaiting = !error.status || error.status === 429 || error.status >= 500;
    if (tries === TRIES) speak(error.message);
  }
  state.busy = false;
  draw();
  if (isWaiting && tries > 0) again = setTimeout(() => { if (!state.busy) ask(tries - 1); }, AGAIN_MS);
}

/** Sends an event and asks again: the next list waits until the event is folded. */
async function tell(kind, body, words) {
  state.busy = true;
  draw();
  try {
    const told = await call(`/v1/events/${kind}`, { user: state.user, surface: "dashboard", request: state.list?.request_id, ...body });
    // Of each partition the last position is enough.
    state.after.set(told.position.split("@")[0], told.position);
    state.said.unshift(`${words} (${told.position})`);
    state.said.length = Math.min(state.said.length, 6);
  } catch (error) {
    state.error = error.message;
    state.busy = false;
    speak(error.message);
    return draw();
  }
  await ask();
}

function become(user) {
  Object.assign(state, { user, list: null, before: null, said: [], error: null });
  state.after.clear();
  draw();
  ask();
}

async function find() {
  try {
    state.users = (await call("/api/users", undefined, "GET")).users;
    state.error = null;
  } catch (error) {
    state.error = error.message;
  }
  draw();
}

const open = () => known.about?.recommendations === "open" || (known.about?.recommendations === "key" && key.get());

function row(item, place, change) {
  const what = item.item;
  const act = (name, kind, body, words) => h("button", { type: "button", class: "quiet", disabled: known.about?.read_only, "data-at": `${kind}-${place}`, "aria-label": `${name} ${what}`,
    // Not disabled meanwhile: what has the focus keeps it.
    onclick: () => { if (!state.busy) tell(kind, body, words); } }, name);
  return h("li", { class: `pick ${change?.kind ?? ""}` },
    h("span", { class: "place" }, String(place + 1)),
    h("div", { class: "what" }, h("strong", {}, what), change ? h("span", { class: `change ${change.kind}` }, `${{ new: "✦", up: "↑", down: "↓", same: "=" }[change.kind]} ${change.words}`) : null,
      h("span", { class: "why" }, item.reasons?.[0]?.text ?? `from ${item.source}`)),
    h("div", { class: "acts" },
      act("Watch", "watch", { item: what, watched_ms: WATCH_MS, duration_ms: WATCH_MS }, `watched ${what}`),
      act("Click", "click", { item: what, position: place }, `clicked ${what}`),
      act("Not interested", "feedback", { kind: "NOT_INTERESTED", subject_kind: "ITEM", subject: what }, `does not want ${what}`)));
}

function gone() {
  if (!state.before || !state.list) return null;
  const now = new Set(state.list.items.map((item) => item.item));
  const left = state.before.filter((item) => !now.has(item.item)).map((item) => item.item);
  return left.length ? h("p", { class: "muted" }, `No longer on the list: ${left.join(", ")}.`) : null;
}

function list() {
  if (!state.user) return h("p", { class: "nothing" }, "Pick somebody of whom something was heard lately, type a user, or be somebody new.");
  if (!state.list) return h("p", { class: "nothing" }, state.busy ? "Asking …" : "");
  const { items, degraded, after, model_version: model, took, took_us: inside } = state.list;
  const moved = changes(state.before, items);
  return h("div", {},
    h("p", { class: "row muted" }, `${items.length} items in ${Math.round(took)} ms, ${(inside / 1000).toFixed(1)} ms of them in the worker; model ${short(model)}`,
      after === "SATISFIED" ? badge("ok", "knows your last events") : after === "MISSED" ? badge("warn", "may lack your last events") : null,
      (degraded ?? []).map((d) => badge("warn", `without ${d.part}: ${d.reason}`))),
    items.length ? h("ol", { class: "picks" }, items.map((item, place) => row(item, place, moved[place]))) : h("p", { class: "nothing" }, "An empty list: no worker knows an item yet. Let people watch something:", " ", h("code", {}, "driftline simulate --for 60s")),
    gone());
}

function draw() {
  const place = byId("try-body");
  const rights = known.about?.recommendations;
  if (!rights) return put(place, h("p", { class: "nothing" }, "Waiting for the gateway …"));
  if (rights === "closed") {
    return put(place, h("p", { class: "nothing" }, "This gateway is read-only: lists tell what people have watched. To try them, start it with a key: ", h("code", {}, "DRIFTLINE_GATEWAY__API_KEY=$(openssl rand -hex 24) driftline dashboard")));
  }
  if (!open()) {
    return put(place, h("p", { class: "row" }, "Lists need the key of this gateway.", h("button", { type: "button", class: "main", "data-at": "key", onclick: () => byId("key-button").click() }, "Enter the key")));
  }
  // What is being typed is not drawn over.
  const typed = place.querySelector("#try-user")?.value;
  put(place,
    h("form", { class: "row who", onsubmit: (event) => { event.preventDefault(); const user = byId("try-user").value.trim(); if (user) become(user); } },
      h("label", { for: "try-user" }, "User"),
      h("input", { id: "try-user", "data-at": "user", autocomplete: "off", spellcheck: "false", maxlength: "256" }),
      h("button", { type: "submit", class: "main", "data-at": "ask" }, "Recommend"),
      h("button", { type: "button", "data-at": "new", onclick: () => { byId("try-user").value = fresh(); byId("try-user").form.requestSubmit(); } }, "Be somebody new"),
      h("button", { type: "button", class: "quiet", "data-at": "find", onclick: find }, "Who is there?")),
    state.users.length ? h("p", { class: "row chips" }, state.users.map((user) => h("button", { type: "button", class: "chip", "data-at": `user-${user}`, onclick: () => { byId("try-user").value = user; become(user); } }, user))) : null,
    state.error ? h("p", { class: "notice bad" }, badge("bad", "refused"), ` ${state.error}`) : null,
    list(),
    state.said.length ? h("details", { open: true }, h("summary", {}, `What ${state.user} did`), h("ul", {}, state.said.map((words) => h("li", {}, words)))) : null);
  const input = byId("try-user");
  if (input && !input.value) input.value = typed ?? state.user;
}

/** Shows the panel and keeps it up to date. */
export function showTry() {
  on(["about", "key"], draw);
  draw();
}
