// Bundles the pages of web/ into dist/web: index.html, and files that have a hash in their name.
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';

const root = fileURLToPath(new URL('.', import.meta.url));
const outdir = `${root}dist/web`;
rmSync(outdir, { recursive: true, force: true });

const { metafile } = await build({
  absWorkingDir: root,
  entryPoints: [
    { in: 'web/main.tsx', out: 'app' },
    { in: 'web/favicon.svg', out: 'favicon' },
  ],
  outdir,
  entryNames: '[name]-[hash]',
  loader: { '.svg': 'copy' },
  bundle: true,
  minify: true,
  // Not a module: it runs before the page is drawn, so that the page has the chosen theme from the first frame.
  format: 'iife',
  target: 'es2022',
  jsx: 'automatic',
  jsxImportSource: 'preact',
  legalComments: 'none',
  metafile: true,
});

const files = Object.keys(metafile.outputs).map((path) => basename(path));
const page = readFileSync(`${root}web/index.html`, 'utf8').replaceAll(/assets\/(\w+)\.(\w+)/g, (_, name, extension) => {
  const file = files.find((file) => file.startsWith(`${name}-`) && file.endsWith(`.${extension}`));
  if (file === undefined) throw new Error(`index.html names ${name}.${extension}, which was not built`);
  return `assets/${file}`;
});
writeFileSync(`${outdir}/index.html`, page);

// The licences of what is in the bundle ask to be shipped with it.
const folders = Object.keys(metafile.inputs).flatMap(
  (path) => /^.*node_modules\/(?:@[^/]+\/)?[^/]+/.exec(path)?.[0] ?? [],
);
const licences = [...new Set(folders)].map(
  (folder) => `${basename(folder)}\n\n${readFileSync(`${root}${folder}/LICENSE`, 'utf8')}`,
);
writeFileSync(`${root}dist/licences-of-web.txt`, licences.join('\n\n'));

const compressed = files.map((file) => gzipSync(readFileSync(`${outdir}/${file}`)).length);
const total = compressed.reduce((sum, bytes) => sum + bytes, 0);
console.log(`dist/web: ${files.length + 1} files, ${(total / 1024).toFixed(1)} KiB compressed`);
