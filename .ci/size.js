// Compares the size of each entry point, and of the packed package, with the limits in etc/sizes.json, after `npm run build`:
//   node .ci/size.js           fails if one is over its limit
//   node .ci/size.js --write   sets each limit to 5 % above its size
// An entry point is bundled with what it imports of this package, minified and compressed; packages that an application installs itself
// do not count.
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';

const root = fileURLToPath(new URL('..', import.meta.url));
const file = join(root, 'etc', 'sizes.json');
const isWrite = process.argv.includes('--write');

/** @param {string} entryPoint */
async function bundledSize(entryPoint) {
  const { outputFiles } = await build({
    entryPoints: [join(root, entryPoint)],
    bundle: true,
    minify: true,
    platform: 'node',
    format: 'esm',
    packages: 'external',
    write: false,
    logLevel: 'error',
  });
  return gzipSync(outputFiles[0]?.contents ?? '').length;
}

const { exports } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
/** @type {Record<string, number>} */
const sizes = {};
for (const [name, conditions] of Object.entries(exports)) {
  if (name.endsWith('.json')) continue;
  sizes[name] = await bundledSize(conditions.import.default);
}
const packed = JSON.parse(
  execFileSync('npm', ['pack', '--dry-run', '--json', '--ignore-scripts'], { cwd: root, encoding: 'utf8' }),
);
// An object by name since npm 12.
sizes['packed'] = (Array.isArray(packed) ? packed[0] : Object.values(packed)[0]).size;

/** @param {number} bytes */
const kibibytes = (bytes) => Math.round(bytes / 102.4) / 10;

if (isWrite) {
  const limits = Object.fromEntries(Object.entries(sizes).map(([name, size]) => [name, kibibytes(size * 1.05)]));
  writeFileSync(file, `${JSON.stringify(limits, null, 2)}\n`);
} else {
  /** @type {Record<string, number>} */
  const limits = JSON.parse(readFileSync(file, 'utf8'));
  for (const name of new Set([...Object.keys(sizes), ...Object.keys(limits)])) {
    const [size, limit] = [kibibytes(sizes[name] ?? NaN), limits[name] ?? NaN];
    const isWithin = size <= limit;
    if (!isWithin) process.exitCode = 1;
    console.log(`${name.padEnd(18)} ${size} KiB of ${limit} KiB${isWithin ? '' : ': over its limit'}`);
  }
  if (process.exitCode) console.log("If the growth is worth it: 'node .ci/size.js --write', and say why in the commit");
}
