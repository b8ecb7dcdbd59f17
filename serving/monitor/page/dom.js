// Elements and words. Text from outside becomes text nodes, never HTML.

/** Return an element: h("td", {class: "num"}, "3"). Children are nodes, texts, or nothing. */
export function h(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : String(value));
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/** Show these children, and nothing else; those that are null are left out. */
export const put = (element, ...children) => element.replaceChildren(...children.filter((child) => child !== null));

/** Put a text in; when it is there already, nothing is laid out or painted again. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Put rows of cells into the body of a table, changing only the cells that differ. */
export function fill(body, rows) {
  while (body.rows.length > rows.length) body.deleteRow(-1);
  rows.forEach((row, r) => {
    const line = body.rows[r] ?? body.insertRow();
    while (line.cells.length > row.length) line.deleteCell(-1);
    row.forEach((given, c) => {
      const cell = given !== null && typeof given === "object" && !(given instanceof Node) ? given : { text: given };
      let place = line.cells[c];
      if (!place) {
        place = document.createElement(c === 0 ? "th" : "td");
        if (c === 0) place.scope = "row";
        line.append(place);
      }
      if (cell.text instanceof Node) {
        if (!place.firstChild?.isEqualNode(cell.text)) place.replaceChildren(cell.text);
      }
      else if (place.textContent !== String(cell.text ?? "") || place.firstElementChild) place.textContent = cell.text ?? "";
      if (place.className !== (cell.class ?? "")) place.className = cell.class ?? "";
      if (cell.title && place.title !== cell.title) place.title = cell.title;
    });
  });
}

const tables = new WeakMap();
const watcher = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    const one = tables.get(target);
    one.seen = isIntersecting;
    if (one.seen && one.rows) fill(one.body, one.rows);
    if (one.seen) one.rows = null;
  }
}, { rootMargin: "100px" });

/** Put rows of cells into a table: at once, or, when it is not on the screen, as soon as it is. */
export function keep(one, rows) {
  if (!tables.has(one.frame)) {
    tables.set(one.frame, one);
    watcher.observe(one.frame);
    one.seen = true; // until it is known
  }
  if (one.seen) fill(one.body, rows);
  else one.rows = rows;
}

/** Return a table with a caption for those who do not see it, and its body. */
export function table(caption, heads, numbers = []) {
  const body = h("tbody");
  const cells = heads.map((head, i) => h("th", { scope: "col", class: numbers.includes(i) ? "num" : null }, head));
  const frame = h(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h("table", {}, h("caption", { class: "hidden" }, caption), h("thead", {}, h("tr", {}, cells)), body),
  );
  return { frame, body };
}

export const num = (text, extra = "") => ({ text, class: `num ${extra}`.trim() });

const digits = (value, most = 1) => value.toLocaleString("en", { maximumFractionDigits: most });

export const count = (value) => (value === null || value === undefined ? "–" : digits(value, 0));

/** A number with about three digits. */
export function plain(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size >= 1e9) return `${digits(value / 1e9)} G`;
  if (size >= 1e6) return `${digits(value / 1e6)} M`;
  if (size >= 1e4) return `${digits(value / 1e3)} k`;
  return digits(value, size >= 100 ? 0 : size >= 10 ? 1 : 2);
}

/** Seconds for people. */
export function seconds(value) {
  if (value === null || value === undefined) return "–";
  if (value === 0) return "0 s";
  if (value < 0.001) return `${digits(value * 1e6, 0)} µs`;
  if (value < 1) return `${digits(value * 1e3, value < 0.01 ? 2 : 0)} ms`;
  if (value < 100) return `${digits(value)} s`;
  if (value < 6000) return `${digits(value / 60, 0)} min`;
  if (value < 360000) return `${digits(value / 3600, 0)} h`;
  return `${digits(value / 86400, 0)} d`;
}

export const percent = (value, most = 1) => (value === null || value === undefined ? "–" : `${digits(value * 100, most)} %`);

export const bytes = (value) =>
  value === null || value === undefined ? "–" : value >= 1e9 ? `${digits(value / 1e9)} GB` : `${digits(value / 1e6, 0)} MB`;

/** A time, ms. */
export const when = (ms) =>
  ms ? new Date(ms).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "medium" }) : "–";

/** How long ago a time, ms, is. */
export const ago = (ms, now = Date.now()) => (ms ? `${seconds(Math.max(1, Math.round((now - ms) / 1000)))} ago` : "never");

/** A part of the page with a heading. */
export function panel(title, note, ...children) {
  return h("section", { class: "panel" }, h("h2", {}, title), note ? h("p", { class: "note" }, note) : null, children);
}
