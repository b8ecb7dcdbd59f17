// The overview: is all well, what is behind, how fast, how fresh, how good.

import { get } from "/page/api.js";
import { Chart } from "/page/charts.js";
import { ago, bytes, count, h, keep, num, panel, percent, plain, say, seconds, table } from "/page/dom.js";

const RANGES = { "15m": "15 min", "6h": "6 h", "24h": "24 h", "30d": "30 days" };
const LEAST = 60; // buckets that are always shown
const OLDEST_S = 2; // lag that is older says so
const WORDS = {
  OK: "keeps up",
  "?": "not enough was seen yet",
  WARN: "falls behind: commits come, and the lag grows",
  REWIND: "went back: it reads records again",
  STALL: "stands still: a worker has the records, and commits nothing",
  STOP: "nobody reads: no worker has the records",
};
const BAD = new Set(["REWIND", "STALL", "STOP"]);
const perSecond = (value) => `${plain(value)}/s`;

const CHARTS = [
  { title: "Lag by agent", note: "age of the oldest record that waits, by role", prefix: "lag:", format: seconds, floor: 1 },
  { title: "Throughput", note: "records processed, by agent", prefix: "records:", format: perSecond, floor: 1 },
  { title: "Time to answer", note: "age of a request when its reply goes out", prefix: "reply:", format: seconds, floor: 0.01 },
  { title: "Time by stage", note: "mean time of a stage of answering", prefix: "stage:", format: seconds, floor: 0.0001 },
  { title: "Replies", note: "with everything, with something missing, empty", prefix: "replies:", format: perSecond, order: ["ok", "degraded", "empty"], floor: 1 },
  { title: "Rungs", note: "lists by how much there was time for", prefix: "rungs:", format: perSecond, order: ["full", "fewer", "first", "popular"], floor: 1 },
  { title: "Click rate by ranker", note: "of slots whose outcome is known, over the last minute", prefix: "clicks:", format: (v) => percent(v), floor: 0.01 },
  { title: "Freshness", note: "age of the models in use, and of the last merge of the index", prefix: "age:", format: seconds, floor: 1 },
  { title: "Dead letters", note: "records refused, by reason", prefix: "letters:", format: perSecond, floor: 0.1 },
  { title: "Recall of the index", note: "share of the nearest items that it finds", prefix: "recall:", format: (v) => percent(v), floor: 1 },
];

export function overview(main) {
  document.title = "Headrace";
  const cards = h("div", { class: "cards" });
  const tell = {};
  for (const [key, name] of [["state", "State"], ["lag", "Largest lag"], ["events", "Records"], ["replies", "Replies"], ["reply", "Slowest 1 %"], ["clicks", "Click rate"]]) {
    tell[key] = { value: h("b", {}, "–"), note: h("span", { class: "note" }, "") };
    tell[key].card = h("div", { class: "card" }, h("h2", {}, name), tell[key].value, tell[key].note);
    cards.append(tell[key].card);
  }
  const problems = h("ul", { class: "problems", "aria-live": "polite" });
  const lag = table("Lag by agent and topic", ["agent", "topic", "records", "oldest", "trend", "member", "verdict"], [2, 3, 4]);
  const workers = table("Workers", ["worker", "roles", "CPU", "memory"], [2, 3]);
  const clicks = table("Click rate by ranker", ["ranker", "use", "shown", "clicks", "click rate", "surely between"], [2, 3, 4, 5]);
  const models = table("Models and settings in use", ["version", "kind", "use", "AUC", "made"], [3, 4]);
  const arms = table("The present rollout", ["arm", "version", "shown", "clicks", "click rate", "surely between"], [2, 3, 4, 5]);
  const index = table("The index of each worker", ["worker", "items", "in the tail", "last merge", "recall"], [1, 2, 3, 4]);
  const letters = table("Dead letters by reason", ["reason", "agent", "records"], [2]);
  const rollout = h("p", { class: "note" }, "");
  const charts = CHARTS.map((about) => new Chart(about));

  let range = sessionStorage.getItem("headrace-range") ?? "15m";
  if (!(range in RANGES)) range = "15m";
  const choice = h("fieldset", { class: "ranges" }, h("legend", { class: "hidden" }, "How far back"));
  for (const [key, name] of Object.entries(RANGES)) {
    const input = h("input", { type: "radio", name: "range", id: `range-${key}`, value: key, checked: key === range });
    input.addEventListener("change", () => {
      range = key;
      sessionStorage.setItem("headrace-range", key);
      load();
    });
    choice.append(input, h("label", { for: `range-${key}` }, name));
  }

  main.replaceChildren(
    h("h1", { class: "hidden" }, "Overview"),
    cards,
    problems,
    h("div", { class: "bar" }, h("h2", {}, "Over time"), choice),
    h("div", { class: "grid" }, charts.map((chart) => chart.element)),
    h("div", { class: "bar" }, h("h2", {}, "Now")),
    panel("Lag", "from the broker alone: it is right when every worker is down", lag.frame),
    h("div", { class: "grid wide" },
      panel("Click rate by ranker", "since the workers started; with 95 % intervals", clicks.frame),
      panel("Models and rollouts", null, models.frame, rollout, arms.frame),
      panel("Index", "of the workers that serve", index.frame),
      panel("Dead letters", "since the workers started; headrace dead-letters list shows them", letters.frame),
      panel("Workers", "those in HEADRACE_MONITOR_TARGETS", workers.frame)),
  );

  let times = [];
  let values = {};
  let step = 2;
  let taken = 0;
  let asked = null; // when the lag that is shown was asked for, by the clock of this page
  let worstOf = "";
  let loading = null;
  let timer = null;

  async function load() {
    loading?.abort();
    clearTimeout(timer);
    loading = new AbortController();
    const { signal } = loading;
    try {
      const found = await get(`/history/${range}`, signal);
      step = found.step;
      values = known(found.values);
      const n = Object.values(values)[0]?.length ?? 0;
      times = Array.from({ length: n }, (_, i) => found.end - (n - 1 - i) * step);
      charts.forEach((chart) => chart.set(times, values, true));
    } catch (error) {
      if (error.name === "AbortError") return;
      console.info("no history:", error.message);
    }
    if (step > 2) timer = setTimeout(load, 60_000);
  }

  /** Leave out the time before anything was known, but for a minimum. */
  function known(all) {
    const rows = Object.values(all);
    const first = Math.min(...rows.map((row) => row.findIndex((value) => value !== null)));
    const from = Math.min(first, (rows[0]?.length ?? 0) - LEAST);
    return from > 0 ? Object.fromEntries(Object.entries(all).map(([name, row]) => [name, row.slice(from)])) : all;
  }

  /** Put a new point behind the others; the server has the same buckets. */
  function append({ at, values: point }) {
    const bucket = Math.floor(at / 1000 / step) * step;
    if (step !== 2 || !times.length || bucket < times.at(-1)) return;
    const before = times.length;
    for (let t = times.at(-1) + step; t <= bucket && times.length < before + 450; t += step) times.push(t);
    for (const name of new Set([...Object.keys(values), ...Object.keys(point)])) {
      values[name] ??= Array(before).fill(null);
      while (values[name].length < times.length) values[name].push(null);
      values[name][times.length - 1] = point[name] ?? values[name][times.length - 1];
    }
    const over = times.length - 450;
    if (over > 0) {
      times.splice(0, over);
      for (const row of Object.values(values)) row.splice(0, over);
    }
    charts.forEach((chart) => chart.set(times, values));
  }

  function takeLag(found, at, heard) {
    const rows = found?.rows ?? [];
    keep(lag, rows.map((row) => [
      row.agent, row.topic, num(count(row.records)), num(seconds(row.seconds)),
      num(row.trend === null ? "–" : Math.abs(row.trend) < 0.05 ? "0/s" : `${row.trend > 0 ? "+" : "−"}${plain(Math.abs(row.trend))}/s`),
      { text: (row.member ?? "–").replace(/^.*-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-([0-9a-f]{12})$/, "$1"), class: "id", title: row.member },
      { text: h("span", { class: `verdict ${BAD.has(row.verdict) ? "bad" : row.verdict === "WARN" ? "warn" : row.verdict === "OK" ? "ok" : ""}`, title: WORDS[row.verdict] }, row.verdict) },
    ]));
    const worst = rows.filter((row) => row.seconds !== null).sort((a, b) => b.seconds - a.seconds)[0];
    say(tell.lag.value, worst ? seconds(worst.seconds) : "–");
    worstOf = worst?.seconds > 0 ? `${worst.agent} on ${worst.topic}` : worst ? "nothing waits" : "";
    asked = found?.at ? heard - (at - found.at) : null;
    sayWorst();
    const seen = found?.at ? `seen ${ago(found.at, at)}` : "";
    if (tell.lag.card.title !== seen) tell.lag.card.title = seen;
  }

  /** Say which lag is the largest; or, when none came for a while, how old it is. */
  function sayWorst() {
    const old = asked === null ? 0 : (performance.now() - asked) / 1000;
    say(tell.lag.note, old > OLDEST_S ? `seen ${seconds(Math.floor(old))} ago` : worstOf);
    tell.lag.note.classList.toggle("bad", old > OLDEST_S);
  }

  function takeTroubles(figures) {
    const out = [];
    const found = figures.lag;
    if (found?.error) out.push(["bad", found.error]);
    for (const row of found?.rows ?? []) {
      if (BAD.has(row.verdict) || row.verdict === "WARN") out.push([BAD.has(row.verdict) ? "bad" : "warn", `${row.agent} on ${row.topic}: ${WORDS[row.verdict]}`]);
      if (row.deleted) out.push(["bad", `${row.agent} on ${row.topic}: ${count(row.deleted)} records were deleted before it read them`]);
    }
    for (const text of found?.missing ?? []) out.push(["bad", text]);
    for (const one of figures.workers ?? []) if (one.trouble) out.push(["bad", `${one.worker} ${one.trouble}`]);
    fillList(problems, out);
    const bad = out.some(([kind]) => kind === "bad");
    const known = found && !found.error;
    say(tell.state.value, bad ? "needs somebody" : out.length ? "look at it" : known ? "all is well" : "–");
    const look = `card ${bad ? "bad" : out.length ? "warn" : known ? "ok" : ""}`;
    if (tell.state.card.className !== look) tell.state.card.className = look;
    say(tell.state.note, out.length ? `${out.length} ${out.length > 1 ? "things" : "thing"}, see below` : known ? `workers: ${(figures.workers ?? []).length}, topics read: ${(found.rows ?? []).length}` : "");
  }

  function fillList(list, rows) {
    const text = JSON.stringify(rows);
    if (list.dataset.said === text) return;
    list.dataset.said = text;
    list.replaceChildren(...rows.map(([kind, words]) => h("li", { class: kind }, words)));
  }

  function takePoint({ values: point }) {
    const sum = (prefix) => Object.entries(point).filter(([name]) => name.startsWith(prefix)).reduce((all, [, value]) => all + value, 0);
    say(tell.events.value, perSecond(point["records:track_users"] ?? sum("records:")));
    say(tell.events.note, "read by track_users");
    say(tell.replies.value, perSecond(sum("replies:")));
    const full = sum("rungs:") > 0 ? (point["rungs:full"] ?? 0) / sum("rungs:") : null;
    say(tell.replies.note, full === null ? "" : `${percent(full, 0)} with all there is`);
    say(tell.reply.value, seconds(point["reply:slowest 1 %"] ?? null));
    say(tell.reply.note, "reply:half" in point ? `half within ${seconds(point["reply:half"])}` : "");
  }

  function rates(row) {
    return [num(count(row.shown ?? row.examples)), num(count(row.clicked ?? row.clicks)), num(percent(row.rate, 2)), num(row.low === null ? "–" : `${percent(row.low, 2)} – ${percent(row.high, 2)}`)];
  }

  function takeTables(figures, at) {
    const uses = {};
    const named = [];
    for (const kind of figures.models ?? []) {
      for (const one of kind.versions) {
        uses[one.version] = one.use;
        named.push([{ text: one.version.slice(0, 16), class: "id", title: one.version }, kind.kind, one.use, num(one.auc == null ? "–" : one.auc.toFixed(4)), num(one.created ? ago(one.created, at) : "–")]);
      }
    }
    keep(models, named);
    const tried = (figures.models ?? []).find((kind) => kind.stage);
    const told = Object.entries(tried?.differences ?? {}).filter(([, d]) => d.low !== null)
      .map(([name, d]) => `${{ clicks: "clicks", watch_ms: "watch time", returning: "users who return" }[name] ?? name} ${percent(d.value)}, surely ${percent(d.low)} to ${percent(d.high)}`);
    say(rollout, tried ? `${tried.kind} at ${tried.stage}, since ${ago(tried.since, at)}. ${told.join("; ")}` : "No rollout runs.");
    const none = !tried?.arms.length;
    if (arms.frame.hidden !== none) arms.frame.hidden = none;
    keep(arms, (tried?.arms ?? []).map((arm) => [arm.arm, { text: arm.version.slice(0, 16), class: "id" }, ...rates(arm)]));
    keep(clicks, (figures.clicks ?? []).map((row) => [{ text: row.ranker.slice(0, 16), class: "id", title: row.ranker }, uses[row.ranker] ?? (row.ranker === "none" ? "without a ranker" : "before"), ...rates(row)]));
    const all = (figures.clicks ?? []).reduce((sum, row) => ({ shown: sum.shown + row.shown, clicked: sum.clicked + row.clicked }), { shown: 0, clicked: 0 });
    say(tell.clicks.value, all.shown ? percent(all.clicked / all.shown, 2) : "–");
    say(tell.clicks.note, all.shown ? `of ${plain(all.shown)} slots shown` : "");
    keep(index, (figures.index ?? []).map((row) => [row.worker, num(count(row.items)), num(count(row.tail)), num(row.merge_age === null ? "–" : `${seconds(row.merge_age)} ago`), num(percent(row.recall))]));
    keep(letters, figures.letters?.length ? figures.letters.map((row) => [row.reason, row.agent, num(count(row.letters))]) : [["none", "", num("0")]]);
    keep(workers, (figures.workers ?? []).map((one) => [
      one.worker, one.trouble ? { text: one.trouble, class: "bad" } : one.roles.join(", "), num(percent(one.cpu, 0)), num(bytes(one.memory))]));
  }

  load();
  const ageing = setInterval(sayWorst, 500);
  return {
    take(figures, heard) {
      takeLag(figures.lag, figures.at, heard);
      takeTroubles(figures);
      if (figures.point && figures.point.at !== taken) {
        taken = figures.point.at;
        takePoint(figures.point);
        takeTables(figures, figures.at);
        append(figures.point);
      }
    },
    leave() {
      loading?.abort();
      clearTimeout(timer);
      clearInterval(ageing);
    },
  };
}
