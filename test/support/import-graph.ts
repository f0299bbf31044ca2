import { readFileSync, readdirSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import ts from 'typescript';

/** The imports of each file, as paths inside the folder; type-only imports count. */
export type ImportGraph = ReadonlyMap<string, readonly string[]>;

/** From low to high: a file may import from its own layer and from the layers before it. */
export const LAYERS = ['shared', 'redis', 'engine', 'nest', 'testing', 'entry'] as const;

/** Files at the top of lib/ that every layer may import; the other files there are entry points of the package. */
const SHARED = new Set(['constants.ts', 'errors.ts']);

/** Reads the imports between the files of a folder; imports of packages are left out. */
export function importGraph(root: string): ImportGraph {
  const files = readdirSync(root, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.ts'));
  return new Map(
    files.map((name) => {
      const file = join(root, name);
      const { importedFiles } = ts.preProcessFile(readFileSync(file, 'utf8'));
      const own = importedFiles.map(({ fileName }) => fileName).filter((specifier) => specifier.startsWith('.'));
      return [
        name,
        own.map((specifier) => relative(root, resolve(dirname(file), specifier.replace(/\.js$/, '.ts')))),
      ] as const;
    }),
  );
}

export function layerOf(file: string): (typeof LAYERS)[number] {
  const folder = file.includes('/') ? file.slice(0, file.indexOf('/')) : undefined;
  if (folder === undefined) return SHARED.has(file) ? 'shared' : 'entry';
  const layer = LAYERS.find((name) => name === folder);
  if (!layer) throw new Error(`lib/${folder} is in no layer; give it one in LAYERS`);
  return layer;
}

/** Every import that goes upwards, as `from -> to`. */
export function upwardImports(graph: ImportGraph): string[] {
  return [...graph].flatMap(([from, imports]) =>
    imports.filter((to) => LAYERS.indexOf(layerOf(to)) > LAYERS.indexOf(layerOf(from))).map((to) => `${from} -> ${to}`),
  );
}

/** One cycle for each file that closes one, as `a -> b -> a`. */
export function importCycles(graph: ImportGraph): string[] {
  const cycles: string[] = [];
  const finished = new Set<string>();
  const visit = (file: string, path: readonly string[]): void => {
    const start = path.indexOf(file);
    if (start !== -1) {
      cycles.push([...path.slice(start), file].join(' -> '));
      return;
    }
    if (finished.has(file)) return;
    for (const next of graph.get(file) ?? []) visit(next, [...path, file]);
    finished.add(file);
  };
  for (const file of graph.keys()) visit(file, []);
  return cycles;
}
