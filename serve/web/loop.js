// The loop page: asks once a second and draws what changed.

import { get, post } from "./api.js";
import { drawAdapters } from "./adapters.js";
import { drawCurve } from "./curve.js";
import { drawCanaries } from "./loopcanaries.js";
import { $, confirmed, h } from "./dom.js";
import { ago, counted, duration, figure, percent, picture, short } from "./loopstate.js";
import { drawPipeline, drawStep } from "./pipeline.js";
import { bursts, drawBursts } from "./quarantine.js";
import { drawRounds } from "./rounds.js";
import "./ready.js";

const EVERY = 1000; // milliseconds
const SILENT = 30; // seconds without a tick of the schedule that are worth a word
const alias = $("alias");
const drawn = new Map(); // id of a place → what it was drawn from

/** Draw a place only when what it shows has changed, so that nothing folds up under a reader's hands. */
function place(id, source, make) {
  const now = JSON.stringify(source) ?? "";
  if (drawn.get(id) === now) return;
  drawn.set(id, now);
  $(id).replaceChildren(...[make()].flat());
}

function draw(now) {
  const { adapters, rounds, reward, last } = now;
  place("stages", [now.stage, now.waiting, now.batch, reward?.accuracy, now.progress, now.share, now.live, now.up, now.inFlight, adapters], () => drawPipeline(now));
  place("step", [now.step, now.progress, now.eta, now.figures, now.waiting, now.canary, now.candidate, now.asked, now.share, now.run.length, now.enough, now.retryAt && Math.floor(Date.now() / 1000)], () => drawStep(now));
  $("told").textContent = now.step ? `Running: ${now.step}` : ""; // once a step, not once a second
  place("tiles", [now.waiting, now.total, now.freshness, now.live, now.spooled, now.refused, Math.floor(Date.now() / 30000)], () => tiles(now));
  place("reward", [reward, adapters.length], () => rewardCard(now));
  place("batch", [now.batch, Math.floor(Date.now() / 5000)], () => batchCard(now.batch));
  place("canaries", [now.gated, now.looked, now.incidents, new Date().toDateString()], () => drawCanaries(now));
  place("adapters", [adapters, Math.floor(Date.now() / 30000)], () => (adapters.length ? drawAdapters(adapters, refresh, failed) : h("li", { class: "empty" }, "No adapter yet: the base answers.")));
  place("rounds", [rounds, last, Math.floor(Date.now() / 30000)], () => drawRounds(rounds.length ? rounds : last ? [last] : []));
  place("engines", now.engines, () => now.engines.map((one) => h("li", { class: "row" }, h("span", { class: `pill ${one.up ? "good" : "bad"}` }, one.up ? "up" : "down"), one.name, h("span", { class: "soft small" }, `${counted(one.ready?.length ?? 0, "adapter")} ready, ${one.in_flight ?? 0} in flight`))));
  place("workers", [now.workers, Math.floor(Date.now() / 5000)], () => workers(now.workers));
  $("mode").textContent = { auto: "automatic", approve: "by approval", off: "off" }[now.mode] ?? now.mode;
  $("rollback").disabled = now.live === null;
  $("train").disabled = now.step !== null || now.asked;
  $("cancel").hidden = !now.begun;
  $("cancel").disabled = now.ending;
}

function tiles(now) {
  const tile = (label, value, note) => h("div", { class: "tile" }, h("span", { class: "soft small" }, label), h("strong", { class: "figures" }, value), h("span", { class: "soft small" }, note));
  return [
    tile("Votes waiting", String(now.waiting), now.refused ? `the store refuses ${counted(now.refused, "event")}: see the log` : now.spooled ? `${now.spooled} more on this disk` : `${now.total} in all`),
    tile("Freshness", now.freshness === null ? "–" : duration(now.freshness), "from a vote to a reply that learnt"),
    tile("Live", now.live ? short(now.live) : "base", now.live ? "adapter that answers" : "no adapter yet"),
    tile("Last round", now.last ? duration(now.last.seconds) : "–", now.last ? `${now.last.verdict ?? "ended"}, ${ago(now.last.ended)}` : "none yet"),
  ];
}

function rewardCard({ reward, adapters }) {
  if (!reward) return h("p", { class: "empty" }, "None yet.");
  const past = adapters.map((one) => one.training?.reward_model?.accuracy).filter((value) => typeof value === "number").reverse();
  const values = (past.at(-1) === reward.accuracy ? past : [...past, reward.accuracy]).filter((value) => typeof value === "number");
  return [
    h("p", {}, h("strong", { class: "big figures" }, percent(reward.accuracy, 1)), h("span", { class: "soft small" }, ` of ${reward.holdout ?? "the"} held-out votes ordered as people did`)),
    values.length > 1 && drawCurve("by round", values, { mark: 0.5, shown: (value) => percent(value, 1) }),
    pairs([["calibration error", figure(reward.calibration_error)], ["comparisons", reward.pairs], ["thumbs", reward.thumbs], ["judge", percent(reward.judge_accuracy, 1)]]),
  ].filter(Boolean);
}

function batchCard(batch) {
  if (!batch) return h("p", { class: "empty" }, "None yet.");
  return pairs([["id", batch.id], ["votes", batch.votes], ["prompts", batch.prompts], ["newest vote", ago(batch.newest_vote)]]);
}

const pairs = (rows) => h("dl", { class: "figures small" }, rows.filter(([, value]) => value !== undefined && value !== null).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, String(value)))));

/** When each task of the schedule last ended well; failures and silence are told, since then votes only gather. */
function workers(beats) {
  if (beats === null) return "";
  const newest = Math.max(0, ...beats.map(({ ok }) => ok));
  const broken = beats.filter(({ ok, failed: at }) => at > ok).map(({ task, failed: at, why }) => h("p", { class: "error" }, `${task} failed ${ago(at)}: ${why}`));
  if (Date.now() / 1000 - newest > SILENT) return [...broken, h("span", { class: "pill warn wrap" }, newest ? `workers silent, last seen ${ago(newest)}` : "no worker has reported: votes are kept, nothing is trained")];
  return [...broken, h("span", { class: "soft" }, beats.map(({ task, ok }) => `${task}: ${ago(ok)}`).join(" · "))];
}

function failed(error) {
  $("error").hidden = false;
  $("error").textContent = error.message;
}

async function look() {
  const asked = `?alias=${encodeURIComponent(alias.value)}`;
  const [loop, adapters, experiments, held] = await Promise.all([get(`/v1/loop${asked}`), get(`/v1/adapters${asked}`), get(`/v1/experiments${asked}`), get(`/v1/quarantine${asked}`)]);
  $("error").hidden = true;
  draw(picture(loop, adapters.data, experiments.data));
  const found = bursts(held.data);
  $("quarantine-card").hidden = !found.length;
  place("quarantine", found, () => drawBursts(found, refresh, failed));
}

async function refresh() {
  try {
    await look();
  } catch (error) {
    failed(error);
  }
}

async function watch() {
  if (!document.hidden) await refresh();
  setTimeout(watch, EVERY);
}

async function start() {
  try {
    const { data } = await get("/v1/aliases");
    alias.replaceChildren(...data.map((one) => h("option", { value: one.name }, one.name)));
    if (data.some((one) => one.name === "heed")) alias.value = "heed";
    $("alias-field").hidden = data.length < 2;
  } catch (error) {
    failed(error);
    setTimeout(start, 3000);
    return;
  }
  watch();
}

async function act(path, body) {
  try {
    await post(path, { alias: alias.value, ...body });
  } catch (error) {
    failed(error);
    return;
  }
  refresh();
}

alias.addEventListener("change", () => { drawn.clear(); refresh(); });
$("train").addEventListener("click", () => act("/v1/loop/train"));
$("cancel").addEventListener("click", async () => {
  if (await confirmed("End the round?", "No adapter is made. Its votes are learnt from in the next round.", "End the round", "danger")) act("/v1/loop/cancel");
});
$("rollback").addEventListener("click", async () => {
  if (await confirmed("Roll back?", "The alias goes back to what was live before. The adapter that is live now is rejected. No request fails.", "Roll back", "danger")) act("/v1/rollback", { reason: "from the loop page" });
});
start();
