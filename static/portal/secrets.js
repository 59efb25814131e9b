// Seals a secret to the machine's key before anything leaves this page. What is sent opens in the machine only.
import { blake2b } from "../vendor/noble-hashes/blake2.js";

const page = document.getElementById("secrets");
const trouble = document.getElementById("trouble");
const news = document.getElementById("news");
const save = document.getElementById("save");

class Refusal extends Error {} // its message is for people

// --- bytes

const encode = (bytes) => btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
const decode = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

// libsodium's sealed box: a key pair for this one message, and a nonce that follows from both public keys.
function seal(message, publicKey) {
  const pair = nacl.box.keyPair();
  const nonce = blake2b(new Uint8Array([...pair.publicKey, ...publicKey]), { dkLen: nacl.box.nonceLength });
  const box = nacl.box(message, nonce, publicKey, pair.secretKey);
  pair.secretKey.fill(0);
  return new Uint8Array([...pair.publicKey, ...box]);
}

// --- the portal

async function api(method, url, body) {
  const token = page.querySelector("[name=csrfmiddlewaretoken]").value;
  const headers = { "X-CSRFToken": token };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(url, { method, headers, body: JSON.stringify(body) });
  } catch {
    throw new Refusal("The portal does not answer. Try again.");
  }
  const told = await answer.json().catch(() => null);
  if (answer.ok) return told;
  throw new Refusal(told?.detail ?? (told ? Object.values(told).flat().join(" ") : "The portal failed. Try again."));
}

const refresh = () => htmx.trigger("#secrets-live", "refresh");

// --- what the buttons do; each returns what to tell

const DEEDS = {
  async save() {
    const name = document.getElementById("secret-name");
    const value = document.getElementById("secret-value");
    const key = document.getElementById("sealing-key");
    if (!key) throw new Refusal("The machine has stated no key yet. Wait until it is ready.");
    // A pasted token often brings the end of its line along.
    const bytes = new TextEncoder().encode(value.value.replace(/[\r\n]+$/, ""));
    const limit = Number(save.dataset.max);
    if (bytes.length === 0 || bytes.length > limit) {
      throw new Refusal(`Give a value of 1 to ${limit} bytes.`);
    }
    const sealed = encode(seal(bytes, decode(key.dataset.key)));
    bytes.fill(0);
    const kept = await api("PUT", `${page.dataset.api}${encodeURIComponent(name.value)}/`, {
      encrypted_value: sealed,
      key_id: key.dataset.keyId,
      connector: "github",
    });
    // A new field, not only an empty one: the browser keeps what was typed for undo. Emptied first, for a
    // clone takes what was typed along.
    value.value = "";
    value.replaceWith(value.cloneNode(false));
    name.value = "";
    return `${kept.name} is saved as version ${kept.version}. The machine gets it within seconds of being ready.`;
  },

  async revoke(button) {
    const { name } = button.dataset;
    if (!confirm(`Revoke ${name}? The machine forgets it, and the gateway restarts. Nobody can bring it back.`)) return "";
    const kept = await api("DELETE", `${page.dataset.api}${encodeURIComponent(name)}/`);
    return kept.state === "revoked" ? `${name} is revoked.` : `${name} is being revoked. The machine confirms it here.`;
  },

  async rotate(button) {
    if (!confirm("Make a new sealing key? What the machine holds is sealed to it anew, inside the machine.")) return "";
    await api("POST", `/api/v1/runtimes/${button.dataset.runtime}/operations/`, { kind: "reseal" });
    return "The machine makes a new key. This page shows it when it is there.";
  },
};

let busy = false;
async function run(name, element) {
  if (busy) return;
  busy = true;
  trouble.hidden = news.hidden = true;
  try {
    const told = await DEEDS[name](element);
    news.textContent = told;
    news.hidden = told === "";
  } catch (error) {
    // Only sentences of ours: another error's could repeat what was typed.
    trouble.textContent = error instanceof Refusal ? error.message : "This browser could not do it. Try another one.";
    trouble.hidden = false;
    trouble.scrollIntoView({ block: "nearest" });
  } finally {
    busy = false;
    refresh();
  }
}

page.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-do]");
  if (button) run(button.dataset.do, button);
});
save?.addEventListener("submit", (event) => {
  event.preventDefault();
  run("save", save);
});
// Only now: a form that is sent before this script has come would lose what was typed.
if (save) save.querySelector("button").disabled = false;
// A page that the browser brings back holds nothing that was typed.
addEventListener("pagehide", () => save?.reset());
