// The figures of the server. A token, if one is needed, is asked for and kept in this tab.

const KEY = "headrace-token";

function headers() {
  const token = sessionStorage.getItem(KEY);
  return token ? { Authorization: `Bearer ${token}` } : {};
}

let asking = null;

/** Ask for the token; everybody who needs it waits for the same answer. */
function askToken() {
  asking ??= new Promise((resolve) => {
    const dialog = document.getElementById("ask-token");
    const input = document.getElementById("token");
    dialog.addEventListener("cancel", (event) => event.preventDefault());
    dialog.addEventListener("close", () => {
      sessionStorage.setItem(KEY, input.value.trim());
      input.value = "";
      asking = null;
      resolve();
    }, { once: true });
    dialog.showModal();
  });
  return asking;
}

async function ask(path, options = {}) {
  for (;;) {
    const response = await fetch(path, { headers: headers(), cache: "no-store", ...options });
    if (response.status !== 401) return response;
    await askToken();
  }
}

/** Return what a path has; throw an Error with the words of the server. */
export async function get(path, signal) {
  const response = await ask(path, { signal });
  const body = await response.json().catch(() => null);
  if (!response.ok) throw new Error(body?.error?.message ?? `status ${response.status}`);
  return body;
}

/** Call `take` with every set of figures, for ever; `down` when there is no connection. */
export async function follow(take, down) {
  for (let failures = 0; ; failures += 1) {
    try {
      const response = await ask("/stream");
      if (!response.ok) throw new Error(`status ${response.status}`);
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      for (let text = ""; ; ) {
        const { value, done } = await reader.read();
        if (done) break;
        text += value;
        const events = text.split("\n\n");
        text = events.pop();
        const newest = events.filter((event) => event.startsWith("data: ")).pop();
        if (newest) {
          failures = 0;
          take(JSON.parse(newest.slice(6)));
        }
      }
    } catch (error) {
      console.info("the stream ended:", error.message);
    }
    down();
    await new Promise((resolve) => setTimeout(resolve, Math.min(5000, 500 * 2 ** failures)));
  }
}
