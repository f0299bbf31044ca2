// Builds the programs of test/interop/reference: `reference-ms`, and `reference-ns` with ids in nanoseconds, which the
// reference chooses when it is compiled. What was built is kept in its folder `target`.
import { spawnSync } from 'node:child_process';
import { copyFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const folder = fileURLToPath(new URL('reference/', import.meta.url));

if (spawnSync('cargo', ['--version']).status !== 0) {
  console.error('The tests beside the Rust reference need cargo 1.85 or newer (https://rustup.rs); none was found.');
  process.exit(1);
}
for (const format of ['ms', 'ns']) {
  const features = format === 'ns' ? ['--features', 'nanosecond'] : [];
  const { status } = spawnSync('cargo', ['build', '--quiet', '--locked', ...features], {
    cwd: folder,
    stdio: 'inherit',
  });
  if (status !== 0) process.exit(1);
  copyFileSync(`${folder}target/debug/reference`, `${folder}target/reference-${format}`);
}
