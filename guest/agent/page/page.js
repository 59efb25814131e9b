// The guest's own page: signs in with a passkey over the guest's nonce, and shows what the guest answers.
// Whatever comes from the guest is put in as text, never as markup.
"use strict";

const REASONS = {
  not_a_member: "This key is not a member's. Ask an owner to add it, or choose another passkey.",
  bad_signature: "This key is not a member's. Ask an owner to add it, or choose another passkey.",
  no_keyring: "No member's key is known here yet. An owner sets up the keyring at the portal first.",
  nonce_unknown: "That took too long. Try again.",
  session_required: "Your session has ended. Sign in again.",
  suspended: "Access to this machine is closed. An owner or staff can reopen it at the portal.",
  route_refused: "The portal does not let you through: access is closed, the machine stopped, or you left.",
  route_required: "Your way here has ended. Go back to the portal and open the machine again.",
  machine_unreachable: "The machine does not answer. See its page at the portal.",
  too_many_requests: "Too many requests. Wait a few seconds, then try again.",
};
let me = null;
let stay = 0; // Counts stays: a refusal that answers a request of an earlier one says nothing about this one.
const $ = (id) => document.getElementById(id);

class Refused extends Error {
  constructor(code, message) {
    super(REASONS[code] || message || "The machine refused. Try again.");
    this.code = code;
  }
}

async function call(method, path, body) {
  let response;
  try {
    response = await fetch(path, {
      method,
      credentials: "same-origin",
      headers: body === undefined ? {} : { "Content-Type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: AbortSignal.timeout(20000),
    });
  } catch {
    throw new Refused("machine_unreachable");
  }
  const text = await response.text();
  let answer = {};
  try {
    answer = text ? JSON.parse(text) : {};
  } catch {
    throw new Refused("machine_unreachable");
  }
  if (!response.ok) throw new Refused(answer.error, answer.message);
  return answer;
}

// As protocol/canonical.py: keys sorted by code point, no spaces, NFC, integers only.
function canonical(value) {
  if (typeof value === "string") return JSON.stringify(value.normalize("NFC"));
  if (value === null || typeof value === "boolean" || Number.isSafeInteger(value)) return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (typeof value !== "object") throw new TypeError("no canonical form");
  const names = Object.keys(value).map((name) => [name.normalize("NFC"), name]);
  names.sort(([one], [other]) => byCodePoint(one, other));
  return `{${names.map(([shown, name]) => `${JSON.stringify(shown)}:${canonical(value[name])}`).join(",")}}`;
}

function byCodePoint(one, other) {
  const left = [...one].map((c) => c.codePointAt(0));
  const right = [...other].map((c) => c.codePointAt(0));
  for (let i = 0; i < Math.min(left.length, right.length); i++) if (left[i] !== right[i]) return left[i] - right[i];
  return left.length - right.length;
}

const digest = (purpose, document) =>
  crypto.subtle.digest("SHA-256", new TextEncoder().encode(`${purpose}\0${canonical(document)}`));

const base64url = (buffer) =>
  btoa(String.fromCharCode(...new Uint8Array(buffer))).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");

async function signIn() {
  const challenge = await call("POST", "/v1/sessions/challenge");
  const asked = { nonce: challenge.nonce, runtime_id: challenge.runtime_id };
  let credential;
  try {
    credential = await navigator.credentials.get({
      publicKey: {
        challenge: await digest("member session v1", asked),
        rpId: document.querySelector("meta[name=rp-id]").content,
        userVerification: "required",
        timeout: 100000,
      },
    });
  } catch {
    throw new Refused("", "No passkey was used. Try again, and confirm with your device.");
  }
  const given = credential.response;
  await call("POST", "/v1/sessions", {
    signature: {
      kind: "passkey",
      nonce: challenge.nonce,
      client_data: base64url(given.clientDataJSON),
      authenticator_data: base64url(given.authenticatorData),
      signature: base64url(given.signature),
    },
  });
}

function cell(row, text, name) {
  const made = row.insertCell();
  made.textContent = text;
  if (name) made.className = name;
}

function fill(table, rows) {
  const body = $(table).tBodies[0];
  body.replaceChildren();
  for (const cells of rows) {
    const row = body.insertRow();
    for (const [text, name] of cells) cell(row, text, name);
  }
}

const lasting = (seconds) => {
  const minutes = Math.max(1, Math.round(seconds / 60));
  return minutes < 90 ? `${minutes} min` : `${Math.round(minutes / 60)} h`;
};
const pieces = (fingerprint) => fingerprint.match(/.{1,8}/g).join(" ");

// The workspace: one folder at a time.

const UPLOAD_LIMIT = 64 * 1024 * 1024;
let folder = "";
let next = "";
const below = (name) => (folder ? `${folder}/${name}` : name);
const at = (route, query) => `${route}?${new URLSearchParams(query)}`;

async function openFolder(path, after = "") {
  const found = await call("GET", at("/v1/workspace/list", after ? { path, after } : { path }));
  folder = path;
  next = found.next || "";
  const body = $("files").tBodies[0];
  if (!after) body.replaceChildren();
  for (const entry of found.entries) addEntry(body.insertRow(), entry);
  $("where").textContent = path ? `/ ${path.replaceAll("/", " / ")}` : "";
  $("up").hidden = !path;
  $("archive").href = at("/v1/workspace/archive", { path });
  $("files").hidden = body.rows.length === 0;
  $("empty").hidden = body.rows.length > 0;
  $("more").hidden = found.complete;
}

function addEntry(row, entry) {
  const path = below(entry.name);
  cell(row, "");
  if (entry.kind === "file") {
    const link = document.createElement("a");
    link.href = at("/v1/workspace/files", { path });
    link.download = entry.name;
    link.textContent = entry.name;
    row.cells[0].append(link);
  } else if (entry.kind === "folder") {
    row.cells[0].append(button(entry.name, () => openFolder(path)));
  } else {
    row.cells[0].textContent = entry.name;
  }
  cell(row, entry.kind);
  cell(row, entry.kind === "file" ? String(entry.size) : "", "number");
  cell(row, "");
  row.cells[3].append(button("Delete", async () => {
    const whole = entry.kind === "folder" ? " and everything in it" : "";
    if (!confirm(`Delete ${entry.name}${whole}? This cannot be undone.`)) return;
    let done;
    do done = await call("DELETE", at("/v1/workspace/files", { path, recursive: "1" })); while (!done.complete);
    await openFolder(folder);
  }));
}

function button(text, deed) {
  const made = document.createElement("button");
  made.textContent = text;
  made.addEventListener("click", () => act(made, deed));
  return made;
}

async function upload(file) {
  if (file.size > UPLOAD_LIMIT) {
    throw new Refused("", "This page uploads files of up to 64 MiB. Use the command line: workspace put.");
  }
  const body = await file.arrayBuffer();
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", body));
  const stated = [...hash].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  const response = await fetch(at("/v1/workspace/files", { path: below(file.name) }), {
    method: "PUT",
    credentials: "same-origin",
    headers: { "X-Content-SHA256": stated },
    body,
  }).catch(() => { throw new Refused("machine_unreachable"); });
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Refused(answer.error, answer.message);
  await openFolder(folder);
  say(`${file.name} is uploaded.`);
}

function wireWorkspace() {
  $("up").addEventListener("click", () => act($("up"), () => openFolder(folder.split("/").slice(0, -1).join("/"))));
  $("more").addEventListener("click", () => act($("more"), () => openFolder(folder, next)));
  $("make-folder").addEventListener("click", () => act($("make-folder"), async () => {
    const name = prompt("Name of the new folder");
    if (!name) return;
    await call("POST", "/v1/workspace/folders", { path: below(name) });
    await openFolder(folder);
  }));
  $("upload").addEventListener("click", () => $("chosen").click());
  $("chosen").addEventListener("change", () => act($("upload"), async () => {
    const [file] = $("chosen").files;
    $("chosen").value = "";
    const there = file && [...$("files").tBodies[0].rows].some((row) => row.cells[0].textContent === file.name);
    if (!file || (there && !confirm(`Replace ${file.name}?`))) return;
    await upload(file);
  }));
}

async function show() {
  const [session, members, outside] = await Promise.all([
    call("GET", "/v1/session"), call("GET", "/v1/members"), call("GET", "/v1/outside"), openFolder(folder),
  ]);
  me = session;
  $("who").textContent = session.name;
  $("role").textContent = session.role === "owner" ? "Owner" : "Member";
  $("left").textContent = lasting(session.seconds_left);
  $("end-others").hidden = session.role !== "owner";
  fill("members", members.keyring.members.map((m) => [
    [m.name], [m.role], [m.kind === "passkey" ? "passkey" : "device key"], [pieces(m.fingerprint), "fingerprint"],
  ]));
  $("way-out").hidden = !outside.proxy;
  $("no-way-out").hidden = Boolean(outside.proxy);
  $("recovery").hidden = !members.recovery;
  if (members.recovery) {
    $("due").textContent = new Date(members.recovery.due * 1000).toUTCString();
    $("object").hidden = session.role !== "owner";
    $("ask-owner").hidden = session.role === "owner";
  }
  $("door").hidden = true;
  $("inside").hidden = false;
  document.dispatchEvent(new Event("signed-in"));
}

function say(text, bad) {
  $("message").textContent = text;
  $("message").classList.toggle("bad", Boolean(bad));
  $("message").hidden = !text;
}

function knock() {
  me = null;
  stay += 1;
  document.dispatchEvent(new Event("signed-out"));
  $("inside").hidden = true;
  $("door").hidden = false;
}

function refusedHere(error) {
  if (["session_required", "suspended", "route_required", "route_refused"].includes(error.code)) knock();
  say(error instanceof Refused ? error.message : "Something went wrong. Load the page again.", true);
}

async function act(button, deed) {
  const begun = stay;
  button.disabled = true;
  say("");
  try {
    await deed();
  } catch (error) {
    if (begun === stay) refusedHere(error);
  } finally {
    button.disabled = false;
  }
}

document.addEventListener("DOMContentLoaded", async () => {
  $("host").textContent = location.host;
  wireWorkspace();
  $("sign-in").addEventListener("click", () => act($("sign-in"), async () => { await signIn(); await show(); }));
  $("sign-out").addEventListener("click", () => {
    stay += 1;
    act($("sign-out"), async () => {
      await call("DELETE", "/v1/session");
      knock();
      say("Signed out.");
    });
  });
  $("object").addEventListener("click", () => act($("object"), async () => {
    await call("POST", "/v1/recovery/object");
    await show();
    say("The recovery is stopped.");
  }));
  $("end-others").addEventListener("click", () => act($("end-others"), async () => {
    const { ended } = await call("POST", "/v1/sessions/end");
    say(ended === 1 ? "One other session was ended." : `${ended} other sessions were ended.`);
  }));
  const { signed_in: signedIn } = await call("GET", "/v1/door").catch(() => ({ signed_in: false }));
  if (signedIn) await act($("sign-in"), show);
  else knock();
});
