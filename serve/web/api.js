// Calls to the gateway: errors with their words, the access key where one is asked for, streams of events.

import { h } from "./dom.js";

const KEY = "heed-key";

/** What the gateway, or the way to it, said instead of an answer. */
export class ApiError extends Error {
  constructor(message, { status = 0, code = "", param = null, retryAfter = null } = {}) {
    super(message);
    Object.assign(this, { status, code, param, retryAfter });
  }
}

/** One call. Returns the Response when its status is 2xx, else throws ApiError. A 401 asks for a key once. */
export async function call(method, path, body, { signal, headers = {} } = {}) {
  for (;;) {
    const key = sessionStorage.getItem(KEY);
    let response;
    try {
      response = await fetch(path, {
        method, signal, cache: "no-store", credentials: "same-origin",
        headers: { ...(body === undefined ? {} : { "content-type": "application/json" }), ...(key ? { authorization: `Bearer ${key}` } : {}), ...headers },
        body: body === undefined ? undefined : JSON.stringify(body),
      });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ApiError("The gateway cannot be reached.", { code: "unreachable" });
    }
    if (response.ok) return response;
    const failure = await failed(response);
    if (response.status === 401 && (await askForKey(failure.message))) continue;
    throw failure;
  }
}

/** One call that answers JSON. */
export const ask = async (method, path, body, options) => (await call(method, path, body, options)).json();
export const get = (path, options) => ask("GET", path, undefined, options);
export const post = (path, body, options) => ask("POST", path, body, options);

async function failed(response) {
  const body = await response.json().catch(() => null);
  const error = body?.error ?? {};
  const retryAfter = Number(response.headers.get("retry-after")) || null;
  return new ApiError(sentence(error.message || `the gateway answered ${response.status}`), { status: response.status, code: error.code, param: error.param, retryAfter });
}

const sentence = (words) => `${words[0].toUpperCase()}${words.slice(1)}${/[.!?…]$/.test(words) ? "" : "."}`;

/** The JSON objects of a stream of server-sent events, until [DONE]. Throws ApiError when it breaks off. */
export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { value, done } = await reader.read().catch((error) => {
      if (error.name === "AbortError") throw error;
      throw new ApiError("The reply broke off.", { code: "broken" });
    });
    if (done) throw new ApiError("The reply broke off.", { code: "broken" });
    held += value;
    const parts = held.split("\n\n");
    held = parts.pop();
    for (const part of parts) {
      if (!part.startsWith("data: ")) continue;
      if (part === "data: [DONE]") return;
      const body = JSON.parse(part.slice(6));
      if (body.error) throw new ApiError(sentence(body.error.message), { code: body.error.code });
      yield body;
    }
  }
}

let asking = null;

/** The dialog for an access key; several calls that fail at once share it. False when it was dismissed. */
function askForKey(why) {
  asking ??= new Promise((resolve) => {
    const field = h("input", { type: "password", autocomplete: "off", "aria-label": "Access key", required: true });
    const dialog = h("dialog", { "aria-label": "Access key" },
      h("form", { method: "dialog" }, h("h2", {}, "An access key is needed"),
        h("p", { class: "soft small" }, `${why} It is kept in this tab only.`), field,
        h("div", { class: "row" }, h("button", { type: "button", on: { click: () => dialog.close("no") } }, "Cancel"), h("button", { class: "main", value: "yes" }, "Use it"))));
    dialog.addEventListener("close", () => {
      const given = dialog.returnValue === "yes" && field.value.trim();
      if (given) sessionStorage.setItem(KEY, given);
      dialog.remove();
      asking = null;
      resolve(Boolean(given));
    });
    document.body.append(dialog);
    dialog.showModal();
  });
  return asking;
}
