// Signs keyrings and consents with a passkey. What is signed is made here, from what the API tells, and checked
// again by the portal and by the machine itself.
import { Refusal, assertion, hex, newPasskey, words } from "./sign.js";

const page = document.getElementById("members");
const trouble = document.getElementById("trouble");
const encoder = new TextEncoder();
const SEED_BYTES = 32;
let recovery = null; // public key in hex, while the first keyring is being made

const sha256 = (bytes) => crypto.subtle.digest("SHA-256", bytes);

// As protocol/canonical.py: keys sorted, no spaces, NFC. All keys of our documents are ASCII.
function canonical(value) {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (value !== null && typeof value === "object") {
    const members = Object.keys(value).sort().map((key) => `${JSON.stringify(key)}:${canonical(value[key])}`);
    return `{${members.join(",")}}`;
  }
  return JSON.stringify(typeof value === "string" ? value.normalize("NFC") : value);
}

// --- the portal

async function api(method, path, body) {
  const token = page.querySelector("[name=csrfmiddlewaretoken]").value;
  const headers = { "X-CSRFToken": token };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(page.dataset.api + path, { method, headers, body: JSON.stringify(body) });
  } catch {
    throw new Refusal("The portal does not answer. Nothing was changed. Try again.");
  }
  const told = answer.status === 204 ? null : await answer.json().catch(() => null);
  if (answer.ok) return told;
  throw new Refusal(told?.detail ?? (told ? Object.values(told).flat().join(" ") : "The portal failed. Try again."));
}

// --- signing

async function sign(purpose, build, candidates, rpId) {
  const passkeys = candidates.filter((key) => key.mine && key.kind === "passkey");
  if (passkeys.length === 0) throw new Refusal("No passkey of yours may sign this.");
  const challenge = await sha256(encoder.encode(`${purpose}\0${canonical(build)}`));
  const credentials = passkeys.map((key) => ({ id: key.credential_id, fingerprint: key.fingerprint }));
  return assertion(challenge, rpId, credentials);
}

const isOwner = (document) => (key) =>
  document.members.some((member) => member.role === "owner" && member.public_key === key.public_key);
const entry = (key) => ({
  kind: key.kind,
  public_key: key.public_key,
  role: key.role,
  name: Array.from(`${key.user}: ${key.name}`.normalize("NFC")).slice(0, 80).join("").trim(),
});

// As protocol/persons.py: SHA-256 over kind, NUL and key.
async function fingerprint(member) {
  const key = member.public_key.match(/../g).map((pair) => parseInt(pair, 16));
  return hex(await sha256(new Uint8Array([...encoder.encode(`${member.kind}\0`), ...key])));
}

async function changeKeyring(change) {
  const state = await api("GET", "keyring/");
  const current = state.current.document;
  const next = {
    ...current,
    version: current.version + 1,
    previous: hex(await sha256(encoder.encode(canonical(current)))),
    members: await change(current.members, state.registered),
  };
  const signature = await sign("keyring v1", next, state.registered.filter(isOwner(current)), state.rp_id);
  await api("POST", "keyring/", { document: next, signature });
}

function named(registered, fingerprint) {
  const key = registered.find((one) => one.fingerprint === fingerprint);
  if (!key) throw new Refusal("This key is gone. Reload the page.");
  return key;
}

// --- what the buttons do; each returns whether the page must show the news

const DEEDS = {
  async passkey(form) {
    const options = await api("POST", "keys/options/", {});
    const credential = await newPasskey(options);
    await api("POST", "keys/", { kind: "passkey", name: form.elements.name.value, credential });
    return true;
  },

  async device(form) {
    const { name, public_key } = form.elements;
    await api("POST", "keys/", { kind: "device", name: name.value, public_key: public_key.value });
    return true;
  },

  async forget(button) {
    if (!confirm(`Delete the key “${button.dataset.name}” here?`)) return false;
    await api("DELETE", `keys/${button.dataset.key}/`);
    return true;
  },

  async include(button) {
    await changeKeyring((members, registered) => [...members, entry(named(registered, button.dataset.key))]);
    return true;
  },

  async exclude(button) {
    if (!confirm(`Take “${button.dataset.name}” out of the keyring? Its sessions end.`)) return false;
    await changeKeyring(async (members) => {
      const fingerprints = await Promise.all(members.map(fingerprint));
      return members.filter((_, index) => fingerprints[index] !== button.dataset.key);
    });
    return true;
  },

  // Makes the recovery key in this browser. Its secret half is shown, and never sent.
  async prepare() {
    let pair;
    try {
      pair = await crypto.subtle.generateKey("Ed25519", true, ["sign", "verify"]);
    } catch {
      throw new Refusal("This browser is too old to make a recovery key. Update it, or use the command line.");
    }
    const secret = await crypto.subtle.exportKey("pkcs8", pair.privateKey);
    recovery = hex(await crypto.subtle.exportKey("raw", pair.publicKey));
    document.getElementById("seed").textContent = hex(secret.slice(-SEED_BYTES)).match(/.{8}/g).join(" ");
    document.getElementById("set-up").hidden = true;
    document.getElementById("recovery").hidden = false;
    return false;
  },

  async print() {
    print();
    return false;
  },

  async found() {
    const state = await api("GET", "keyring/");
    const own = state.registered.filter((key) => key.mine);
    const first = {
      version: 1,
      tenant_id: state.tenant_id,
      previous: null,
      members: own.map(entry),
      recovery: { kind: "device", public_key: recovery },
    };
    const signature = await sign("keyring v1", first, own, state.rp_id);
    await api("POST", "keyring/", { document: first, signature });
    recovery = null;
    return true;
  },

  async consent(button) {
    const state = await api("GET", "keyring/");
    const consents = {
      version: (state.consents?.version ?? 0) + 1,
      tenant_id: state.tenant_id,
      agents: button.dataset.agents === "true",
      always_on: button.dataset.alwaysOn === "true",
    };
    const owners = state.registered.filter(isOwner(state.current.document));
    const signature = await sign("consent v1", consents, owners, state.rp_id);
    await api("POST", "consents/", { document: consents, signature });
    return true;
  },
};

let busy = false;
async function run(name, element) {
  if (busy) return;
  busy = true;
  trouble.hidden = true;
  try {
    if (await DEEDS[name](element)) location.reload();
  } catch (error) {
    trouble.textContent = words(error);
    trouble.hidden = false;
    trouble.scrollIntoView({ block: "nearest" });
  } finally {
    busy = false;
  }
}

page.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-do]");
  if (button) run(button.dataset.do, button);
});
page.addEventListener("submit", (event) => {
  event.preventDefault();
  run(event.target.dataset.do, event.target);
});
document.getElementById("saved")?.addEventListener("change", (event) => {
  document.getElementById("finish").disabled = !event.target.checked;
});
// A seed that was shown and not used is lost with the page.
addEventListener("beforeunload", (event) => { if (recovery && !busy) event.preventDefault(); });
