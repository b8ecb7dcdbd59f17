// The pages of a user and of an item: what is kept, what was shown, what would be shown now, and why.

import { get } from "/page/api.js";
import { ago, count, fill, h, num, panel, percent, plain, put, seconds, table, when } from "/page/dom.js";

const METRICS = { dwell_s: "dwell, s" };
const WINDOWS = { "1h": "last hour", "24h": "last day", "7d": "last week" };

/** The name of something kept: a title with its id, or the hash where no name was found. */
function named(one, kind) {
  if (!one) return "–";
  if (!one.id) return h("span", { class: "id", title: "no name was found for this hash" }, `#${one.hash}`);
  if (kind !== "item") return h("span", {}, one.id);
  const link = h("a", { href: `#/item/${encodeURIComponent(one.id)}` }, one.title || one.id);
  return one.title ? h("span", {}, link, h("small", {}, one.id)) : link;
}

function facts(pairs) {
  return h("dl", { class: "facts" }, pairs.filter(([, value]) => value !== "" && value !== null && value !== undefined)
    .map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

function counts(kept) {
  const metrics = Object.keys(kept.totals);
  const found = table("Counts by window", ["", ...metrics.map((metric) => METRICS[metric] ?? metric)], metrics.map((_, i) => i + 1));
  const rows = Object.entries(kept.windows).map(([name, row]) => [WINDOWS[name] ?? name, ...metrics.map((metric) => num(count(row[metric] ?? null)))]);
  fill(found.body, [...rows, ["ever", ...metrics.map((metric) => num(count(kept.totals[metric])))]]);
  return found.frame;
}

/** A list of things with a weight as a bar. */
function bars(rows, empty) {
  const most = Math.max(0.0001, ...rows.map(({ weight }) => Math.abs(weight)));
  if (!rows.length) return h("p", { class: "note" }, empty);
  return h("ul", { class: "bars" }, rows.map(({ of, weight }) => h("li", {},
    named(of),
    h("meter", { min: 0, max: most, value: Math.abs(weight), "aria-label": `weight ${plain(weight)}` }),
    h("b", { class: weight < 0 ? "bad" : "" }, plain(weight)))));
}

function things(rows, empty, show) {
  return rows.length ? h("ul", { class: "things" }, rows.map((row) => h("li", {}, show(row)))) : h("p", { class: "note" }, empty);
}

function failed(main, kind, id, error) {
  main.replaceChildren(h("h1", {}, `${kind} `, h("span", { class: "id" }, id)), h("p", { class: "problems" }, h("span", { class: "bad" }, error.message)));
}

function open(main, kind, id, path, show) {
  const leaving = new AbortController();
  document.title = `${id} · Headrace`;
  main.replaceChildren(h("h1", {}, `${kind} `, h("span", { class: "id" }, id)), h("p", { class: "note", role: "status" }, "looking it up"));
  get(path, leaving.signal).then((kept) => show(kept, leaving.signal)).catch((error) => {
    if (error.name !== "AbortError") failed(main, kind, id, error);
  });
  return { leave: () => leaving.abort() };
}

/** Why an item is on a list: the first reason, and the rest for whoever wants it. */
function reasons(item, objectives) {
  const [first, ...others] = item.why ?? [];
  return h("details", {},
    h("summary", {}, first ?? "–", others.length ? h("span", { class: "note" }, ` and ${others.length} more`) : null),
    others.length ? h("ul", {}, others.map((text) => h("li", {}, text))) : null,
    h("small", {}, `proposed by ${item.sources.join(", ")}`),
    h("small", {}, [objectives, item.explored ? "tried on purpose" : ""].filter(Boolean).join(" · ")));
}

/** How far a slot moved: from where the item is now. */
function moved(slot) {
  if (slot.was === null) return h("span", { class: "verdict warn" }, "new");
  const up = slot.was - slot.slot;
  if (!up) return h("span", { class: "verdict" }, "same");
  return h("span", { class: `verdict ${up > 0 ? "ok" : "bad"}`, title: `slot ${slot.was} now` }, up > 0 ? `up ${up}` : `down ${-up}`);
}

/** The list now and the one that another ranker would make of the same candidates, slot by slot. */
function compared(items, instead, name) {
  const list = table(`The list now, and under ${instead.model}`, ["#", "now", "under the other", "score"], [3]);
  const slots = Math.max(items.length, instead.slots.length);
  fill(list.body, Array.from({ length: slots }, (_, i) => {
    const slot = instead.slots[i];
    return [
      String(i + 1),
      { text: items[i] ? name(items[i].item_id) : "–" },
      { text: slot ? h("div", {}, name(slot.item_id), " ", moved(slot)) : "–" },
      num(slot ? `${slot.score_was.toFixed(3)} → ${slot.score.toFixed(3)}` : "–"),
    ];
  }));
  const gone = instead.not_shown_any_more;
  return h("div", {}, list.frame,
    h("p", { class: "note" }, `${instead.same_slots} of ${slots} slots are the same${instead.compared ? `, of the best ${instead.compared} candidates` : ""}`, gone.length ? "; these are not on the other list:" : "", "."),
    gone.length ? things(gone, "", (id) => [name(id)]) : null);
}

/** The list that a user would be shown now; beside it the one of another ranker, if one is chosen. */
function listNow(id, signal) {
  const place = h("div", { "aria-live": "polite" });
  const surface = h("select", { id: "surface" }, h("option", { value: "home" }, "home"), h("option", { value: "digest" }, "digest"));
  const other = h("select", { id: "model" }, h("option", { value: "" }, "no other ranker"));
  const button = h("button", { type: "button" }, "Make it again");
  const list = table("What would be shown now", ["#", "item", "score", "why"], [2]);

  /** Offer the rankers that there are now; the chosen one stays chosen. */
  function offer(rankers) {
    const chosen = other.value;
    other.replaceChildren(h("option", { value: "" }, rankers.length ? "no other ranker" : "there is no ranker yet"),
      ...rankers.map(({ version, use }) => h("option", { value: version }, [version, use].filter(Boolean).join(", "))));
    other.value = rankers.some(({ version }) => version === chosen) ? chosen : "";
  }

  async function load() {
    for (const control of [button, surface, other]) control.disabled = true;
    place.replaceChildren(h("p", { class: "note" }, "a worker makes the list"));
    try {
      const query = new URLSearchParams({ surface: surface.value, model: other.value });
      const { reply, titles, rankers, instead, note } = await get(`/lists/${encodeURIComponent(id)}?${query}`, signal);
      if (reply.error) throw new Error(reply.error.message);
      offer(rankers ?? []);
      const items = reply.items ?? [];
      const name = (item) => named({ id: item, title: titles[item] }, "item");
      fill(list.body, items.map((item, i) => {
        const objectives = Object.entries(item.objectives ?? {}).map(([key, value]) => `${key.replace("_", " ")} ${percent(value)}`).join(" · ");
        return [String(i + 1), { text: name(item.item_id) }, num(item.score.toFixed(3)), { text: reasons(item, objectives) }];
      }));
      const model = reply.model ?? {};
      const about = [model.ranker ? `ranker ${model.ranker}` : "no ranker", model.variant, model.online && `online model ${model.online}`, `${Math.round(reply.took_ms ?? 0)} ms`, reply.degraded?.length && `lacks ${reply.degraded.join(", ")}`, note];
      place.replaceChildren(instead ? compared(items, instead, name) : list.frame, h("p", { class: "note" }, `now: ${about.filter(Boolean).join(" · ")}`));
    } catch (error) {
      if (error.name === "AbortError") return;
      place.replaceChildren(h("p", { class: "bad" }, error.message));
    }
    for (const control of [button, surface, other]) control.disabled = false;
  }
  button.addEventListener("click", load);
  surface.addEventListener("change", load);
  other.addEventListener("change", load);
  load();
  return panel("What would be shown now", "it is not logged as shown, and nothing on it rests",
    h("p", { class: "choose" }, h("label", { for: "surface" }, "on "), surface, h("label", { for: "model" }, "and under "), other, button), place);
}

export function userPage(main, id) {
  return open(main, "User", id, `/users/${encodeURIComponent(id)}`, (user, signal) => {
    const profile = user.profile ?? {};
    const shown = table("What was shown lately", ["item", "when", "times", ""], [1, 2]);
    fill(shown.body, user.shown.slice(0, 50).map((one) => [
      { text: named(one.item, "item") }, num(ago(one.ts)), num(count(one.times)), one.rests ? "rests" : ""]));
    put(main,
      h("h1", {}, "User ", h("span", { class: "id" }, id)),
      facts([
        ["last seen", user.last_seen_ts ? ago(user.last_seen_ts) : "never"], ["country", user.country ? named(user.country) : ""],
        ["clicks in this session", count(user.session_clicks)], ["age", profile.age ? String(profile.age) : ""],
        ["languages", (profile.languages ?? []).join(", ")], ["chosen", (profile.preferred_categories ?? []).join(", ")],
      ]),
      user.names_complete ? null : h("p", { class: "note" }, "Not all names could be looked up; what has none is shown by its hash."),
      h("div", { class: "split" }, h("div", {}, listNow(id, signal)), h("div", {},
        panel("Likes", "categories and creators, with their weights now", h("div", { class: "two" }, bars(user.categories, "no category yet"), bars(user.creators, "no creator yet"))),
        panel("What was shown lately", user.shown.length ? `the newest ${Math.min(50, user.shown.length)} of ${user.shown.length}` : "nothing", user.shown.length ? shown.frame : null),
        panel("Clicked lately", null, things(user.recent_clicks.slice(0, 20), "nothing yet", (one) => [named(one.item, "item"), h("small", { title: when(one.ts) }, ago(one.ts))])),
        panel("Counts", null, counts(user)),
        user.hidden_items.length || user.hidden_creators.length
          ? panel("Hidden", null, things([...user.hidden_items.map((one) => [one, "item"]), ...user.hidden_creators.map((one) => [one, "creator"])], "", ([one, kind]) => [named(one, kind), h("small", {}, kind)]))
          : null)),
    );
  });
}

export function itemPage(main, id) {
  return open(main, "Item", id, `/items/${encodeURIComponent(id)}`, (kept) => {
    const item = kept.item ?? {};
    const clicks = kept.totals.clicks ?? kept.totals.click;
    put(main,
      h("h1", {}, item.title || "Item ", item.title ? null : h("span", { class: "id" }, id)),
      item.title ? h("p", { class: "id" }, id) : null,
      kept.item ? null : h("p", { class: "note" }, "It is not in the catalogue: withdrawn, or never published."),
      facts([
        ["published", item.published_ts ? `${when(item.published_ts)} (${ago(item.published_ts)})` : ""],
        ["last event", kept.last_event_ts ? ago(kept.last_event_ts) : "never"],
        ["category", item.category], ["creator", item.creator_id], ["language", item.language],
        ["countries", (item.countries ?? []).join(", ")], ["flags", (item.flags ?? []).join(", ")], ["tags", (item.tags ?? []).join(", ")],
        ["length", item.duration_ms ? seconds(item.duration_ms / 1000) : ""], ["clicks ever", clicks === undefined ? "" : count(clicks)],
      ]),
      h("div", { class: "grid wide" }, panel("Counts", "of all users", counts(kept))),
    );
  });
}
