// The frame: which page is shown, the search, whether figures come.

import { follow } from "/page/api.js";
import { clear } from "/page/charts.js";
import { overview } from "/page/overview.js";
import { itemPage, userPage } from "/page/person.js";

const main = document.getElementById("main");
const live = document.getElementById("live");
let page = null;
let newest = null;
let heard = 0;

function route() {
  const [, kind, ...rest] = location.hash.split("/");
  let id = rest.join("/");
  try {
    id = decodeURIComponent(id);
  } catch {
    // as it was written
  }
  page?.leave?.();
  clear();
  const nav = document.querySelector("[data-nav=overview]");
  if (kind) nav.removeAttribute("aria-current");
  else nav.setAttribute("aria-current", "page");
  if (kind === "user" && id) page = userPage(main, id);
  else if (kind === "item" && id) page = itemPage(main, id);
  else page = overview(main);
  if (newest) page.take?.(newest, heard);
}

function said() {
  const since = (performance.now() - heard) / 1000;
  const down = !heard || since > 5;
  const text = !heard ? "connecting" : down ? `no answer for ${Math.round(since)} s` : "live";
  if (live.textContent !== text) live.textContent = text;
  live.classList.toggle("down", down);
}

document.getElementById("search").addEventListener("submit", (event) => {
  event.preventDefault();
  const id = document.getElementById("id").value.trim();
  if (id) location.hash = `#/${document.getElementById("kind").value}/${encodeURIComponent(id)}`;
});

document.addEventListener("keydown", (event) => {
  const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement?.tagName ?? "");
  if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    document.getElementById("id").focus();
  }
});

addEventListener("hashchange", () => {
  route();
  main.focus();
  scrollTo(0, 0);
});
route();
follow((figures) => {
  heard = performance.now();
  newest = figures;
  said();
  if (!document.hidden) page.take?.(figures, heard);
}, said);
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && newest) page.take?.(newest, heard);
});
setInterval(said, 1000);
