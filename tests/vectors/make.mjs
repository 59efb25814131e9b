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
  "break-glass rejection v1", "break-glass owner approval v1", "break-glass terms v1", "break-glass session v1"];

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
  certificate_mac: {
    secret: secret.toString("hex"),
    fields: fields.map((field) => field.toString("hex")),
    mac: createHmac("sha256", secret).update(message).digest("hex"),
  },
};
writeFileSync(new URL("protocol.json", import.meta.url), `${JSON.stringify(vectors, null, 1)}\n`);
