// Reads with h5wasm, the C library as WebAssembly: FILE SPARSE STRINGS DATASET... The mount is its file system.
import { createHash } from "node:crypto";

const { default: h5wasm } = await import(`${process.cwd()}/node_modules/h5wasm/dist/node/hdf5_hl.js`);
await h5wasm.ready;
const sha256 = (data) => createHash("sha256").update(data).digest("hex");

const [path, large, texts, ...names] = process.argv.slice(2);
const file = new h5wasm.File(path, "r");
const out = { datasets: {}, attributes: {}, sparse: [] };
for (const name of names) {
    const { buffer, byteOffset, byteLength } = file.get(name).value;
    out.datasets[name] = sha256(new Uint8Array(buffer, byteOffset, byteLength));
}
for (const at of ["/", "/img"]) {
    const node = at === "/" ? file : file.get(at);
    const of = (name) => node.attrs[name].value;
    out.attributes[at] = { text: of("text"), long: of("long"), int: Number(of("int")),
        float: Number(of("float")), ints: Array.from(of("ints"), Number) };
}
const sparse = new h5wasm.File(large, "r").get("sparse");
for (const at of [0, 63999]) {
    out.sparse.push(sparse.slice([[at, at + 1], [at, at + 1], [at, at + 1]])[0]);
}
out.strings = new h5wasm.File(texts, "r").get("words").value;
console.log(JSON.stringify(out));
