import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import ts from 'typescript';

/** The imports of each file of a folder, by its path inside the folder, each once; imports of types alone count. */
export type ImportGraph = ReadonlyMap<string, readonly string[]>;

/** From low to high: a file may import from its own layer and from the layers before it. */
export const LAYERS = [
  'shared',
  'file',
  'redis',
  'engine',
  'opentelemetry',
  'prometheus',
  'nest',
  'testing',
  'entry',
] as const;

/** Folders that must not import each other though their layers would permit it, as `[from, to]`. */
const BORDERS: ReadonlyArray<readonly [from: string, to: string]> = [
  ['redis/', 'file/'],
  ['engine/', 'file/'],
  ['nest/', 'file/'],
  ['nest/', 'opentelemetry/'],
  ['prometheus/', 'opentelemetry/'],
  ['testing/', 'opentelemetry/'],
  ['nest/', 'prometheus/'],
  ['testing/', 'prometheus/'],
  ['engine/producing/', 'engine/consuming/'],
  ['engine/consuming/', 'engine/producing/'],
  ['engine/messages/', 'engine/producing/'],
  ['engine/messages/', 'engine/consuming/'],
  ['engine/options/', 'engine/producing/'],
  ['engine/options/', 'engine/consuming/'],
];

/** Files at the top of lib/ that every layer may import; the others there are entry points of the package. */
const SHARED = new Set(['constants.ts', 'errors.ts']);

/** The imports between the files of a folder, as paths inside the folder. */
export function importGraph(root: string): ImportGraph {
  return readImports(root, (file, specifier) =>
    specifier.startsWith('.') ? relative(root, sourceOf(resolve(dirname(join(root, file)), specifier))) : undefined,
  );
}

/** The packages that the files of a folder import, by name and without a path inside the package: `@nestjs/common`. */
export function packageImports(root: string): ImportGraph {
  return readImports(root, (_file, specifier) =>
    specifier.startsWith('.')
      ? undefined
      : specifier
          .split('/')
          .slice(0, specifier.startsWith('@') ? 2 : 1)
          .join('/'),
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
  return importsWhere(graph, (from, to) => LAYERS.indexOf(layerOf(to)) > LAYERS.indexOf(layerOf(from)));
}

/** Every import across one of {@link BORDERS}, as `from -> to`. */
export function crossedBorders(graph: ImportGraph): string[] {
  return importsWhere(graph, (from, to) =>
    BORDERS.some(([folder, other]) => from.startsWith(folder) && to.startsWith(other)),
  );
}

/** The file and all that it imports, directly or through other files. */
export function reachableFrom(graph: ImportGraph, file: string): string[] {
  const reached = new Set([file]);
  for (const each of reached) for (const next of graph.get(each) ?? []) reached.add(next);
  return [...reached];
}

/** The files that import a file. */
export function importersOf(graph: ImportGraph, file: string): string[] {
  return [...graph.keys()].filter((from) => graph.get(from)?.includes(file));
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

/** A file as it is imported, by its name in the sources. */
function sourceOf(file: string): string {
  const names = ['.ts', '.tsx'].map((extension) => file.replace(/\.js$/, extension));
  return names.find((name) => existsSync(name)) ?? file;
}

function importsWhere(graph: ImportGraph, matches: (from: string, to: string) => boolean): string[] {
  return [...graph].flatMap(([from, imports]) =>
    imports.filter((to) => matches(from, to)).map((to) => `${from} -> ${to}`),
  );
}

function readImports(root: string, name: (file: string, specifier: string) => string | undefined): ImportGraph {
  const files = readdirSync(root, { recursive: true, encoding: 'utf8' }).filter((file) => file.match(/\.tsx?$/));
  return new Map(
    files.map((file) => {
      const { importedFiles } = ts.preProcessFile(readFileSync(join(root, file), 'utf8'));
      const names = importedFiles.map(({ fileName }) => name(file, fileName)).filter((each) => each !== undefined);
      return [file, [...new Set(names)]] as const;
    }),
  );
}
