// Whether a chat can be answered: the pill in the top bar, the banner while the engine warms up.

import { $ } from "./dom.js";

const SOON = 1500; // milliseconds between looks while it is not ready
const LATER = 15000; // and while it is

let waiting = [];
let isReady = false;
let wasReady = false; // once: then an engine that does not answer is away, not warming up

/** Resolves at once when an engine answers, else as soon as one does. Rejects when ``signal`` aborts. */
export function ready(signal) {
  if (isReady) return Promise.resolve();
  return new Promise((resolve, reject) => {
    waiting.push(resolve);
    signal.addEventListener("abort", () => reject(signal.reason));
  });
}

/** Look again now, because a call failed. */
export function doubt() {
  isReady = false;
  look();
}

async function state() {
  try {
    const response = await fetch("/readyz", { cache: "no-store" });
    const body = await response.json();
    return { ready: response.ok, reachable: true, store: body.store };
  } catch {
    return { ready: false, reachable: false, store: "unknown" };
  }
}

let timer = 0;

async function look() {
  clearTimeout(timer);
  const now = await state();
  isReady = now.ready;
  wasReady ||= isReady;
  show(now);
  if (isReady) {
    for (const resolve of waiting) resolve();
    waiting = [];
  }
  timer = setTimeout(look, isReady ? LATER : SOON);
}

function show({ ready: up, reachable, store }) {
  const pill = $("ready");
  const [name, text] = up ? (store === "up" ? ["good", "ready"] : ["warn", "ready, store away"])
    : reachable ? (wasReady ? ["bad", "engine away"] : ["warn", "warming up"]) : ["bad", "unreachable"];
  pill.className = `pill ${name}`;
  pill.textContent = text;
  const banner = $("banner");
  if (!banner) return;
  banner.hidden = up;
  banner.classList.toggle("bad", name === "bad");
  $("banner-text").textContent = reachable
    ? `${wasReady ? "No engine answers now." : "The engine is warming up."} You can type already: your message goes out as soon as one is ready.`
    : "The gateway cannot be reached. Trying again…";
}

look();
