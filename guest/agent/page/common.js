// What both of the guest's pages need: to ask, to sign with a passkey, and to show answers as text, never as markup.
// Sent at the head of each page's own script, which says what ``knock()`` does when there is no session.
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
const OUTSIDE = ["session_required", "suspended", "route_required", "route_refused"];
let stay = 0; // Counts stays: a refusal that answers a request of an earlier one says nothing about this one.
const $ = (id) => document.getElementById(id);
const at = (route, query) => `${route}?${new URLSearchParams(query)}`;

// Names and words of others, with what would hide in them or turn them around made visible.
const seen = (text) => text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (hidden) => `\\u{${hidden.codePointAt(0).toString(16)}}`);

// ``told``: the page has said it in its own way.
class Refused extends Error {
  constructor(code, message) {
    super(REASONS[code] || message || "The machine refused. Try again.");
    this.code = code;
  }
}

// An answer to an earlier stay comes too late to be shown: it is refused here, without a word.
function checkStay(begun) {
  if (begun !== stay) throw new Refused("too_late");
}

async function call(method, path, body, patience = 20000) {
  const begun = stay;
  let response;
  try {
    response = await fetch(path, {
      method,
      credentials: "same-origin",
      headers: body === undefined ? {} : { "Content-Type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: AbortSignal.timeout(patience),
    });
  } catch {
    throw new Refused("machine_unreachable");
  }
  const text = await response.text().catch(() => { throw new Refused("machine_unreachable"); });
  checkStay(begun);
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

async function assertion(purpose, asked) {
  let credential;
  try {
    credential = await navigator.credentials.get({
      publicKey: {
        challenge: await digest(purpose, asked),
        rpId: document.querySelector("meta[name=rp-id]").content,
        userVerification: "required",
        timeout: 100000,
      },
    });
  } catch {
    throw new Refused("", "No passkey was used. Try again, and confirm with your device.");
  }
  const given = credential.response;
  return {
    kind: "passkey",
    client_data: base64url(given.clientDataJSON),
    authenticator_data: base64url(given.authenticatorData),
    signature: base64url(given.signature),
  };
}

const UPLOAD_LIMIT = 64 * 1024 * 1024;

// ``content``: a Blob. The guest keeps it only if it arrives as stated. ``instead``: the ETag of what it replaces.
async function put(url, content, instead) {
  if (content.size > UPLOAD_LIMIT) {
    throw new Refused("", "This page uploads files of up to 64 MiB. Members have the command line for more: workspace put.");
  }
  const body = await content.arrayBuffer();
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", body));
  const stated = [...hash].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  const response = await fetch(url, {
    method: "PUT",
    credentials: "same-origin",
    headers: instead ? { "X-Content-SHA256": stated, "If-Match": instead } : { "X-Content-SHA256": stated },
    body,
  }).catch(() => { throw new Refused("machine_unreachable"); });
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Refused(answer.error, answer.message);
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

function button(text, deed) {
  const made = document.createElement("button");
  made.textContent = text;
  made.addEventListener("click", () => act(made, deed));
  return made;
}

function say(text, bad) {
  $("message").textContent = text;
  $("message").classList.toggle("bad", Boolean(bad));
  $("message").hidden = !text;
}

function refusedHere(error) {
  if (OUTSIDE.includes(error.code)) {
    knock(error);
    if (error.told) return;
  }
  if (error.code === "machine_unreachable") document.dispatchEvent(new Event("unreachable"));
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

async function quietly(deed) {
  const begun = stay;
  try {
    await deed();
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    if (begun === stay) refusedHere(error);
  }
}
