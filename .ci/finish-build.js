import { renameSync, writeFileSync } from 'node:fs';

// Runs after the compiler, on dist/.

writeFileSync('dist/cjs/package.json', `${JSON.stringify({ type: 'commonjs' })}\n`);

// Instrumentation for tracing replaces what `require` returns. What an ES module imports it sees only with a loader hook, which
// most applications do not have, and Node loads the ES modules of this package also in CommonJS applications, so that there is
// one copy of the classes. Therefore they take ioredis from `#ioredis`, which package.json maps by condition: Node knows
// `module-sync` and takes a file that requires ioredis. Bundlers take the import: a `require` would stay in a bundle of ES modules
// for which ioredis is external, and fail there.
const folder = 'dist/esm/redis/connection';
const names = '{ Cluster, Redis, ReplyError }';
renameSync(`${folder}/ioredis.js`, `${folder}/ioredis-imported.js`);
writeFileSync(`${folder}/ioredis.js`, `export ${names} from '#ioredis';\n`);
writeFileSync(
  `${folder}/ioredis-required.cjs`,
  // The names must be readable without running the file, for `import`.
  `'use strict';\nconst ${names} = require('ioredis');\nmodule.exports = ${names};\n`,
);
