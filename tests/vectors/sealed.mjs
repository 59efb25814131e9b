// Makes sealed.json with libsodium's JavaScript build, which browsers run, and no code of the project:
// `npm install --prefix DIR libsodium-wrappers && node tests/vectors/sealed.mjs DIR/node_modules/libsodium-wrappers`.
// A sealed box has a fresh key of its own inside, so each run makes other ones. All of them must open.
import { createHash } from "node:crypto";
import { writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { resolve } from "node:path";

const sodium = createRequire(import.meta.url)(resolve(process.argv[2]));
await sodium.ready;
const hex = (data) => Buffer.from(data).toString("hex");
const pair = sodium.crypto_box_seed_keypair(Uint8Array.from({ length: 32 }, (_, i) => 100 + i));
const values = ["", "ghp_0123456789abcdefABCDEF", "\u00e9\u{1F511}\n", "x".repeat(1000)];

const vectors = {
  private_key: hex(pair.privateKey),
  public_key: hex(pair.publicKey),
  key_id: createHash("sha256").update(pair.publicKey).digest("hex").slice(0, 16),
  boxes: values.map((value) => ({
    value,
    sealed: Buffer.from(sodium.crypto_box_seal(value, pair.publicKey)).toString("base64"),
  })),
};
writeFileSync(new URL("sealed.json", import.meta.url), `${JSON.stringify(vectors, null, 1)}\n`);
