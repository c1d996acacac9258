// What GET /v1/loop says, in the words of the page. The only place that knows the fields' names; any may be absent.

export const STAGES = [
  ["chat", "Chat"], ["votes", "Votes"], ["batch", "Batch"], ["reward", "Reward model"],
  ["ppo", "PPO"], ["gate", "Gate"], ["canary", "Canary"], ["live", "Live"],
];

// The workers' names of their steps → the stage that is lit.
const STAGE_OF = { batch: "batch", "reward model": "reward", "reward_model": "reward", judge: "reward", "fine-tuning": "ppo", sft: "ppo", ppo: "ppo", gate: "gate", publish: "gate" };

/** One picture of the loop from the loop's state, the adapters, and the running experiment. */
export function picture(loop, adapters, experiments) {
  const running = experiments.find((one) => one.status === "running") ?? null;
  const canary = [...adapters].reverse().find((one) => one.state === "canary") ?? null;
  const candidate = [...adapters].reverse().find((one) => one.state === "candidate") ?? null;
  const engines = loop.engines ?? [];
  const stage = loop.step ? STAGE_OF[loop.step] ?? "ppo" : canary || candidate ? "canary" : null;
  return {
    alias: loop.alias, mode: loop.mode ?? "auto", live: loop.live ?? null,
    waiting: loop.waiting_votes ?? loop.waiting?.votes ?? 0,
    total: loop.votes_total ?? 0,
    spooled: loop.spooled_events ?? 0,
    refused: loop.refused_events ?? 0,
    step: loop.step ?? null, progress: loop.progress ?? null, eta: loop.eta_seconds ?? null,
    figures: loop.step ? loop.figures ?? {} : {},
    run: loop.step === "ppo" ? seen(loop) : [],
    enough: loop.round_min_votes ?? null, retryAt: loop.retry_at ?? null,
    stage, passed: stage === null ? [] : STAGES.map(([name]) => name).slice(2, STAGES.findIndex(([name]) => name === stage)),
    asked: Boolean(loop.train_requested),
    begun: Boolean(loop.starts),
    ending: Boolean(loop.starts) && (loop.cancel_requested ?? 0) > (loop.round_started ?? 0),
    batch: loop.last_batch ?? null,
    reward: loop.last_reward_model ?? null,
    last: loop.last_round ?? null,
    rounds: loop.history ?? [],
    gated: loop.gate_canaries ?? null, looked: loop.canaries ?? null, incidents: loop.canary_incidents ?? [],
    freshness: loop.freshness_seconds ?? loop.metrics?.freshness_seconds ?? null,
    workers: loop.workers ? Object.entries(loop.workers).map(([task, beat]) => ({ task, ok: beat?.last_success ?? 0, failed: beat?.last_failure ?? 0, why: beat?.why ?? "" })).sort((a, b) => a.task.localeCompare(b.task)) : null,
    engines, up: engines.filter((one) => one.up).length,
    inFlight: engines.reduce((sum, one) => sum + (one.in_flight ?? 0), 0),
    canary, candidate, running,
    share: canary && running ? running.arms.find((arm) => arm.adapter === canary.id)?.share ?? null : null,
    adapters: [...adapters].reverse(),
  };
}

const steps = { begun: null, seen: [] }; // of the PPO run that is watched

/** The figures of the running PPO's steps: as the workers keep them, or as this page has seen them, whichever is more. */
function seen({ step_started: begun, figures, run, last_batch: batch }) {
  const kept = run && run.batch === batch?.id ? run.curve ?? [] : [];
  if (steps.begun !== begun) Object.assign(steps, { begun, seen: [] });
  if (figures?.samples > (steps.seen.at(-1)?.samples ?? 0)) steps.seen.push(figures);
  return kept.length > steps.seen.length ? kept : steps.seen;
}

/** What stands under a stage's name. */
export function saying(stage, now) {
  const gate = now.adapters.find((one) => one.gate)?.gate;
  switch (stage) {
    case "chat": return now.inFlight ? `${now.inFlight} in flight` : `${now.up} of ${counted(now.engines.length, "engine")} up`;
    case "votes": return `${now.waiting} waiting`;
    case "batch": return now.batch ? `${now.batch.votes ?? "?"} votes` : "none yet";
    case "reward": return now.reward?.accuracy === undefined ? "none yet" : `${percent(now.reward.accuracy)} right`;
    case "ppo": return now.stage === "ppo" ? percent(now.progress) : klOf(now);
    case "gate": return gate ? (gate.passed ? "last one passed" : "last one failed") : "none yet";
    case "canary": return now.share !== null ? `${percent(now.share)} of users` : now.candidate ? "getting ready" : "none";
    default: return now.live ? short(now.live) : "base";
  }
}

function klOf(now) {
  const run = now.adapters.find((one) => one.training?.ppo)?.training.ppo;
  return run ? `${run.samples} samples` : "none yet";
}

/** ``1 vote``, ``2 votes``. */
export const counted = (count, what) => `${count} ${what}${count === 1 ? "" : "s"}`;

export const percent = (share, digits = 0) => (typeof share === "number" ? `${(100 * share).toFixed(digits)} %` : "–");

/** ``a-000012-0123456789ab`` → ``a-000012``: enough for people. */
export const short = (id) => (id ? id.split("-").slice(0, 2).join("-") : "base");

/** Seconds in the words people use. */
export function duration(seconds) {
  if (typeof seconds !== "number" || !Number.isFinite(seconds)) return "–";
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${Math.floor(whole / 86400)} d`;
}

/** How long ago a Unix time was. */
export function ago(time) {
  if (!time) return "–";
  const past = Math.max(0, Date.now() / 1000 - time);
  if (past < 60) return "just now";
  return past < 3600 ? `${Math.floor(past / 60)} min ago` : past < 86400 ? `${Math.floor(past / 3600)} h ago` : `${Math.floor(past / 86400)} d ago`;
}

/** The time of day of a Unix time, with the day when it was another. */
export function clock(time) {
  const then = new Date(1000 * time);
  const day = then.toDateString() === new Date().toDateString() ? {} : { day: "numeric", month: "short" };
  return then.toLocaleString([], { ...day, hour: "2-digit", minute: "2-digit" });
}

/** A figure with as many digits as it deserves. */
export function figure(value) {
  if (typeof value !== "number") return String(value ?? "–");
  if (Number.isInteger(value)) return String(value);
  return Math.abs(value) >= 100 ? value.toFixed(0) : String(Number(value.toPrecision(3)));
}
