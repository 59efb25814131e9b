// Makes protocol.json with Node's own crypto and no code of the project: `node tests/vectors/make.mjs`.
// Ed25519 signatures and HMACs are deterministic, so the same bytes come out each time.
import { createHash, createHmac, createPrivateKey, createPublicKey, sign } from "node:crypto";
import { writeFileSync } from "node:fs";

const PKCS8_ED25519 = Buffer.from("302e020100300506032b657004220420", "hex");
const seed = Buffer.from(Array.from({ length: 32 }, (_, i) => 200 - i));
const key = createPrivateKey({ key: Buffer.concat([PKCS8_ED25519, seed]), format: "der", type: "pkcs8" });
const raw = createPublicKey(key).export({ format: "der", type: "spki" }).subarray(-32);
const sha256 = (...parts) => parts.reduce((hash, part) => hash.update(part), createHash("sha256")).digest();
const b64u = (data) => Buffer.from(data).toString("base64url");

function canonical(value) {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (value !== null && typeof value === "object") {
    // Names in NFC first, then by code point as UTF-8 sorts; JavaScript alone would sort by UTF-16 unit.
    const members = Object.entries(value).map(([name, item]) => [name.normalize("NFC"), item]);
    members.sort(([a], [b]) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
    return `{${members.map(([name, item]) => `${JSON.stringify(name)}:${canonical(item)}`).join(",")}}`;
  }
  return JSON.stringify(typeof value === "string" ? value.normalize("NFC") : value);
}

const documents = [
  {},
  { b: 1, a: [true, false, null, -5, 9007199254740991] },
  { "e\u0301": "e\u0301", z: "\u2028 \" \\ \n", "\u{1F511}": "key", "\uFF5E": "wide" },
  { nonce: "00".repeat(32), runtime_id: "6a1c3f1e-0d1b-4a55-9c1f-2f6f6f0f9a01" },
];
const purposes = ["member session v1", "member request v1", "keyring v1", "consent v1", "portal sign-in v1",
  "approver set v1", "keyring recovery v1", "break-glass approval v1", "break-glass request v1",
  "break-glass rejection v1", "break-glass owner approval v1", "break-glass terms v1", "break-glass session v1", "break-glass naming v1"];

const claims = {
  iss: "urn:managed-host-portal:control-plane",
  aud: "6a1c3f1e-0d1b-4a55-9c1f-2f6f6f0f9a01",
  tenant_id: "0b9a4d8e-4f53-4b0e-8f0c-8d1d5a0b7c02",
  sub: "user:7",
  role: "owner",
  iat: 1800000000,
  nbf: 1800000000,
  exp: 1800000060,
  jti: "1f0c0a52-7d0a-4a3e-8d8e-000000000001",
  htm: "POST",
  htp: "/v1/sessions?x=1",
  bsh: sha256("{}").toString("hex"),
};
const signed = `${b64u(JSON.stringify({ typ: "rt+jwt", alg: "Ed25519" }))}.${b64u(JSON.stringify(claims))}`;

const secret = Buffer.alloc(32, 0x5a);
const fields = [Buffer.alloc(32, 1), Buffer.from("certificate")];
const length = (field) => { const out = Buffer.alloc(8); out.writeBigUInt64BE(BigInt(field.length)); return out; };
const message = Buffer.concat([
  Buffer.from("portal enrolment certificate v1\0"),
  ...fields.flatMap((field) => [length(field), field]),
]);

// A ticket, asked for and approved with Ed25519 passkeys: assertions, made here by hand.
const SPKI_ED25519 = Buffer.from("302a300506032b6570032100", "hex");
function passkey(fill) {
  const pkcs8 = Buffer.concat([PKCS8_ED25519, Buffer.alloc(32, fill)]);
  const secret = createPrivateKey({ key: pkcs8, format: "der", type: "pkcs8" });
  const spki = createPublicKey(secret).export({ format: "der", type: "spki" });
  return { secret, spki, fingerprint: sha256("passkey", "\0", spki).toString("hex") };
}
function assertion({ secret, fingerprint }, purpose, document) {
  const challenge = b64u(sha256(purpose, "\0", canonical(document)));
  const client = Buffer.from(JSON.stringify({ type: "webauthn.get", challenge, origin: "http://portal.localhost:8000" }));
  const data = Buffer.concat([sha256("portal.localhost"), Buffer.from([5]), Buffer.alloc(4)]);
  const signature = sign(null, Buffer.concat([data, sha256(client)]), secret);
  return { kind: "passkey", by: fingerprint, client_data: b64u(client), authenticator_data: b64u(data), signature: b64u(signature) };
}
const requester = passkey(7);
const approver = passkey(8);
const approvers = {
  version: 3,
  previous: "ab".repeat(32),
  threshold: 1,
  policy: { status: 1, "logs:read": 1, "workspace:read": 1, "workspace:write": 1, exec: 1, emergency: 1 },
  approvers: [{ kind: "passkey", public_key: approver.spki.toString("hex"), person: "user:1", name: "Zo\u00eb" }],
};
const approversHash = sha256(canonical(approvers)).toString("hex");
const ticket = {
  format: "break-glass ticket v1",
  ticket: "3f0c0a52-7d0a-4a3e-8d8e-000000000003",
  revision: 2,
  kind: "ordinary",
  tenant_id: "0b9a4d8e-4f53-4b0e-8f0c-8d1d5a0b7c02",
  runtime_id: "6a1c3f1e-0d1b-4a55-9c1f-2f6f6f0f9a01",
  requester: { person: "user:9", name: "Rae", key: requester.spki.toString("hex") },
  reason: "The nightly job \u201cr\u00e9sum\u00e9\u201d\nhas failed twice.",
  incident: "https://incidents.example/4711?a=b&c=d",
  scopes: ["workspace:read"],
  paths: ["logs", "r\u00e9sum\u00e9/\u{1F511}.txt"],
  seconds: 1800,
  asked_at: 1800000000,
  wait_until: 1800014400,
  approvers: { version: 3, hash: approversHash },
  nonce: "0123456789abcdef".repeat(2),
};

// An owner's naming: this set, for this tenant.
const naming = { tenant_id: ticket.tenant_id, version: approvers.version, hash: approversHash };
const namingDigest = sha256("break-glass naming v1", "\0", canonical(naming));

// A guest's receipts: the chain, and its head as the guest signs it.
const receiptHash = (receipt) => sha256("break-glass receipt v1\0", canonical(receipt)).toString("hex");
const receipts = [];
for (const [event, detail] of [
  ["granted", { people: ["user:1"], until: 1800001800 }],
  ["access", { scope: "workspace:read", method: "GET", route: "/v1/break-glass/files", path: "r\u00e9sum\u00e9" }],
]) {
  const before = receipts.at(-1);
  receipts.push({
    format: "break-glass receipt v1",
    runtime_id: ticket.runtime_id,
    seq: receipts.length + 1,
    previous: before ? receiptHash(before) : "0".repeat(64),
    at: 1800000001 + receipts.length,
    ticket: ticket.ticket,
    digest: sha256("break-glass approval v1", "\0", canonical(ticket)).toString("hex"),
    event,
    token: event === "access" ? "1f0c0a52-7d0a-4a3e-8d8e-000000000001" : "",
    detail,
  });
}
const guest = `${ticket.runtime_id}.runtime.internal`;
const head = `${guest}/break-glass\n2\n${Buffer.from(receiptHash(receipts[1]), "hex").toString("base64")}\n`;
const keyId = sha256(guest, "\n", Buffer.from([1]), raw).subarray(0, 4);
const line = Buffer.concat([keyId, sign(null, Buffer.from(head), key)]).toString("base64");

const vectors = {
  seed: seed.toString("hex"),
  public_key: raw.toString("hex"),
  fingerprint: sha256("device", "\0", raw).toString("hex"),
  canonical: documents.map((document) => ({ document, hex: Buffer.from(canonical(document)).toString("hex") })),
  signatures: purposes.map((purpose) => {
    const digest = sha256(purpose, "\0", canonical(documents[3]));
    return { purpose, document: documents[3], digest: digest.toString("hex"), signature: b64u(sign(null, digest, key)) };
  }),
  token: { claims, compact: `${signed}.${b64u(sign(null, Buffer.from(signed), key))}` },
  ticket: {
    document: ticket,
    digest: sha256("break-glass approval v1", "\0", canonical(ticket)).toString("hex"),
    approvers,
    approvers_hash: approversHash,
    grant: {
      document: ticket,
      request: assertion(requester, "break-glass request v1", ticket),
      approvals: [assertion(approver, "break-glass approval v1", ticket)],
      owner: null,
    },
  },
  naming: { document: naming, digest: namingDigest.toString("hex"), signature: b64u(sign(null, namingDigest, key)) },
  receipts: { receipts, hashes: receipts.map(receiptHash), head: `${head}\n\u2014 ${guest} ${line}\n` },
  certificate_mac: {
    secret: secret.toString("hex"),
    fields: fields.map((field) => field.toString("hex")),
    mac: createHmac("sha256", secret).update(message).digest("hex"),
  },
};
writeFileSync(new URL("protocol.json", import.meta.url), `${JSON.stringify(vectors, null, 1)}\n`);
