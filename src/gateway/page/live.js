// What the gateway tells, over server-sent events: a store of parts, and who wants to know of them.

/** The newest word on everything, by name. Rows of series are by their begin, in order. */
export const known = { minutes: [], hours: [] };
/** Whether the gateway itself is heard: "connecting", "open" or "lost". */
export const line = { state: "connecting", since: Date.now(), heard: 0 };

const listeners = new Map();
const dirty = new Set();
let scheduled = false;

/** Calls back with what is known, at most once a frame, when one of the parts has changed. */
export function on(parts, callback) {
  for (const part of parts) {
    if (!listeners.has(part)) listeners.set(part, new Set());
    listeners.get(part).add(callback);
  }
}

function changed(part) {
  dirty.add(part);
  if (scheduled) return;
  scheduled = true;
  // A hidden page draws nothing, and catches up when it is looked at.
  requestAnimationFrame(() => {
    scheduled = false;
    const due = new Set();
    for (const part of dirty) for (const callback of listeners.get(part) ?? []) due.add(callback);
    dirty.clear();
    for (const callback of due) callback(known);
  });
}

const MOST = { minutes: 1440, hours: 336 };

function grow(name, { all, rows }) {
  const byStart = new Map(all ? [] : known[name].map((row) => [row[0], row]));
  for (const row of rows) byStart.set(row[0], row);
  known[name] = [...byStart.values()].sort((a, b) => a[0] - b[0]).slice(-MOST[name]);
  changed(name);
}

const PARTS = ["about", "broker", "missing", "reading", "flow", "now", "evidence", "workers", "triggers",
  "runs", "control", "acks", "models", "letters", "experiments"];

function set(state) {
  if (line.state === state) return;
  line.state = state;
  line.since = Date.now();
  changed("line");
}

/** Takes in what was told under a name. */
function take(name, value) {
  line.heard = Date.now();
  set("open");
  if (name === "minutes" || name === "hours") return grow(name, value);
  if (name === "beat") return;
  known[name] = value;
  changed(name);
}

// A browser opens six connections to a host and no more: ten pages with a line each would starve. So
// one page listens and tells the others; when it is closed, another goes on.
const channel = new BroadcastChannel("driftline");
let leads = false;

/** Tells the other pages. */
function pass(message) {
  if (leads) channel.postMessage(message);
}

function hear({ data }) {
  if (leads) {
    if (data.ask) channel.postMessage({ all: { ...known }, state: line.state });
    return;
  }
  if (data.all) {
    Object.assign(known, data.all);
    Object.keys(data.all).forEach(changed);
    line.heard = Date.now();
    set(data.state);
  } else if (data.state) set(data.state);
  else if (data.name) take(data.name, data.value);
}

/** Begins to listen, and goes on after every break. */
export function listen() {
  // Without TLS, and not on this machine, there are no locks: then each page has a line of its own.
  if (!navigator.locks) return stream();
  channel.addEventListener("message", hear);
  channel.postMessage({ ask: true });
  navigator.locks.request("driftline-line", () => {
    leads = true;
    stream();
    return new Promise(() => {});
  });
}

function stream() {
  let source;
  const lose = () => { set("lost"); pass({ state: "lost" }); };
  const begin = () => {
    source = new EventSource("/api/live");
    for (const name of [...PARTS, "minutes", "hours", "beat"]) {
      source.addEventListener(name, (event) => {
        const value = JSON.parse(event.data);
        take(name, value);
        pass({ name, value });
      });
    }
    source.onerror = () => {
      lose();
      // Some errors end it for good: then it is begun anew.
      if (source.readyState === EventSource.CLOSED) setTimeout(begin, 1000);
    };
  };
  begin();
  // A line that says nothing for longer than it should is broken, whatever it looks like.
  setInterval(() => {
    if (line.state === "open" && Date.now() - line.heard > 15000) {
      source.close();
      lose();
      begin();
    }
  }, 2000);
}

// The key of this tab.
export const key = {
  get: () => sessionStorage.getItem("driftline-key") ?? "",
  set: (value) => { sessionStorage.setItem("driftline-key", value); changed("key"); },
};

/** Calls the gateway. Fails with an Error that says what to do. */
export async function call(path, body, method = "POST") {
  const headers = { "content-type": "application/json" };
  if (key.get()) headers.authorization = `Bearer ${key.get()}`;
  let response;
  try {
    response = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  } catch {
    throw new Error("The gateway does not answer. Is it running?");
  }
  const told = await response.json().catch(() => ({}));
  if (!response.ok) {
    const error = new Error(told.error?.message ?? `HTTP ${response.status}`);
    error.status = response.status;
    throw error;
  }
  return told;
}
