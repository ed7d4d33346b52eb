// Reads with jsfive, in JavaScript alone: FILE STRINGS DATASET... It takes whole files into memory.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const require = createRequire(process.cwd() + "/");
const jsfive = require("jsfive");
const sha256 = (data) => createHash("sha256").update(data).digest("hex");

const [path, strings, ...names] = process.argv.slice(2);
const open = (path) => {
    const data = readFileSync(path);
    return new jsfive.File(data.buffer.slice(data.byteOffset, data.byteOffset + data.length));
};
const file = open(path);
const kinds = { "<u1": Uint8Array, "<u2": Uint16Array, "<i2": Int16Array, "<i4": Int32Array,
    "<f4": Float32Array, "<f8": Float64Array };
const out = { datasets: {}, attributes: {} };
for (const name of names) {
    const dataset = file.get(name);
    const kind = kinds[dataset.dtype];
    if (!kind) throw new Error(`${name}: ${dataset.dtype}`);
    out.datasets[name] = sha256(new Uint8Array(kind.from(dataset.value).buffer));
}
for (const at of ["/", "/img"]) {
    const { text, long, int, float, ints } = file.get(at).attrs;
    out.attributes[at] = { text, long, int: Number(int), float: Number(float), ints: Array.from(ints, Number) };
}
out.strings = Array.from(open(strings).get("words").value);
console.log(JSON.stringify(out));
