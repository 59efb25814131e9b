// Makes log.json with Node's own crypto and no code of the project: `node tests/vectors/log.mjs`.
// The tree follows the recursive definitions of RFC 9162 §2.1; notes, checkpoints, tiles and proofs follow C2SP.
import { createHash, createPrivateKey, createPublicKey, sign } from "node:crypto";
import { writeFileSync } from "node:fs";

const PKCS8_ED25519 = Buffer.from("302e020100300506032b657004220420", "hex");
const sha256 = (...parts) => parts.reduce((hash, part) => hash.update(part), createHash("sha256")).digest();
const leafHash = (data) => sha256(Buffer.from([0]), data);
const nodeHash = (left, right) => sha256(Buffer.from([1]), left, right);
const split = (n) => { let k = 1; while (k * 2 < n) k *= 2; return k; };

function mth(leaves) {
  if (leaves.length === 0) return sha256(Buffer.alloc(0));
  if (leaves.length === 1) return leaves[0];
  const k = split(leaves.length);
  return nodeHash(mth(leaves.slice(0, k)), mth(leaves.slice(k)));
}
function path(m, leaves) {
  if (leaves.length === 1) return [];
  const k = split(leaves.length);
  return m < k ? [...path(m, leaves.slice(0, k)), mth(leaves.slice(k))]
    : [...path(m - k, leaves.slice(k)), mth(leaves.slice(0, k))];
}
function subproof(m, leaves, whole) {
  if (m === leaves.length) return whole ? [] : [mth(leaves)];
  const k = split(leaves.length);
  return m <= k ? [...subproof(m, leaves.slice(0, k), whole), mth(leaves.slice(k))]
    : [...subproof(m - k, leaves.slice(k), false), mth(leaves.slice(0, k))];
}

const keyOf = (byte) => createPrivateKey({
  key: Buffer.concat([PKCS8_ED25519, Buffer.alloc(32, byte)]), format: "der", type: "pkcs8" });
const rawOf = (key) => createPublicKey(key).export({ format: "der", type: "spki" }).subarray(-32);
const keyId = (name, algorithm, raw) => sha256(name, "\n", Buffer.from([algorithm]), raw).subarray(0, 4);
const vkey = (name, algorithm, raw) => `${name}+${keyId(name, algorithm, raw).toString("hex")}+` +
  Buffer.concat([Buffer.from([algorithm]), raw]).toString("base64");
const line = (name, algorithm, key, blob) =>
  `\u2014 ${name} ${Buffer.concat([keyId(name, algorithm, rawOf(key)), blob]).toString("base64")}\n`;

const entries = Array.from({ length: 300 }, (_, i) => Buffer.from(`{"n":${i}}`));
const leaves = entries.map(leafHash);
const hex = (list) => list.map((one) => one.toString("hex"));
const base64 = (list) => list.map((one) => `${one.toString("base64")}\n`).join("");

const origin = "portal.test/log/é", witness = "witness.test/w1", time = 1800000000;
const logKey = keyOf(7), witnessKey = keyOf(9);
const text = (size) => `${origin}\n${size}\n${mth(leaves.slice(0, size)).toString("base64")}\n`;
const noteOf = (size) => `${text(size)}\n${line(origin, 1, logKey, sign(null, Buffer.from(text(size)), logKey))}`;
const stamp = Buffer.alloc(8);
stamp.writeBigUInt64BE(BigInt(time));
const cosignature = line(witness, 4, witnessKey, Buffer.concat([
  stamp, sign(null, Buffer.from(`cosignature/v1\ntime ${time}\n${text(300)}`), witnessKey)]));
const bundle = (list) => Buffer.concat(list.flatMap((entry) => {
  const length = Buffer.alloc(2); length.writeUInt16BE(entry.length); return [length, entry]; }));

const salt = Buffer.alloc(32, 3), datum = { kind: "address", value: "2001:db8::1 é" };
const vectors = {
  entries: 300,
  roots: Array.from({ length: 20 }, (_, size) => mth(leaves.slice(0, size)).toString("hex")),
  inclusion: [[0, 1], [0, 2], [4, 5], [6, 11], [255, 256], [256, 300], [17, 300], [299, 300]].map(
    ([index, size]) => ({ index, size, proof: hex(path(index, leaves.slice(0, size))) })),
  consistency: [[1, 1], [1, 2], [4, 8], [6, 11], [7, 19], [256, 300], [257, 300], [299, 300]].map(
    ([old, size]) => ({ old, size, proof: hex(subproof(old, leaves.slice(0, size), true)) })),
  log: { seed: Buffer.alloc(32, 7).toString("hex"), origin, vkey: vkey(origin, 1, rawOf(logKey)) },
  witness: { seed: Buffer.alloc(32, 9).toString("hex"), name: witness, vkey: vkey(witness, 4, rawOf(witnessKey)) },
  note: noteOf(300),
  cosignature: { time, line: cosignature },
  request: `old 257\n${base64(subproof(257, leaves, true))}\n${noteOf(300)}`,
  proof: `c2sp.org/tlog-proof@v1\nindex 17\n${base64(path(17, leaves))}\n${noteOf(300)}${cosignature}`,
  bundle: { first: 256, data: bundle(entries.slice(256)).toString("hex") },
  tiles: { "0/0/256": sha256(Buffer.concat(leaves.slice(0, 256))).toString("hex"),
    "0/1/44": sha256(Buffer.concat(leaves.slice(256))).toString("hex"),
    "1/0/1": sha256(mth(leaves.slice(0, 256))).toString("hex") },
  commitment: { salt: salt.toString("hex"), ...datum,
    commitment: sha256("portal personal v1\0", salt, JSON.stringify(datum)).toString("hex") },
};
writeFileSync(new URL("log.json", import.meta.url), `${JSON.stringify(vectors, null, 1)}\n`);
