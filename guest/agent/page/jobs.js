// Jobs on the guest's own page: a list, a command to run, and a log that follows. Needs page.js.
"use strict";

const OVER = new Set(["succeeded", "failed", "cancelled", "interrupted"]);
const WHY = {
  exit_code: (job) => `exit code ${job.exit_code}`,
  signal: (job) => `signal ${job.signal}`,
  out_of_memory: () => "out of memory",
  time_limit: () => "ran too long",
  not_started: () => "could not be started",
  broken: () => "broke off",
  machine_restarted: () => "the machine was restarted",
  agent_restarted: () => "the agent was restarted",
  lost: () => "nobody knows how it ended",
  no_longer_a_member: () => "its member has left",
};
const LOG_TAIL = 128 * 1024;
const LOG_SHOWN = 256 * 1024;
let shownJobs = [];
let moreJobs = "";
let looking = 0;
let following = "";

const inState = (job) => {
  if (job.reason) return `${job.state}: ${WHY[job.reason]?.(job) || job.reason}`;
  return job.cancelled_by && !OVER.has(job.state) ? "being cancelled" : job.state;
};
const theirs = (job) => me.role === "owner" || me.fingerprint === job.by.fingerprint;

async function openJobs(after = "") {
  const found = await call("GET", after ? at("/v1/jobs", { after }) : "/v1/jobs");
  shownJobs = after ? [...shownJobs, ...found.jobs] : found.jobs;
  moreJobs = found.next || "";
  const body = $("jobs").tBodies[0];
  // Whoever stands on a button with the keyboard stays there: lines that are the same are left alone.
  if (!after) while (body.rows.length > shownJobs.length) body.deleteRow(-1);
  shownJobs.forEach((job, index) => showJob(body.rows[index] || body.insertRow(), job));
  $("jobs").hidden = shownJobs.length === 0;
  $("no-jobs").hidden = shownJobs.length > 0;
  $("more-jobs").hidden = found.complete;
  const shown = shownJobs.find((job) => job.id === following);
  if (shown) $("log-state").textContent = inState(shown);
  lookAgain();
}

function showJob(row, job) {
  const state = inState(job);
  if (row.dataset.shown === `${job.id} ${state}`) return;
  row.dataset.shown = `${job.id} ${state}`;
  row.replaceChildren();
  cell(row, state, `state ${job.state}`);
  cell(row, job.title, "title");
  cell(row, job.by.name);
  cell(row, new Date(job.submitted_at * 1000).toLocaleString([], { dateStyle: "short", timeStyle: "short" }), "asked");
  cell(row, "", "deeds");
  const deeds = document.createElement("div");
  deeds.className = "buttons";
  deeds.append(button("Log", () => openLog(job)));
  if (theirs(job) && OVER.has(job.state)) deeds.append(button("Forget", () => forgetJob(job)));
  if (theirs(job) && !OVER.has(job.state) && !job.cancelled_by) deeds.append(button("Cancel", () => cancelJob(job)));
  row.cells[4].append(deeds);
}

async function cancelJob(job) {
  await call("POST", "/v1/jobs/cancel", { id: job.id });
  await openJobs();
}

async function forgetJob(job) {
  if (!confirm("Forget this job and its log?")) return;
  await call("DELETE", at("/v1/jobs/item", { id: job.id }));
  if (following === job.id) closeLog();
  await openJobs();
}

// While something is under way, and somebody looks: a page that nobody sees keeps no session awake.
function lookAgain() {
  clearTimeout(looking);
  if (!me || document.hidden || shownJobs.every((job) => OVER.has(job.state))) return;
  looking = setTimeout(() => quietly(() => openJobs()), 3000);
}

async function openLog(job) {
  const begun = await call("GET", at("/v1/jobs/log", { id: job.id, offset: 1e12 }));
  const offset = Math.max(0, begun.size - LOG_TAIL);
  following = job.id;
  $("log-title").textContent = job.title;
  $("log-state").textContent = inState(job);
  $("log").textContent = "";
  $("log-part").hidden = offset === 0;
  $("log-cut").hidden = !begun.cut;
  $("log-view").hidden = false;
  $("log-view").scrollIntoView({ block: "nearest" });
  quietly(() => follow(job.id, offset));
}

function closeLog() {
  following = "";
  $("log-view").hidden = true;
}

async function follow(id, offset) {
  const decoder = new TextDecoder();
  const view = $("log");
  let end = false;
  while (!end && me && following === id) {
    if (document.hidden) {
      await new Promise((resolve) => setTimeout(resolve, 1000));
      continue;
    }
    const piece = await call("GET", at("/v1/jobs/log", { id, offset, wait: 10 }));
    if (following !== id) return;
    const bytes = Uint8Array.from(atob(piece.data), (character) => character.charCodeAt(0));
    const atEnd = view.scrollTop + view.clientHeight >= view.scrollHeight - 8;
    view.append(decoder.decode(bytes, { stream: !piece.end }));
    if (view.textContent.length > LOG_SHOWN) {
      view.textContent = view.textContent.slice(-LOG_TAIL);
      $("log-part").hidden = false;
    }
    if (atEnd) view.scrollTop = view.scrollHeight;
    $("log-cut").hidden = !piece.cut;
    ({ next: offset, end } = piece);
    if (bytes.length === 0 && !end) await new Promise((resolve) => setTimeout(resolve, 300));
  }
  if (following !== id) return;
  if (view.textContent === "") view.textContent = "(no output)";
  await openJobs();
}

document.addEventListener("signed-in", () => quietly(() => openJobs()));
document.addEventListener("signed-out", () => {
  clearTimeout(looking);
  closeLog();
});
document.addEventListener("visibilitychange", lookAgain);
document.addEventListener("DOMContentLoaded", () => {
  $("run").addEventListener("submit", (event) => {
    event.preventDefault();
    act($("run-button"), async () => {
      const text = $("command").value;
      if (!text.trim()) return;
      const job = await call("POST", "/v1/jobs", { kind: "command", argv: ["sh", "-c", text], id: crypto.randomUUID() });
      $("command").value = "";
      await openJobs();
      await openLog(job);
    });
  });
  $("more-jobs").addEventListener("click", () => act($("more-jobs"), () => openJobs(moreJobs)));
  $("close-log").addEventListener("click", closeLog);
});
