// Runs the module that it is given: every check, then the fixed batches. Exits with 1 if one failed.
import fs from 'node:fs';

let memory;
const print = (text, bytes) => console.log(Buffer.from(memory.buffer, text, bytes).toString());
const { instance } = await WebAssembly.instantiate(fs.readFileSync(process.argv[2]), { host: { print } });
const { start, checks, name, check, batches } = instance.exports;
memory = instance.exports.memory;

start();
let failed = 0;
for (let i = 0; i < checks(); i++) {
    const before = performance.now();
    name(i);
    // A panic ends the module's calls but not the module.
    let passed = false;
    try { passed = check(i) !== 0; } catch (trap) { console.log(String(trap)); }
    failed += passed ? 0 : 1;
    console.log(`    ${passed ? 'ok' : 'FAILED'}, ${((performance.now() - before) / 1000).toFixed(1)} s`);
}
console.log(`${checks() - failed} checks passed, ${failed} failed`);
const wrong = batches();
console.log(`${wrong} batches failed`);
process.exitCode = failed + wrong === 0 ? 0 : 1;
