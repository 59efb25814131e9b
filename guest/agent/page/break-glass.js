// The operator's page: what a ticket allows in this machine, until it ends. Follows common.js.

const SHOWN_BYTES = 256 * 1024;
const BEGUN = "break-glass"; // Whether this tab has begun a session: to ask without one would be noted as a refusal.
const LOOK_MS = 30000;
const SOON_SECONDS = 120;
const COMMAND_PATIENCE_MS = 110000;
const SCOPES = {
  status: "see the machine's status",
  "logs:read": "read logs, and members' commands with their output",
  "workspace:read": "read files",
  "workspace:write": "change files",
  exec: "run commands",
};
const KEPT_NOT = ["where", "viewer-text", "viewer-name", "log", "log-name", "output", "ran-command", "words", "status-text", "status"];
const ENDED = {
  ended: "It was ended: by you, by the tenant, by staff or by its time.",
  expired: "Its time is over.",
  no_grant: "This machine has no grant of this ticket.",
  suspended: "Access to this machine is closed.",
  closed: "The tenant's owner has closed this way in.",
  owner_missing: "The tenant's owner now wants to sign each ticket too.",
  wrong_set: "The approvers have changed since it was approved.",
  no_approvers: "No owner has named approvers here.",
  route_required: "The portal opens no way here: go back to the ticket and open it again.",
  route_refused: "The portal does not let you through any more.",
};
Object.assign(REASONS, {
  bad_signature: "Another passkey asked for this ticket. Use that one.",
  session_required: "Your session here has ended. Confirm with your passkey again.",
  clock_wrong: "The machine's clock is behind the truth, so it lets nobody in. Tell whoever runs its host.",
  wrong_path: "The ticket does not cover this path.",
  changed: "Somebody has changed this file since you opened it. Nothing is saved: copy your text, then open it again.",
  outside: "The path leads over a link. Break-glass follows none: ask for where it leads, if the ticket covers that.",
});
OUTSIDE.push(...Object.keys(ENDED));
let ticket = null;
let ends = 0;
let looking = 0;

const allows = (scope) => ticket.scopes.includes(scope);
const wholeWorkspace = () => ticket.paths.includes("");
const pill = (text, strong) => {
  const made = document.createElement("span");
  made.className = strong ? "pill strong" : "pill";
  made.textContent = text;
  return made;
};

const named = (text, deed) => {
  const made = button(text, deed);
  made.className = "name";
  return made;
};

async function begin() {
  const asked = await call("POST", "/v1/break-glass/challenge");
  const signature = await assertion("break-glass session v1", asked);
  await call("POST", "/v1/break-glass/sessions", { signature: { ...signature, nonce: asked.nonce } });
  sessionStorage.setItem(BEGUN, "1");
  await enter();
}

async function enter() {
  const found = await call("GET", "/v1/break-glass");
  const first = ticket === null;
  ticket = found;
  ends = performance.now() + found.seconds_left * 1000;
  if (first) {
    showTicket();
    $("door").hidden = $("over").hidden = true;
    $("inside").hidden = $("standing").hidden = false;
    if (allows("workspace:read")) quietly(wholeWorkspace() ? () => openFolder("") : openPaths);
    if (allows("logs:read")) quietly(() => openLogs());
  }
  tick();
  clearTimeout(looking);
  looking = setTimeout(look, LOOK_MS);
}

// Nobody who looks elsewhere asks: each request is on record.
function look() {
  if (ticket === null) return;
  if (document.hidden) looking = setTimeout(look, LOOK_MS);
  else quietly(enter);
}

function tick() {
  if (ticket === null) return;
  const left = Math.max(0, Math.ceil((ends - performance.now()) / 1000));
  const [hours, minutes, seconds] = [Math.floor(left / 3600), Math.floor(left / 60) % 60, left % 60];
  const two = (number) => String(number).padStart(2, "0");
  $("clock").textContent = `${hours ? `${hours}:` : ""}${two(minutes)}:${two(seconds)} left`;
  $("clock").classList.toggle("soon", left <= SOON_SECONDS);
  if (left === 0) finish("expired");
}

function showTicket() {
  $("kind").textContent = ticket.kind === "emergency" ? "Emergency" : "Break-glass";
  $("operator").textContent = ticket.operator;
  $("reason").textContent = ticket.reason;
  $("ticket-id").textContent = ticket.ticket;
  $("incident-name").hidden = $("incident").hidden = !ticket.incident;
  $("incident").textContent = ticket.incident;
  $("scopes").replaceChildren(...ticket.scopes.map((scope) =>
    pill(SCOPES[scope] || scope, ["workspace:write", "exec"].includes(scope))));
  $("paths-name").hidden = $("paths").hidden = ticket.paths.length === 0;
  $("paths").replaceChildren(...ticket.paths.map((path) => pill(seen(path) || "the whole workspace", path === "")));
  const page = `${document.querySelector("meta[name=portal]").content}/break-glass/${ticket.ticket}/`;
  $("back").href = $("ticket-page").href = page;
  for (const card of document.querySelectorAll("[data-scope]")) card.hidden = !allows(card.dataset.scope);
  $("read-only").hidden = allows("workspace:write");
}

// What was read goes with the right to read it.
function leave() {
  sessionStorage.removeItem(BEGUN);
  ticket = null;
  stay += 1;
  clearTimeout(looking);
  shownFile = shownLog = null;
  for (const name of KEPT_NOT) $(name).replaceChildren();
  for (const name of ["viewer-edited", "command"]) $(name).value = "";
  for (const name of ["href", "download"]) $("viewer-download").removeAttribute(name);
  for (const name of ["files", "logs"]) $(name).tBodies[0].replaceChildren();
  for (const name of ["viewer", "log-view", "ran", "inside", "standing", "door", "over", "status-all"]) $(name).hidden = true;
}

function finish(code) {
  leave();
  $("why").textContent = ENDED[code] || ENDED.ended;
  $("over").hidden = false;
  say("");
}

// Called by common.js where a request was refused because there is no session, or no access any more.
function knock(error) {
  if (error && ENDED[error.code]) {
    error.told = true;
    finish(error.code);
    return;
  }
  leave();
  $("door").hidden = false;
}

// Logs: the gateway's and the agent's newest lines, and jobs' output piece by piece.

let moreLogs = "";
let shownLog = null; // name, where to read on, and a decoder that keeps letters whole between pieces

async function openLogs(after = "") {
  const found = await call("GET", after ? at("/v1/break-glass/logs", { after }) : "/v1/break-glass/logs");
  moreLogs = found.next || "";
  const body = $("logs").tBodies[0];
  if (!after) body.replaceChildren();
  for (const log of found.logs) {
    const row = body.insertRow();
    cell(row, log.kind === "journal" ? `The ${log.name}'s own log` : log.title);
    cell(row, log.state || "newest lines");
    cell(row, log.at ? new Date(log.at * 1000).toLocaleString([], { dateStyle: "short", timeStyle: "short" }) : "");
    cell(row, log.size === undefined ? "" : log.size.toLocaleString(), "number");
    cell(row, "");
    row.cells[4].append(button("Read", () => openLog(log.name, row.cells[0].textContent)));
  }
  $("logs").hidden = body.rows.length === 0;
  $("no-logs").hidden = body.rows.length > 0;
  $("more-logs").hidden = found.complete;
}

async function openLog(name, title) {
  shownLog = { name, offset: 0, decoder: new TextDecoder() };
  $("log-name").textContent = title;
  $("log").textContent = "";
  $("log-view").hidden = false;
  await readOn();
  $("log-view").scrollIntoView({ block: "nearest" });
}

async function readOn() {
  const of = shownLog;
  const piece = await call("GET", at("/v1/break-glass/logs/read", { name: of.name, offset: of.offset }));
  if (shownLog !== of) return;
  $("log").append(of.decoder.decode(bytesOf(piece.data), { stream: !piece.end }));
  of.offset = piece.next;
  $("log-facts").textContent = `${piece.next.toLocaleString()} of ${piece.size.toLocaleString()} bytes`
    + (piece.cut && piece.end ? "; the rest of the output was dropped" : "");
  $("log-more").hidden = piece.end;
}

const bytesOf = (base64) => Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));

// Commands. The words are shown as the machine gets them, before it does.

function wordsOf(line) {
  const words = [];
  let word = null;
  let quote = "";
  for (let i = 0; i < line.length; i++) {
    const c = line[i];
    if (quote === "'" && c !== "'") word += c;
    else if (c === "\\" && (quote === "" || "\"\\".includes(line[i + 1]))) {
      if (i + 1 === line.length) return null;
      word = (word ?? "") + line[++i];
    } else if (quote !== "") {
      if (c === quote) quote = "";
      else word += c;
    } else if (c === "'" || c === "\"") {
      quote = c;
      word ??= "";
    } else if (/\s/.test(c)) {
      if (word !== null) words.push(word);
      word = null;
    } else word = (word ?? "") + c;
  }
  if (quote !== "") return null;
  return word === null ? words : [...words, word];
}

function showWords() {
  const words = wordsOf($("command").value);
  $("words").classList.toggle("wrong", words === null);
  if (words === null) $("words").textContent = "A quotation mark is not closed.";
  else $("words").replaceChildren(...words.map((word) => pill(word || "(empty)")));
  return words;
}

const HOW = {
  time_limit: "It ran too long and was ended",
  out_of_memory: "It ran out of memory",
  broken: "It broke off",
  lost: "Nobody knows how it ended",
};

async function run() {
  const argv = showWords();
  if (argv === null || argv.length === 0) return;
  const asked = { argv, cwd: $("cwd").value.trim(), seconds: Number($("seconds").value) };
  $("ran").hidden = true;
  const ran = await call("POST", "/v1/break-glass/exec", asked, COMMAND_PATIENCE_MS);
  const bytes = bytesOf(ran.output);
  $("ran-command").textContent = $("command").value.trim();
  $("ran-how").textContent = HOW[ran.reason] || (ran.signal ? `Ended by signal ${ran.signal}` : `Exit code ${ran.exit_code}`);
  $("ran-facts").textContent = ran.truncated ? "Only the first MiB of its output is here." : `${bytes.length.toLocaleString()} bytes of output`;
  $("output").textContent = new TextDecoder().decode(bytes);
  $("ran-hash").textContent = ran.sha256;
  $("ran").hidden = false;
  $("ran").scrollIntoView({ block: "nearest" });
}

// Status: the figures that one looks for first, and below them all that the machine states.

const mebibytes = (bytes) => `${Math.round(bytes / 1048576).toLocaleString()} MiB`;
const STATUS = {
  "Disk free": (told) => `${mebibytes(told.data_volume.free_bytes)} of ${mebibytes(told.data_volume.size_bytes)}`,
  "Memory available": (told) => `${mebibytes(told.memory.available_bytes)} of ${mebibytes(told.memory.total_bytes)}`,
  Gateway: (told) => told.gateway.state + (told.gateway.reason ? `: ${told.gateway.reason}` : ""),
  Jobs: (told) => `${told.jobs.running} running, ${told.jobs.waiting} waiting`,
  "Way out": (told) => told.proxy || "none",
  Clock: (told) => `${new Date(told.clock * 1000).toISOString()}${told.clock_right ? "" : ": wrong"}`,
  "Image and agent": (told) => `${told.image_version}, ${told.agent_version}`,
};

async function openStatus() {
  const told = await call("GET", "/v1/break-glass/status");
  $("status").replaceChildren(...Object.entries(STATUS).flatMap(([name, text]) => {
    const [term, said] = [document.createElement("dt"), document.createElement("dd")];
    term.textContent = name;
    said.textContent = text(told);
    return [term, said];
  }));
  $("status-text").textContent = JSON.stringify(told, null, 2);
  $("status").hidden = $("status-all").hidden = false;
}

// A request that was cut off says nothing of why. The next one does.
document.addEventListener("unreachable", () => {
  if (ticket === null) return;
  enter().catch((error) => { if (error.code !== "machine_unreachable") refusedHere(error); });
});
document.addEventListener("DOMContentLoaded", () => {
  $("host").textContent = location.host;
  wireFiles();
  const on = (name, deed) => $(name).addEventListener("click", () => act($(name), async () => deed()));
  on("begin", begin);
  on("refresh-logs", () => openLogs());
  on("more-logs", () => openLogs(moreLogs));
  on("log-more", readOn);
  on("log-close", () => { shownLog = null; $("log-view").hidden = true; });
  on("look", openStatus);
  on("done", async () => {
    if (!confirm("End this access now? It is over for good: for more you need a new ticket.")) return;
    await call("POST", "/v1/break-glass/end");
    finish("ended");
  });
  $("command").addEventListener("input", showWords);
  $("run").addEventListener("submit", (event) => {
    event.preventDefault();
    act($("run-button"), run);
  });
  setInterval(tick, 1000);
  // A session that lives is taken up again; without one, the passkey.
  if (sessionStorage.getItem(BEGUN) === null) knock();
  else quietly(enter);
});
