/** The figures of the last minutes: each a time in seconds and a status. */
const samples = [];

/** The figures are compared with those of so many seconds ago. */
const [LATELY, MINUTE] = [10, 60];

/** Of the tab alone; a listener on the loopback, or a Unix socket, needs none to be looked at. */
const token = {
  get: () => sessionStorage.getItem("token"),
  set: (text) => sessionStorage.setItem("token", text),
};

function ask(path, options = {}) {
  const headers = token.get() ? { Authorization: `Bearer ${token.get()}` } : {};
  return fetch(path, { ...options, headers, cache: "no-store" });
}

const delay = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** Follows the listener's events, again and again. */
async function follow() {
  for (;;) {
    const why = await followOnce().catch(() => "the listener cannot be reached; it is asked again");
    byId("connection").replaceChildren(state(false, "", why));
    await delay(1000);
  }
}

/** Shows one stream of events to its end. Returns why it ended. */
async function followOnce() {
  const response = await ask("/events");
  byId("sign-in").hidden = response.status !== 401;
  if (!response.ok) return response.status === 401 ? "the listener needs its token" : `the listener answers ${response.status}`;
  let text = "";
  const pieces = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let piece = await pieces.read(); !piece.done; piece = await pieces.read()) {
    const events = (text + piece.value).split("\n\n");
    text = events.pop();
    events.forEach((event) => show(JSON.parse(event.slice("data: ".length))));
  }
  return "the connection has ended; it is made again";
}

function show(status) {
  // By the clock of the proxy: events may come late, and several at once.
  const now = Date.parse(status.time) / 1000;
  const last = samples.at(-1);
  // The proxy that answers now is another one: its counts begin anew.
  if (last && status.uptime_seconds < last.status.uptime_seconds) samples.length = 0;
  samples.push({ time: now, status });
  while (samples[0].time < now - SPAN) samples.shift();
  showHead(status);
  showTiles(status, since(LATELY));
  drawChart(points(), now);
  drawLegend(rates(since(LATELY)));
  showLatencies(status, since(MINUTE));
  showParts(status);
  showRules(status, since(LATELY));
  showLists(status);
}

/** The sample of so many seconds ago, or the oldest, with the time since. */
function since(seconds) {
  const last = samples.at(-1);
  const first = samples.find((sample) => sample.time >= last.time - seconds - 0.5);
  return { status: first.status, seconds: Math.max(last.time - first.time, 1e-9), last: last.status };
}

function rates({ status, seconds, last }) {
  return Object.fromEntries(OUTCOMES.map((outcome) => [outcome, (last.requests[outcome] - status.requests[outcome]) / seconds]));
}

function points() {
  return samples.slice(1).map(({ time, status }, index) => {
    const before = samples[index];
    return { time, rates: rates({ status: before.status, seconds: time - before.time, last: status }) };
  });
}

function showHead(status) {
  byId("version").textContent = `${status.version}, up for ${span(status.uptime_seconds)}, ${status.workers} workers`;
  byId("connection").replaceChildren(state(true, "live", ""));
}

function showTiles(status, lately) {
  const rate = rates(lately);
  const all = OUTCOMES.reduce((sum, outcome) => sum + rate[outcome], 0);
  const hits = rate.hit + rate.stale;
  const asked = all - rate.bypass - rate.refused;
  const origin = rate.miss + rate.bypass + rate.error;
  const failing = status.origins.filter((origin) => !origin.up).length;
  const store = status.store.nodes.every((node) => node.up);
  describe("tiles", [
    ["Requests a second", count(all)],
    ["Hit ratio", percent(hits, asked)],
    ["Origin's share of requests", percent(origin, all)],
    ["Requests at the origin", count(status.origins.reduce((sum, origin) => sum + origin.inflight, 0))],
    ["Store", state(store, "up", "down")],
    ["Origin", state(failing === 0, "up", "away")],
  ]);
}

/** The bound in microseconds below which this part of the requests lies, or null without any. */
function quantile(counts, bounds, part) {
  const all = counts.reduce((sum, bucket) => sum + bucket, 0);
  if (all === 0) return null;
  let rest = part * all;
  for (const [index, bucket] of counts.entries()) {
    if (bucket >= rest) {
      const [lower, upper] = [bounds[index - 1] ?? 0, bounds[index] ?? bounds.at(-1)];
      return lower + ((upper - lower) * rest) / bucket;
    }
    rest -= bucket;
  }
  return bounds.at(-1);
}

function showLatencies(status, minute) {
  const { bounds_us: bounds, buckets } = status.durations;
  const before = minute.status.durations.buckets;
  const row = (outcome) => {
    const counts = buckets[outcome].map((bucket, index) => bucket - before[outcome][index]);
    return [outcome, ...[0.5, 0.95, 0.99].map((part) => duration(quantile(counts, bounds, part)))];
  };
  fill("latency-rows", OUTCOMES.map(row).filter((cells) => cells[1] !== "–"), 4, "no requests");
}

/** How a certificate that an authority issues is doing. */
function certificate({ expires, next_try: next, last_error: error }) {
  const moment = (time) => new Date(time).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
  const until = expires ? `valid until ${moment(expires)}` : "not issued yet";
  const isGood = expires !== null && error === null;
  return state(isGood, `${until}, renewed after ${moment(next)}`, `${until}; next try ${moment(next)}${error ? `: ${error}` : ""}`);
}

function showParts({ store, near, origins, acme }) {
  const rows = store.nodes.map((node) => [`${store.kind} ${node.address}`, state(node.up, "up", "down: pages come from the origin")]);
  if (rows.length === 0) rows.push([`store: ${store.kind}`, state(true, "in this process", "")]);
  if (near) rows.push(["near cache", state(near.certain, `${count(near.entries)} entries, ${bytes(near.bytes)}`, "not used: changes of the store may be missed")]);
  origins.forEach((origin) => rows.push([`origin ${origin.url}`, state(origin.up && !origin.ejected, `up, ${origin.inflight} requests`, origin.ejected ? "ejected" : "away")]));
  acme.forEach((name) => rows.push([`certificate ${name.name}`, certificate(name)]));
  fill("part-rows", rows, 2, "");
}

function showRules({ rules }, lately) {
  const row = (rule, index) => {
    const before = lately.status.rules[index];
    const isSame = before?.path === rule.path;
    const rate = isSame ? (rule.requests - before.requests) / lately.seconds : 0;
    const timeout = rule.timeout === "off" ? "off" : span(rule.timeout);
    return [element("code", {}, rule.path), timeout, count(rule.requests), count(Math.max(rate, 0)), percent(rule.hits, rule.requests)];
  };
  fill("rule-rows", rules.map(row), 5, "no rules: every request passes to the origin");
}

/** A URL that is explained when it is chosen. */
function page(url, before = "") {
  const onclick = () => {
    byId("url").value = url;
    byId("explain").requestSubmit();
    byId("url").focus();
  };
  return element("span", {}, before, element("button", { className: "page", type: "button", onclick }, url));
}

function showLists({ hottest, slowest, errors }) {
  const clock = (time) => new Date(time).toLocaleTimeString([], { hourCycle: "h23" });
  const alike = Map.groupBy(errors.toReversed(), (error) => error.error);
  const failures = [...alike].map(([text, all]) => [clock(all[0].time), all.length > 1 ? `${text} (${all.length} of the last ${errors.length})` : text]);
  replace("hot-rows", hottest.map((hot) => [page(hot.url), percent(hot.share, 1), span(hot.age_seconds), span(hot.ttl_seconds)]), 4, "no hits yet");
  replace("slow-rows", slowest.slice(0, 10).map((slow) => [page(slow.url, `${slow.method} `), String(slow.status), duration(slow.origin_us)]), 3, "no answers");
  fill("error-rows", failures, 2, "no errors");
}

/** Fills a table, but not while the keyboard is in it. */
function replace(id, ...rest) {
  if (!byId(id).contains(document.activeElement)) fill(id, ...rest);
}

async function explain(event) {
  event.preventDefault();
  const response = await ask(`/explain?${new URLSearchParams({ url: byId("url").value })}`).catch(() => null);
  const text = response === null ? "the listener cannot be reached" : await response.text();
  const terms = response?.ok ? Object.entries(JSON.parse(text)) : [["error", text.trim()]];
  const what = (value) => (typeof value === "string" ? value : JSON.stringify(value, null, 2));
  byId("explanation").replaceChildren(...terms.flatMap(([term, value]) => [element("dt", {}, term), element("dd", {}, what(value))]));
}

byId("explain").addEventListener("submit", explain);
byId("sign-in").addEventListener("submit", (event) => {
  event.preventDefault();
  token.set(byId("token").value.trim());
});
follow();
