// Signing with a passkey, for every page that asks for it.
//
// <form method="post" action="…" data-sign> signs in two steps, both to the form's own address:
//   1. its fields are posted; the portal answers {document, challenge, rp_id, credentials: [{id, fingerprint}]};
//   2. the assertion is posted as the field "signature" (JSON); the portal answers {next}, the page to show.
// A form that needs no signature is answered {next} at once, and gets its refusals in the same way.
// What was signed stays at the portal between the two: a document from here would not be believed.
// A refusal is {detail, fields: {name: words}}. It stands in the form's [role=alert], and beside each field in
// [data-error-for=name]; nothing that was typed is lost.
// Buttons that mean something only with a script are <button data-ready disabled> until it is here: a click that
// comes before would be lost, or would send the form as it is.

export class Refusal extends Error {} // its message is for people

export const hex = (bytes) =>
  Array.from(new Uint8Array(bytes), (byte) => byte.toString(16).padStart(2, "0")).join("");
export const encode = (bytes) => btoa(String.fromCharCode(...new Uint8Array(bytes)))
  .replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
export const decode = (text) => Uint8Array.from(
  atob(text.replaceAll("-", "+").replaceAll("_", "/")), (letter) => letter.charCodeAt(0));

const SENTENCES = {
  NotAllowedError: "Nothing was signed: you cancelled, or this device holds none of the passkeys that may sign.",
  InvalidStateError: "This device has a passkey of yours already.",
  SecurityError: "Passkeys work only on the portal's own address.",
};

// What to tell people about anything that was thrown.
export const words = (error) => error instanceof Refusal
  ? error.message
  : SENTENCES[error?.name] ?? "This browser could not do it. Try another one.";

// A passkey's signature as protocol/persons.py takes it. credentials: [{id, fingerprint}], ids in base64url.
export async function assertion(challenge, rpId, credentials) {
  if (credentials.length === 0) throw new Refusal("No passkey of yours may sign this.");
  const given = await navigator.credentials.get({
    publicKey: {
      challenge,
      rpId,
      allowCredentials: credentials.map(({ id }) => ({ type: "public-key", id: decode(id) })),
      userVerification: "required",
    },
  });
  const used = credentials.find(({ id }) => id === encode(given.rawId));
  return {
    kind: "passkey",
    by: used.fingerprint,
    client_data: encode(given.response.clientDataJSON),
    authenticator_data: encode(given.response.authenticatorData),
    signature: encode(given.response.signature),
  };
}

// A new passkey from the portal's options (creation_options in portal/passkeys.py), as JSON.
export async function newPasskey(options) {
  const publicKey = {
    ...options,
    challenge: decode(options.challenge),
    user: { ...options.user, id: decode(options.user.id) },
    excludeCredentials: (options.excludeCredentials ?? []).map((known) => ({ ...known, id: decode(known.id) })),
  };
  const made = await navigator.credentials.create({ publicKey });
  return {
    id: made.id,
    rawId: encode(made.rawId),
    type: made.type,
    response: {
      clientDataJSON: encode(made.response.clientDataJSON),
      attestationObject: encode(made.response.attestationObject),
    },
  };
}

// Post fields to one of our addresses; returns the answer. A refusal keeps its words by field in `fields`.
export async function post(url, fields) {
  let answer;
  try {
    answer = await fetch(url, { method: "POST", headers: { Accept: "application/json" }, body: fields });
  } catch {
    throw new Refusal("The portal does not answer. Nothing was changed. Try again.");
  }
  const told = await answer.json().catch(() => null);
  if (answer.ok && told && !answer.redirected) return told;
  const refusal = new Refusal(told?.detail ?? "The portal failed. Reload the page and try again.");
  throw Object.assign(refusal, { fields: told?.fields ?? {} });
}

// Both steps; returns the address to go to.
export async function signForm(form, submitter) {
  const fields = new FormData(form, submitter);
  const url = submitter?.getAttribute("formaction") ?? form.getAttribute("action");
  const asked = await post(url, fields);
  if (asked.next) return asked.next;
  const signature = await assertion(decode(asked.challenge), asked.rp_id, asked.credentials);
  fields.set("signature", JSON.stringify(signature));
  return (await post(url, fields)).next;
}

function show(form, error) {
  const fields = error.fields ?? {};
  for (const place of form.querySelectorAll("[data-error-for]")) {
    const said = fields[place.dataset.errorFor] ?? "";
    place.textContent = said;
    place.hidden = !said;
    const field = form.elements[place.dataset.errorFor];
    for (const one of field instanceof RadioNodeList ? field : [field]) {
      one?.setAttribute("aria-invalid", said ? "true" : "false");
    }
  }
  const trouble = form.querySelector("[role=alert]") ?? document.getElementById("trouble");
  trouble.textContent = words(error);
  trouble.hidden = false;
  const first = form.querySelector("[aria-invalid=true]");
  if (first) first.focus();
  else trouble.scrollIntoView({ block: "nearest" });
}

let busy = false;
document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (!form.matches("form[data-sign]")) return;
  event.preventDefault();
  if (busy) return;
  busy = true;
  const pressed = event.submitter;
  if (pressed) pressed.disabled = true;
  for (const alert of form.querySelectorAll("[role=alert]")) alert.hidden = true;
  try {
    location.assign(await signForm(form, pressed));
  } catch (error) {
    show(form, error);
  } finally {
    busy = false;
    if (pressed) pressed.disabled = false;
  }
});

for (const button of document.querySelectorAll("button[data-ready]")) button.disabled = false;
